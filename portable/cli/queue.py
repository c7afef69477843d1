"""`portable queue`: send to a queue or subscription, and look at what is in it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, assignments, command, group, read_input

if TYPE_CHECKING:
    from portable.queue import Message, Queue

__all__ = ["chosen", "queue"]

queue = group("queue", "Look inside a queue or subscription.")

_dead = click.option("--dead-letters", "dead", is_flag=True, help="The queue's dead letters instead.")


def chosen(cloud: Any, name: str, *, type: Any = None) -> Any:
    """Give the queue or subscription of a name; either is looked at in the same way.

    Args:
        cloud: of either face.
        name: its name.
        type: what bodies are decoded to, or None for bytes.
    """
    kind = cloud._profile.declared().get(name)  # noqa: SLF001 (a cloud is asked for a resource by its kind)
    return cloud.subscription(name, type=type) if kind == "subscription" else cloud.queue(name, type=type)


@contextlib.contextmanager
def _opened(call: Call, name: str, *, dead: bool = False) -> Iterator[Queue[Any]]:
    """Open the queue or subscription of that name, or its dead letters."""
    with call.cloud() as cloud:
        found: Queue[Any] = chosen(cloud, name)
        yield found.dead_letters if dead else found


@command(queue, "send", example="portable queue send jobs 'thumbnail cat.jpg' --attribute size=small")
@click.argument("name")
@click.argument("body")
@assignments("--attribute", "-a", "attributes", help="An attribute of the message; may be repeated.")
@click.option("--delay", type=float, default=0.0, help="Seconds before it can be received.")
@click.option("--ordering-key", help="The key within which messages keep their order.")
@click.option("--dedup-id", help="A repeat of it within five minutes is dropped.")
def send(
    call: Call,
    name: str,
    body: str,
    attributes: dict[str, str],
    delay: float,
    ordering_key: str | None,
    dedup_id: str | None,
) -> None:
    """Send BODY, or with - what stdin holds, as one message; print its id."""
    with _opened(call, name) as found:
        sent = found.send(
            read_input(body), attributes=attributes, delay=delay, ordering_key=ordering_key, dedup_id=dedup_id
        )
        call.show({"id": sent}, sent)


@command(queue, "receive", example="portable queue receive jobs --max 10 --ack --json")
@click.argument("name")
@click.option("--max", "count", type=click.IntRange(min=1), default=1, show_default=True, help="At most so many.")
@click.option("--wait", type=float, default=1.0, show_default=True, help="Seconds to wait for the first.")
@click.option("--ack", is_flag=True, help="Remove what was shown; without it every message is given back.")
@_dead
def receive(call: Call, name: str, count: int, wait: float, ack: bool, dead: bool) -> None:
    """Receive messages and show them. Without --ack they are given back, which counts as a delivery of each."""
    with _opened(call, name, dead=dead) as found:
        for message in _received(found, count, wait, ack=ack):
            _show(call, message)
            # What was removed must have been seen.
            sys.stdout.flush()


@command(queue, "peek", example="portable queue peek jobs --max 10")
@click.argument("name")
@click.option("--max", "count", type=click.IntRange(min=1), default=1, show_default=True, help="At most so many.")
@_dead
def peek(call: Call, name: str, count: int, dead: bool) -> None:
    """Show messages that could be received, and leave them."""
    with _opened(call, name, dead=dead) as found:
        for message in found.peek(count):
            _show(call, message)


@command(queue, "stats", example="portable queue stats jobs --json")
@click.argument("name")
def stats(call: Call, name: str) -> None:
    """Count the messages; approximate, and - where the backend cannot say."""
    with _opened(call, name) as found:
        counted = found.stats()
    counts = {name: getattr(counted, name) for name in ("ready", "leased", "delayed", "dead")}
    call.show(counts)
    if not call.as_json:
        for state, number in counts.items():
            click.echo(f"{state:<8} {'-' if number is None else number}")


@command(queue, "redrive", example="portable queue redrive jobs --max 100")
@click.argument("name")
@click.option("--max", "count", type=click.IntRange(min=1), help="At most so many.  [default: all]")
def redrive(call: Call, name: str, count: int | None) -> None:
    """Send the dead letters to the queue again, as they were; print how many."""
    from portable.cli.output import working

    with _opened(call, name) as found, working("redriving dead letters"):
        moved = found.redrive(count)
    call.show({"moved": moved}, str(moved))


@command(queue, "purge", example="portable queue purge jobs --yes")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_dead
def purge(call: Call, name: str, yes: bool, dead: bool) -> None:
    """Remove every message, the leased and delayed ones included."""
    from portable.cli.output import working

    with _opened(call, name, dead=dead) as found:
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("nobody can be asked here; give --yes to remove every message")
            click.confirm(f"Remove every message of {found.name} ({found.url})?", abort=True, err=True)
        with working("removing every message"):
            found.purge()
    call.show({"purged": name}, f"purged {name}")


def _received(found: Queue[Any], count: int, wait: float, *, ack: bool) -> Iterator[Message[Any]]:
    """Give messages, and settle them: those that were shown as asked, the others back to the queue."""
    held: list[Message[Any]] = []
    shown = 0
    try:
        while len(held) < count:
            messages = found.receive(count - len(held), wait=wait if not held else 0.0)
            if not messages:
                break
            held += messages
            for message in messages:
                yield message
                shown += 1
                if ack:
                    message.ack()
    finally:
        # The first one last: a queue in order, or nearly so, then shows it first again.
        for message in reversed(held[shown:] if ack else held):
            message.nack()


def _show(call: Call, message: Message[Any]) -> None:
    from portable.cli.output import printable, text_or_base64

    if call.as_json:
        structure: dict[str, Any] = {
            "id": message.id,
            **text_or_base64("body", message.body),
            "attributes": message.attributes,
            "ordering_key": message.ordering_key,
            "delivery_count": message.delivery_count,
            "sent_at": message.sent_at,
        }
        if message.dead_reason is not None:
            structure |= {"dead_reason": message.dead_reason, "original_id": message.original_id}
        call.show(structure)
        return
    facts = [message.id, message.sent_at.isoformat(timespec="seconds"), f"delivery {message.delivery_count}"]
    if message.ordering_key is not None:
        facts.append(f"key {message.ordering_key}")
    facts += [f"{name}={value}" for name, value in message.attributes.items()]
    if message.dead_reason is not None:
        facts.append(f"dead: {message.dead_reason}")
    click.echo(printable("  ".join(facts)))
    click.echo(message.body)
