"""Kinesis whose shards split and merge under readers, that refuses single records, and whose answers are lost."""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from portable import aio, open_collection, open_stream
from portable.collection import Collection
from portable.errors import LeaseLost, PortableError, Throttled
from portable.records import START, NewRecord, Position, Record
from portable.stream import Stream
from tests.targets import target

PATIENCE = 60.0
KEYS = 40


@pytest.fixture
def name() -> str:
    return f"f{os.getpid()}-{time.monotonic_ns():x}"


@pytest.fixture
def positions(name: str) -> Iterator[Collection[Any]]:
    with open_collection(f"memory:{name}", name="positions") as collection:
        yield collection


def opened(name: str, url: str | None = None, **how: Any) -> Stream[bytes]:
    return open_stream(
        url or target("kinesalite"), name=name, create="if_missing", **{"partitions": 2, "timeout": PATIENCE, **how}
    )


class Resharding:
    """Splits and merges the shards of a stream."""

    def __init__(self, stream: Stream[bytes], name: str) -> None:
        self._client: Any = stream.native
        self._name = name

    def open_shards(self) -> list[dict[str, Any]]:
        """Wait until nobody changes the stream; give the shards that take records, in the order of their ranges."""
        deadline = time.monotonic() + PATIENCE
        while True:
            summary = self._client.describe_stream_summary(StreamName=self._name)["StreamDescriptionSummary"]
            if summary["StreamStatus"] == "ACTIVE":
                break
            assert time.monotonic() < deadline
        shards = self._client.list_shards(StreamName=self._name)["Shards"]
        found = [one for one in shards if "EndingSequenceNumber" not in one["SequenceNumberRange"]]
        return sorted(found, key=lambda one: int(one["HashKeyRange"]["StartingHashKey"]))

    def split(self) -> None:
        """Split the first shard in the middle."""
        shard = self.open_shards()[0]
        start, end = (int(shard["HashKeyRange"][f"{which}HashKey"]) for which in ("Starting", "Ending"))
        self._client.split_shard(
            StreamName=self._name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str((start + end) // 2)
        )
        self.open_shards()

    def merge(self) -> None:
        """Merge the last two shards."""
        first, second = self.open_shards()[-2:]
        self._client.merge_shards(
            StreamName=self._name, ShardToMerge=first["ShardId"], AdjacentShardToMerge=second["ShardId"]
        )
        self.open_shards()


class Seen:
    """What readers were given, by key, in the order in which they were given it first."""

    def __init__(self) -> None:
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.count = 0
        self._known: set[bytes] = set()
        self._lock = threading.Lock()

    def add(self, records: list[Record[bytes]]) -> None:
        with self._lock:
            for one in records:
                if one.data not in self._known:
                    self._known.add(one.data)
                    self.numbers[str(one.key)].append(int(one.data.split(b":")[1]))
                    self.count += 1


def rounds(count: int, start: int = 0) -> list[NewRecord]:
    """Give so many records of every key."""
    return [
        NewRecord(f"key-{key}:{number}".encode(), f"key-{key}")
        for number in range(start, start + count)
        for key in range(KEYS)
    ]


@pytest.mark.parametrize("readers", [1, 3])
def test_shards_that_split_and_merge_under_readers_lose_and_reorder_nothing(
    name: str, positions: Collection[Any], readers: int
) -> None:
    per_round, turns = 10, 6
    total = per_round * turns * KEYS
    seen, done = Seen(), threading.Event()

    def read() -> None:
        with opened(name) as stream, stream.consumer("group", checkpoint=positions) as consumer:
            while not done.is_set():
                records = consumer.poll(timeout=0.2, max_records=50)
                seen.add(records)
                # On a machine that stands still a lease may end; what was not committed comes again.
                with contextlib.suppress(LeaseLost):
                    consumer.commit()
                if seen.count >= total:
                    done.set()

    with opened(name) as stream, ThreadPoolExecutor(readers) as pool:
        stream.check()
        resharding = Resharding(stream, name)
        futures = [pool.submit(read) for _ in range(readers)]
        try:
            for turn in range(turns):
                stream.append_many(rounds(per_round, turn * per_round))
                resharding.merge() if turn % 3 == 2 else resharding.split()
            assert done.wait(PATIENCE), f"{seen.count} of {total} records came"
        finally:
            done.set()
        for future in futures:
            future.result(PATIENCE)
        # Six times, for whoever reads without a group: parents come before what continues them.
        assert len(stream.partitions()) == 2 + 4 * 2 + 2
        alone = Seen()
        for shard in stream.partitions():
            after: Any = START
            while records := stream.read(shard, after=after):
                alone.add(records)
                after = records[-1].position
    expected = {f"key-{key}": list(range(per_round * turns)) for key in range(KEYS)}
    assert seen.numbers == expected
    assert alone.numbers == expected


def test_a_group_that_was_away_finds_its_way_from_the_shards_that_ended(name: str, positions: Collection[Any]) -> None:
    seen = Seen()
    with opened(name) as stream:
        stream.append_many(rounds(3))
        with stream.consumer("group", checkpoint=positions) as consumer:
            seen.add(consumer.poll(timeout=PATIENCE, max_records=30))
            consumer.commit()
        resharding = Resharding(stream, name)
        resharding.split()
        stream.append_many(rounds(3, 3))
        resharding.split()
        resharding.merge()
        stream.append_many(rounds(3, 6))
    with opened(name) as stream, stream.consumer("group", checkpoint=positions) as consumer:
        while seen.count < 9 * KEYS:
            records = consumer.poll(timeout=PATIENCE, max_records=25)
            assert records
            seen.add(records)
            consumer.commit()
        assert consumer.poll(timeout=0) == []
    assert seen.numbers == {f"key-{key}": list(range(9)) for key in range(KEYS)}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_shards_that_split_under_an_async_reader(name: str) -> None:
    seen = Seen()
    with opened(name, partitions=1) as stream:
        stream.append_many(rounds(2))
        resharding = Resharding(stream, name)
        async with (
            aio.open_stream(target("kinesalite"), name=name) as same,
            aio.open_collection(f"memory:{name}", name="positions") as positions,
            await same.consumer("group", checkpoint=positions) as consumer,
        ):
            while seen.count < 2 * KEYS:
                seen.add(await consumer.poll(timeout=PATIENCE, max_records=30))
                await consumer.commit()
            resharding.split()
            stream.append_many(rounds(2, 2))
            while seen.count < 4 * KEYS:
                records = await consumer.poll(timeout=PATIENCE, max_records=30)
                assert records
                seen.add(records)
                await consumer.commit()
    assert seen.numbers == {f"key-{key}": list(range(4)) for key in range(KEYS)}


def test_a_shard_that_is_not_kept_any_more_gives_way_to_what_continues_it(name: str) -> None:
    # ministack forgets a shard, and what is in it, as soon as it ends; Kinesis does when its last record is too old.
    with opened(name, target("ministack", "stream"), partitions=1) as stream:
        stream.append_many([b"1", b"2"])
        (gone,) = stream.partitions()
        with stream.consumer("group") as consumer:
            assert len(consumer.poll(timeout=PATIENCE, max_records=1)) == 1
            consumer.commit()
            Resharding(stream, name).split()
            stream.append_many([b"3", b"4", b"5"])
            found: list[bytes] = []
            while len(found) < 3:
                records = consumer.poll(timeout=PATIENCE)
                assert records
                assert gone not in {one.partition for one in records}
                found += [one.data for one in records]
                consumer.commit()
            assert sorted(found) == [b"3", b"4", b"5"]


# Faults of the service, by a server between it and us.

Fault = Callable[[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]], dict[str, Any] | None]
"""Gives the answer to a call, which it may pass on; None to end the connection without any."""


