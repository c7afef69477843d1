"""Pub/Sub on Google's emulator, against google-cloud-pubsub: its batch publisher, and its streaming pull."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import portable
from benchmarks import vendor
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from benchmarks.servers import serving

__all__ = ["measure"]

MANY = 10_000
AT_ONCE = 10
"""Handlers, which is also how many threads the SDK has for them."""


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server; each side has topics and subscriptions of its own, made alike."""
    from google.cloud import pubsub_v1  # type: ignore[attr-defined]  # of several packages

    with serving("pubsub-emulator", folder) as url:
        options = vendor.options_of(url)
        # These clients know no other way to an emulator.
        with mock.patch.dict(os.environ, {"PUBSUB_EMULATOR_HOST": urlsplit(options["endpoint"]).netloc}):
            publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        project = f"projects/{options['project']}"
        yield from _publishing(plan, url, publisher, project)
        yield from _consuming(plan, url, subscriber, project)
        subscriber.close()


def _publishing(plan: Plan, url: str, publisher: Any, project: str) -> Iterator[Figure]:
    with portable.open_topic(url, name="news", create="if_missing") as ours:
        ours.publish(vendor.BODY)
        # Nobody subscribes: only what publishing costs is measured.
        topic = f"{project}/topics/news"

        def publish_one() -> None:
            publisher.api.publish(topic=topic, messages=[{"data": vendor.BODY}])

        def publish_many(count: int) -> None:
            found = [publisher.publish(topic, vendor.BODY) for _ in range(count)]
            assert all(one.result() for one in found)

        yield from vendor.side_by_side(
            plan, "pubsub", "google-cloud-pubsub", {"publish": (lambda: ours.publish(vendor.BODY), publish_one)}
        )
        contenders = {
            "portable": Contender(lambda count: ours.publish_many([vendor.BODY] * count), calls=MANY),
            "google-cloud-pubsub": Contender(publish_many, calls=MANY),
        }
        samples = interleave(contenders, rounds=plan.size(7, 2), seconds=0)
        yield from compare(samples, "pubsub: publish 10,000, time", clock="wall")
        yield from compare(samples, "pubsub: publish 10,000, CPU", clock="cpu")
        yield from vendor.together(
            plan,
            "pubsub: publish 1,000",
            lambda count: ours.publish_many([vendor.BODY] * count),
            lambda: ours.publish(vendor.BODY),
        )


class _Worker:
    """Counts what its handlers have done.

    Two workers run all the time, for the emulator sends a stream that finds messages waiting no more than 200 of them.
    """

    def __init__(self, queue: portable.Queue[bytes]) -> None:
        self._queue = queue
        self._left = 0
        self._counting = threading.Lock()
        self._done = threading.Event()

    def handle(self, body: bytes) -> None:
        """Handle a message."""
        assert body == vendor.BODY
        with self._counting:
            self._left -= 1
            if self._left == 0:
                self._done.set()

    def work(self, count: int) -> None:
        """Send so many messages, and wait until they are handled."""
        self._done.clear()
        self._left = count
        self._queue.send_many([vendor.BODY] * count)
        assert self._done.wait(120), f"{self._left} of {count} did not come"


def _consuming(plan: Plan, url: str, subscriber: Any, project: str) -> Iterator[Figure]:
    count = plan.size(5_000, 500)
    with (
        portable.open_queue(url, name="ours", create="if_missing") as ours,
        portable.open_queue(url, name="theirs", create="if_missing") as made,
    ):
        # Made before anybody subscribes.
        made.stats()
        made.purge()
        mine, other = _Worker(ours), _Worker(made)

        def handled(message: Any) -> None:
            other.handle(message.data)
            message.ack()

        stop = threading.Event()
        streaming = subscriber.subscribe(f"{project}/subscriptions/theirs", handled)
        consuming = threading.Thread(
            target=lambda: ours.consume(lambda one: mine.handle(one.body), concurrency=AT_ONCE, stop=stop)
        )
        consuming.start()
        contenders = {
            "portable": Contender(mine.work, calls=count),
            "streaming pull": Contender(other.work, calls=count),
        }
        for one in contenders.values():
            one.run(1)
        samples = interleave(contenders, rounds=plan.size(7, 2), seconds=0)
        yield from compare(samples, "pubsub: send and consume, time", clock="wall")
        yield from compare(samples, "pubsub: send and consume, CPU", clock="cpu")
        streaming.cancel()
        streaming.result()
        stop.set()
        consuming.join()
