"""Reading on kafka-python: by offset, or as a member of a group."""

from __future__ import annotations

import contextlib
import functools
import importlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from portable_kafka.engine import Made, Place, Rebalancing
from portable_kafka.errors import PASSING, REBALANCING, UNKNOWN_TOPIC
from portable_kafka.kafka_python_faults import (
    OVERHEAD,
    TopicPartition,
    answered,
    built,
    code_of,
    errors,
    kafka,
    places_of,
    translated,
    translating,
    with_offsets,
)
from portable_kafka.options import Connection

__all__ = ["PythonConsumer"]

T = TypeVar("T")

# The type checkers know those of another release.
_subscriptions: Any = importlib.import_module("kafka.consumer.subscription_state")
_assignors: Any = importlib.import_module("kafka.coordinator.assignors.cooperative_sticky")
_states: Any = importlib.import_module("kafka.coordinator.base").MemberState
Future: Any = importlib.import_module("kafka.future").Future

JOINING = 0.25
"""Seconds that a poll may take while the group comes together."""


class _Listener(_subscriptions.AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """Has what a rebalance means done by the thread that polls, while the library's own goes on."""

    def __init__(self, told: Callable[[Callable[[], None]], Any], **what: Callable[[list[Place]], None]) -> None:
        self._told = told
        self._what = what

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Tell of partitions that came."""
        await self._told(functools.partial(self._what["assigned"], places_of(assigned)))

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Tell of partitions that have to go."""
        await self._told(functools.partial(self._what["revoked"], places_of(revoked)))

    async def on_partitions_lost(self, lost: Any) -> None:
        """Tell of partitions that are gone."""
        await self._told(functools.partial(self._what["lost"], places_of(lost)))


async def _settle(done: Any) -> None:
    done.success(None)


class PythonConsumer:
    """Satisfies `portable_kafka.engine.Consumer`. The library's serves one thread at a time, and so does this."""

    def __init__(self, config: dict[str, Any], where: Connection, group: str | None) -> None:
        more: dict[str, Any] = {
            "group_id": group,
            "metrics_enabled": False,
            "metadata_max_age_ms": 10_000,
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest" if group else "none",
            "allow_auto_create_topics": False,
            "max_partition_fetch_bytes": max(1_048_576, where.max_message_bytes + OVERHEAD),
            # Whoever reads by position wants to know soon that there is no more.
            "fetch_max_wait_ms": 500 if group else 50,
        }
        if group:
            more |= {
                "partition_assignment_strategy": (_assignors.CooperativeStickyAssignor,),
                "session_timeout_ms": int(where.session_timeout * 1000),
                "heartbeat_interval_ms": max(100, int(where.session_timeout * 1000 / 10)),
                "max_poll_interval_ms": int(where.max_poll_interval * 1000),
            }
        self._consumer = built(lambda: kafka.KafkaConsumer(**config, **more))
        self._lock = threading.RLock()
        # The library runs a rebalance in its own thread, which must not wait for leases to end.
        self._library = ThreadPoolExecutor(1, thread_name_prefix="portable-kafka-poll") if group else None
        self._wanted: queue.SimpleQueue[tuple[Callable[[], None], Any] | None] = queue.SimpleQueue()
        self._ends: dict[Place, int] = {}
        # What was said to be the end of a partition already.
        self._said: dict[Place, tuple[int, int]] = {}
        self._astray: set[Place] = set()

    def assign(self, places: Mapping[Place, int]) -> None:
        """Read exactly these partitions."""
        with self._lock, translating():
            self._ends, self._said, self._astray = {}, {}, set()
            if not places:
                self._consumer.unsubscribe()
                return
            self._consumer.assign([TopicPartition(*place) for place in places])
            for place, offset in places.items():
                self._consumer.seek(TopicPartition(*place), offset)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        assigned: Callable[[list[Place]], None],
        revoked: Callable[[list[Place]], None],
        lost: Callable[[list[Place]], None],
    ) -> None:
        """Share partitions with the group."""
        with self._lock, translating():
            for topic in topics:
                # Who leads the group shares out what it knows of, and what it learns later it may not look at again.
                self._consumer.partitions_for_topic(topic)
            listener = _Listener(self._told, assigned=assigned, revoked=revoked, lost=lost)
            self._consumer.subscribe(list(topics), listener=listener)

    def poll(self, count: int, timeout: float, make: Made[T]) -> list[T]:
        """Give messages; wait for the first only."""
        made: list[T] = []
        with self._lock:
            if self._goes_on_joining():
                timeout = max(timeout, JOINING)
            try:
                found = self._run(
                    functools.partial(self._consumer.poll, timeout_ms=int(timeout * 1000), max_records=count)
                )
            except (errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError):
                self._astray |= set(places_of(self._consumer.assignment()))
                return made
            except (errors.KafkaError, OSError) as error:
                if code_of(error) in PASSING | UNKNOWN_TOPIC:
                    return made
                raise translated(error) from error
            for (topic, partition), records in found.items():
                made += [
                    make(topic, partition, one.offset, one.timestamp, one.key, one.value, list(one.headers) or None)
                    for one in records
                ]
            self._look_for_ends()
        return made

    def ends(self) -> dict[Place, int]:
        """Give, once, the partitions that were read to their end."""
        ends, self._ends = self._ends, {}
        return ends

    def astray(self) -> set[Place]:
        """Give, once, the partitions whose offset is out of range."""
        astray, self._astray = self._astray, set()
        return astray

    def seek(self, place: Place, offset: int) -> None:
        """Go on at an offset."""
        with self._lock:
            try:
                self._consumer.seek(TopicPartition(*place), offset)
            except (errors.KafkaError, AssertionError) as error:
                raise translated(error) from error

    def pause(self, places: Sequence[Place]) -> None:
        """Fetch nothing of partitions for now."""
        with self._lock, translating():
            self._consumer.pause(*(TopicPartition(*place) for place in places))

    def resume(self, places: Sequence[Place]) -> None:
        """Fetch from partitions again."""
        with self._lock, translating():
            self._consumer.resume(*(TopicPartition(*place) for place in places))

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        """Keep offsets for the group."""
        try:
            with self._lock:
                self._consumer.commit(with_offsets(offsets), timeout_ms=int(timeout * 1000))
        except (errors.KafkaError, OSError) as error:
            if code_of(error) in REBALANCING:
                raise Rebalancing(f"the group comes together anew: {error}") from error
            raise translated(error) from error

    def committed(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, str]]:
        """Give what the group has kept."""

        def question() -> dict[Place, tuple[int, str]]:
            found = {}
            for place in places:
                with self._lock:
                    kept = self._consumer.committed(
                        TopicPartition(*place), metadata=True, timeout_ms=int(timeout * 1000)
                    )
                if kept is not None and kept.offset >= 0:
                    found[place] = (kept.offset, kept.metadata or "")
            return found

        return answered(question, timeout)

    def edge(self, place: Place, *, timeout: float) -> tuple[int, int]:
        """Give first and next offset."""
        one = TopicPartition(*place)

        def question() -> tuple[int, int]:
            with self._lock:
                first = self._consumer.beginning_offsets([one], timeout_ms=int(timeout * 1000))[one]
                return first, self._consumer.end_offsets([one], timeout_ms=int(timeout * 1000))[one]

        return answered(question, timeout)

    def moments(self, places: Mapping[Place, int], *, timeout: float) -> dict[Place, int | None]:
        """Give the first offset at or after a moment."""

        def question() -> dict[Place, int | None]:
            with self._lock:
                asked = {TopicPartition(*place): moment for place, moment in places.items()}
                found = self._consumer.offsets_for_times(asked, timeout_ms=int(timeout * 1000))
            return {
                (one.topic, one.partition): None if at is None or at.offset < 0 else at.offset
                for one, at in found.items()
            }

        return answered(question, timeout)

    def identity(self) -> Any:
        """What a transaction needs to know of this member."""
        return self._consumer.group_metadata()

    def close(self) -> None:
        """Leave the group and drop the connections."""
        with self._lock, contextlib.suppress(errors.KafkaError, OSError):
            self._run(functools.partial(self._consumer.close, autocommit=False, timeout_ms=2000))
        if self._library is not None:
            self._library.shutdown()

    def _goes_on_joining(self) -> bool:
        """Whether it takes part in a rebalance.

        The library joins anew where it learns of partitions, and looks at what came of it only if it still has a reason
        to join: a poll that ended meanwhile would leave it joining for good, and without a sign of life.
        """
        joining = self._library is not None and self._consumer.group_metadata().state == _states.REBALANCING
        if joining:
            self._consumer._coordinator.request_rejoin()  # noqa: SLF001 (no other way)
        return joining

    def _run(self, call: Callable[[], T]) -> T:
        """Call the library in another thread, and serve in this one what it wants done of a rebalance."""
        if self._library is None:
            return call()
        running = self._library.submit(call)
        running.add_done_callback(lambda _: self._wanted.put(None))
        failure: BaseException | None = None
        while (wanted := self._wanted.get()) is not None:
            work, done = wanted
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (it belongs to whoever polls)
                failure = error
            # The library's futures are its own thread's.
            self._consumer._net.call_soon_threadsafe(functools.partial(_settle, done))  # noqa: SLF001 (no other way)
        result = running.result()
        if failure is not None:
            raise failure
        return result

    def _told(self, work: Callable[[], None]) -> Any:
        done = Future()
        self._wanted.put((work, done))
        return done

    def _look_for_ends(self) -> None:
        for one in self._consumer.assignment():
            high = self._consumer.highwater(one)
            if high is None:
                continue
            place = (one.topic, one.partition)
            with contextlib.suppress(errors.KafkaError, AssertionError):
                at = self._consumer.position(one, timeout_ms=0)
                if at is not None and at >= high and self._said.get(place) != (at, high):
                    self._said[place] = (at, high)
                    self._ends[place] = at