class Between:
    """Passes calls on to a server of Kinesis, but for those that a fault sees to.

    Attributes:
        faults: by the name of the operation.
        calls: how many came, by the name of the operation.
    """

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        self.calls: dict[str, int] = defaultdict(int)
        parts = urlsplit(target("kinesalite"))
        self._query = parse_qs(parts.query)
        self._upstream = str(urlsplit(self._query["endpoint"][0]).netloc)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        query = {name: values[0] for name, values in self._query.items()}
        query["endpoint"] = f"http://127.0.0.1:{self._server.server_address[1]}"
        return "kinesis://?" + "&".join(f"{name}={value}" for name, value in query.items())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, bytes] | None:
        operation = headers["X-Amz-Target"].rpartition(".")[2]
        self.calls[operation] += 1
        fault = self.faults.get(operation)
        if fault is None:
            return self._passed(headers, body)
        try:
            answer = fault(body, lambda changed: dict(json.loads(self._passed(headers, changed)[1])))
        except Refusal as refusal:
            return 400, json.dumps({"__type": refusal.args[0], "message": "on purpose"}).encode()
        return None if answer is None else (200, json.dumps(answer).encode())

    def _passed(self, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._upstream, timeout=PATIENCE)
        try:
            kept = {name: value for name, value in headers.items() if name.lower() not in {"content-length", "host"}}
            connection.request("POST", "/", json.dumps(body), kept)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Refusal(Exception):  # noqa: N818 (no error of the test)
    """The service answers with this code."""


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, between: Between, *args: Any) -> None:
        self._between = between
        super().__init__(*args)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        found = self._between.answer(dict(self.headers.items()), body)
        self.close_connection = True
        if found is None:
            return
        status, text = found
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def between() -> Iterator[Between]:
    with Between() as server:
        yield server


