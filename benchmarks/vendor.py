"""What the groups of the cloud vendors' services share: a call of ours against the SDK's own doing the same work.

Server and network are the same for both, and the server is an emulator, on the same processors, which may take most of
the time of a call: so the processor's time of the client, all its threads together, is set side by side, too.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import portable
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from portable.documents import Put

__all__ = ["BODY", "DOCUMENT", "boto", "collection", "options_of", "queue", "sending", "side_by_side", "together"]

BODY = b"x" * 200
TEXT = BODY.decode()
DOCUMENT: dict[str, Any] = {
    "id": "document",
    "title": "The old man and the sea",
    "year": 1952,
    "tags": ["novel", "sea"],
    "text": "x" * 200,
}

BATCH = 1_000
TURN = 0.1


def options_of(url: str) -> dict[str, str]:
    """Give the options of a URL."""
    return dict(parse_qsl(urlsplit(url).query))


def boto(service: str, url: str) -> Any:
    """Give boto3's client of a service."""
    import boto3

    options = options_of(url)
    return boto3.client(
        service,
        endpoint_url=options["endpoint"],
        region_name=options["region"],
        aws_access_key_id=options["access_key_id"],
        aws_secret_access_key=options["secret_access_key"],
    )


def _repeated(call: Callable[[], object]) -> Contender:
    def run(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            call()

    return Contender(run)


def side_by_side(
    plan: Plan, group: str, sdk: str, calls: Mapping[str, tuple[Callable[[], object], Callable[[], object]]]
) -> Iterator[Figure]:
    """Measure calls one after the other, ours and the SDK's.

    Args:
        plan: how much.
        group: what the figures' names begin with.
        sdk: the SDK's name.
        calls: by what they do, ours and that of the SDK.
    """
    for what, (ours, theirs) in calls.items():
        contenders = {"portable": _repeated(ours), sdk: _repeated(theirs)}
        # Many short turns, because others use the machine, too, and the server takes most of the time.
        samples = interleave(contenders, rounds=plan.size(60, 3), seconds=plan.slice(TURN))
        yield from compare(samples, f"{group}: {what}, time", clock="wall")
        yield from compare(samples, f"{group}: {what}, CPU", clock="cpu")


def together(
    plan: Plan,
    prefix: str,
    many: Callable[[int], object],
    one: Callable[[], object],
    prepare: Callable[[int], object] | None = None,
) -> Iterator[Figure]:
    """Measure many in one call of ours against as many one at a time, of which a part is enough to know.

    Args:
        plan: how much.
        prefix: what the figures' names begin with.
        many: takes so many in one call.
        one: takes one.
        prepare: makes ready for so many.
    """
    contenders = {
        "portable": Contender(many, prepare, calls=BATCH),
        "one at a time": Contender(_repeated(one).run, prepare, calls=BATCH // plan.size(5, 50)),
    }
    samples = interleave(contenders, rounds=plan.size(7, 2), seconds=0)
    yield from compare(samples, prefix, clock="wall")


def queue(
    plan: Plan,
    group: str,
    sdk: str,
    url: str,
    theirs: Callable[[str], tuple[Callable[[], object], Callable[[], object]]],
) -> Iterator[Figure]:
    """Measure a queue; each side has its own, made alike.

    Args:
        plan: how much.
        group: what the figures' names begin with.
        sdk: the SDK's name.
        url: of the server.
        theirs: gives, for the name of a queue, how the SDK sends `TEXT` to it, and how it receives one, reads all that
            ours reads, and removes it.
    """
    with (
        portable.open_queue(url, name="ours", create="if_missing") as ours,
        portable.open_queue(url, name="theirs", create="if_missing") as made,
        portable.open_queue(url, name="sent", create="if_missing") as sent,
    ):
        made.send(BODY)
        sent.send(BODY)
        send, receive = theirs("theirs")
        send_alone, _ = theirs("sent")

        def through_ours() -> None:
            ours.send(BODY)
            (message,) = ours.receive(wait=5)
            assert message.body == BODY
            message.ack()

        def through_theirs() -> None:
            send()
            receive()

        calls = {
            "send, receive and ack": (through_ours, through_theirs),
            "send": (lambda: sent.send(BODY), send_alone),
        }
        yield from side_by_side(plan, group, sdk, calls)
        yield from sending(plan, group, sent)


def sending(plan: Plan, group: str, queue: portable.Queue[bytes]) -> Iterator[Figure]:
    """Measure a large batch that is sent to a queue."""

    def send_many(count: int) -> None:
        queue.send_many([BODY] * count)

    def clear(_: int) -> None:
        # An emulator grows slow with what it holds in memory.
        if queue.capabilities.purge:
            queue.purge()

    yield from together(plan, f"{group}: send 1,000", send_many, lambda: queue.send(BODY), clear)


def collection(
    plan: Plan,
    group: str,
    sdk: str,
    url: str,
    theirs: Callable[[Any], tuple[Callable[[], str], Callable[[str], object]]],
) -> Iterator[Figure]:
    """Measure a collection; the SDK reads the item that ours has written, and writes it as it is.

    Args:
        plan: how much.
        group: what the figures' names begin with.
        sdk: the SDK's name.
        url: of the server.
        theirs: gives, for our collection with `DOCUMENT` in it, how the SDK reads that document's JSON, and how it
            writes it.
    """
    with portable.open_collection(url, name="books", create="if_missing") as books:
        books.put(DOCUMENT)
        read, write = theirs(books)

        def get() -> None:
            assert books.get("document").data == DOCUMENT

        def get_theirs() -> None:
            assert json.loads(read()) == DOCUMENT

        calls = {
            "get": (get, get_theirs),
            "put": (lambda: books.put(DOCUMENT), lambda: write(json.dumps(DOCUMENT))),
        }
        yield from side_by_side(plan, group, sdk, calls)

        def put_many(count: int) -> None:
            books.write_many([Put({**DOCUMENT, "id": str(number)}) for number in range(count)])

        yield from together(plan, f"{group}: put 1,000", put_many, lambda: books.put(DOCUMENT))