def refusing(every: int, times: int) -> Fault:
    """Refuse every so-manieth record, so many times in all."""
    numbers, left = itertools.count(), [times]

    def fault(body: dict[str, Any], passed: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        kept: list[Any] = []
        for one in body["Records"]:
            if left[0] > 0 and next(numbers) % every == 0:
                left[0] -= 1
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "on purpose"})
            else:
                kept.append(one)
                answers.append({})
        taken = iter(passed({**body, "Records": kept})["Records"] if kept else ())
        answers = [answer or next(taken) for answer in answers]
        return {"FailedRecordCount": len(answers) - len(kept), "Records": answers}

    return fault


def test_records_that_are_refused_are_put_again_in_order(name: str, between: Between) -> None:
    with opened(name, between.url, retries=20) as stream:
        stream.check()
        between.faults["PutRecords"] = refusing(every=7, times=40)
        result = stream.append_many(rounds(5))
        assert result.failed == {}
        assert between.calls["PutRecords"] > 5
        seen = Seen()
        found = [one for shard in stream.partitions() for one in stream.read(shard)]
        assert len(found) == 5 * KEYS
        assert {one.position for one in found} == set(result.succeeded)
        seen.add(found)
        assert seen.numbers == {f"key-{key}": list(range(5)) for key in range(KEYS)}


def test_throttling_that_does_not_end_is_told(name: str, between: Between) -> None:
    with opened(name, between.url, retries=1) as stream:
        stream.check()
        between.faults["PutRecords"] = refusing(every=1, times=10**9)
        with pytest.raises(Throttled) as caught:
            stream.append(b"data", key="k")
        assert not caught.value.maybe_applied
        assert between.calls["PutRecords"] == 2

        def throttled(body: dict[str, Any], passed: Any) -> None:
            raise Refusal("ProvisionedThroughputExceededException")

        between.faults["PutRecords"] = throttled
        with pytest.raises(Throttled) as caught:
            stream.append(b"data", key="k")
        assert not caught.value.maybe_applied
        between.faults.clear()
        assert [one for shard in stream.partitions() for one in stream.read(shard)] == []


def test_a_put_whose_answer_is_lost_is_not_repeated(name: str, between: Between) -> None:
    with opened(name, between.url, retries=5) as stream:
        stream.check()

        def lost(body: dict[str, Any], passed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
            passed(body)

        between.faults["PutRecords"] = lost
        with pytest.raises(PortableError) as caught:
            stream.append(b"data", key="k")
        assert caught.value.maybe_applied
        assert between.calls["PutRecords"] == 1
        between.faults.clear()
        assert [one.data for shard in stream.partitions() for one in stream.read(shard)] == [b"data"]


def test_an_iterator_that_the_service_forgot_is_found_again(name: str, between: Between) -> None:
    with opened(name, between.url, partitions=1) as stream:
        written = [stream.append(str(number), key="k") for number in range(4)]
        (shard,) = stream.partitions()
        assert [one.position for one in stream.read(shard, limit=2)] == written[:2]
        forgotten = [True]

        def expired(body: dict[str, Any], passed: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
            if forgotten:
                forgotten.pop()
                raise Refusal("ExpiredIteratorException")
            return passed(body)

        between.faults["GetRecords"] = expired
        assert [one.position for one in stream.read(shard, after=written[1])] == written[2:]
        assert isinstance(written[0], Position)
        assert not forgotten
