# Generated from portable/testing/aio/bucket_objects.py by tools/generate_sync.py; change that file, not this one.
"""Cases of buckets: writing, reading and deleting objects."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zlib import crc32

import pytest

from portable._concurrency import gather, sleep
from portable.errors import (
    AlreadyExists,
    BatchError,
    Closed,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    Unsupported,
)
from portable.testing._concurrency import race
from portable.testing.bucket_cases import HOSTILE_KEYS, HOSTILE_TEXTS, BucketCases
from portable.testing.suite import lacks

__all__ = ["BucketObjectCases"]

HEADERS = {
    "content_type": "text/html; charset=utf-8",
    "cache_control": "public, max-age=60",
    "content_disposition": "attachment; filename*=UTF-8''%C3%A9.txt",
    "content_encoding": "gzip",
    "content_language": "de-CH",
}


class BucketObjectCases(BucketCases):
    """Writing, reading and deleting objects."""

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda: b"bytes", id="bytes"),
            pytest.param(lambda: bytearray(b"bytes"), id="bytearray"),
            pytest.param(lambda: memoryview(b"-bytes-")[1:6], id="memoryview"),
            pytest.param(lambda: memoryview(b"b.y.t.e.s.")[::2], id="strided"),
            pytest.param(lambda: io.BytesIO(b"bytes"), id="file"),
            pytest.param(lambda: [b"by", bytearray(b"te"), b"", memoryview(b"s")], id="list"),
            pytest.param(lambda: (bytes([byte]) for byte in b"bytes"), id="generator"),
        ],
    )
    def test_what_is_put_comes_back(self, make: Any) -> None:
        bucket = self.open()
        info = bucket.put("key", make())
        assert info.size == 5
        assert bucket.get("key") == b"bytes"

    @pytest.mark.parametrize(
        "make", [str, lambda: "text", lambda: 5, lambda: None, lambda: ["text"], lambda: io.StringIO("text")]
    )
    def test_what_is_not_bytes_is_refused(self, make: Any) -> None:
        bucket = self.open()
        with pytest.raises(InvalidArgument):
            bucket.put("key", make())
        assert not bucket.exists("key")

    def test_an_object_is_described(self) -> None:
        bucket = self.open()
        before = datetime.now(UTC)
        info = bucket.put("a/key", b"12345", content_type="text/plain", metadata={"a": "b"})
        assert (info.key, info.size) == ("a/key", 5)
        assert info.etag
        # Clocks of two machines differ.
        assert abs(info.modified - before) < timedelta(hours=1)
        assert info.modified.utcoffset() == timedelta(0)
        head = bucket.head("a/key")
        assert (head.key, head.size, head.etag) == (info.key, info.size, info.etag)
        assert head.metadata == {"a": "b"}
        listed = [(item.key, item.size, item.etag) for item in bucket.list()]
        assert listed == [(info.key, info.size, info.etag)]

    @pytest.mark.parametrize("size", [0, 1])
    def test_small_objects_come_back(self, size: int) -> None:
        bucket = self.open()
        for data in (b"x" * size, [b"x" * size], io.BytesIO(b"x" * size)):
            assert (bucket.put("key", data)).size == size
            assert bucket.get("key") == b"x" * size

    def test_an_object_of_100_mib_comes_back(self) -> None:
        bucket = self.open()
        piece = bytes(range(256)) * 4096
        crc = 0

        def pieces() -> Iterator[bytes]:
            nonlocal crc
            for number in range(100):
                data = number.to_bytes(4, "big") + piece[4:]
                crc = crc32(data, crc)
                yield data

        info = bucket.put("large", pieces(), metadata={"a": "b"}, timeout=100)
        assert info.size == 100 * len(piece)
        read = 0
        with bucket.open("large") as reader:
            assert reader.info.metadata == {"a": "b"}
            while data := reader.read(len(piece)):
                read = crc32(data, read)
        assert read == crc
        assert bucket.get("large", offset=50 * len(piece) - 2, length=6) == piece[-2:] + b"\x00\x00\x00\x32"

    def test_hostile_keys_are_keys_of_their_own(self) -> None:
        bucket = self.open()
        bucket.put_many((key, key.encode()) for key in HOSTILE_KEYS)
        assert bucket.get_many(HOSTILE_KEYS) == [key.encode() for key in HOSTILE_KEYS]
        assert self.keys(bucket) == sorted(HOSTILE_KEYS, key=str.encode)
        gone, kept = HOSTILE_KEYS[::2], HOSTILE_KEYS[1::2]
        bucket.delete_many(gone)
        assert bucket.get_many(kept) == [key.encode() for key in kept]
        assert self.keys(bucket) == sorted(kept, key=str.encode)
        bucket.delete_many(kept)
        assert self.keys(bucket) == []

    @pytest.mark.parametrize("key", ["", "a" * 1025, "é" * 513, "a\ud800b", b"bytes", None], ids=ascii)
    def test_what_is_no_key_is_refused(self, key: Any) -> None:
        bucket = self.open()
        calls = [
            partial(bucket.put, key, b""),
            partial(bucket.get, key),
            partial(bucket.head, key),
            partial(bucket.exists, key),
            partial(bucket.delete, key),
            partial(bucket.delete_many, [key]),
            partial(bucket.get_many, [key]),
            partial(bucket.open, key),
            partial(bucket.open, key, "wb"),
            partial(bucket.copy, key, "a"),
        ]
        for call in calls:
            with pytest.raises(InvalidArgument):
                call()

    def test_metadata_comes_back(self) -> None:
        bucket = self.open()
        metadata = {f"name-{number}": text for number, text in enumerate(HOSTILE_TEXTS)}
        bucket.put("key", b"", metadata=metadata)
        assert (bucket.head("key")).metadata == metadata

    def test_names_of_metadata_are_lower_case(self) -> None:
        bucket = self.open()
        names = ["Upper", "with-dash", "with_underscore", "with.dot", "with space", "9", "é", "日本", "a:b", "%41"]
        info = bucket.put("key", b"", metadata=dict.fromkeys(names, "Value"))
        expected = dict.fromkeys(map(str.lower, names), "Value")
        assert info.metadata == expected
        assert (bucket.head("key")).metadata == expected
        for bad in ({"Name": "1", "name": "2"}, {"": "1"}, {"a": "\ud800"}, {"a": 1}, {1: "a"}):
            with pytest.raises(InvalidArgument):
                bucket.put("key", b"", metadata=bad)

    def test_headers_come_back(self) -> None:
        bucket = self.open()
        bucket.put("key", b"bytes", **HEADERS)
        head = bucket.head("key")
        assert {name: getattr(head, name) for name in HEADERS} == HEADERS
        # Nothing is encoded or decoded on the way.
        assert bucket.get("key") == b"bytes"
        for name in HEADERS:
            for bad in ("a\nb", "é", "\x00", 5):
                with pytest.raises(InvalidArgument):
                    bucket.put("key", b"", **{name: bad})

    def test_an_overwritten_object_keeps_nothing(self) -> None:
        bucket = self.open()
        bucket.put("key", b"long content", metadata={"a": "b"}, **HEADERS)
        bucket.put("key", b"short")
        head = bucket.head("key")
        assert bucket.get("key") == b"short"
        assert head.metadata == {}
        assert head.cache_control is None

    @pytest.mark.parametrize("size", [0, 1, 10])
    def test_ranges_at_every_edge(self, size: int) -> None:
        bucket = self.open()
        data = bytes(range(size))
        bucket.put("key", data)
        for offset in range(size + 3):
            assert bucket.get("key", offset=offset) == data[offset:]
            for length in range(size + 3):
                assert bucket.get("key", offset=offset, length=length) == data[offset : offset + length]
        for bad in ({"offset": -1}, {"length": -1}):
            with pytest.raises(InvalidArgument):
                bucket.get("key", **bad)

    def test_what_is_missing_is_not_found(self) -> None:
        bucket = self.open()
        bucket.put("a/b", b"")
        for key in ("missing", "a", "a/", "a/b/c", "a/b/"):
            assert not bucket.exists(key)
            for call in (bucket.get, bucket.head, bucket.open, partial(bucket.get, offset=0, length=0)):
                with pytest.raises(NotFound) as caught:
                    call(key)
                assert caught.value.resource == bucket.name
            bucket.delete(key)
        assert bucket.exists("a/b")

    def test_reading_listing_and_deleting_are_consistent(self) -> None:
        bucket, other = self.open(), self.open()
        for number in range(10):
            bucket.put("key", b"%d" % number)
            assert other.get("key") == b"%d" % number
            assert self.keys(other) == ["key"]
            bucket.delete("key")
            assert not other.exists("key")
            assert self.keys(other) == []

    def test_if_absent_writes_only_where_nothing_is(self) -> None:
        bucket = self.open()
        bucket.put("key", b"first", if_absent=True)
        with pytest.raises(AlreadyExists):
            bucket.put("key", b"second", if_absent=True)
        with pytest.raises(AlreadyExists):
            bucket.put("key", [b"second"], if_absent=True)
        assert bucket.get("key") == b"first"
        bucket.delete("key")
        bucket.put("key", b"third", if_absent=True)
        assert bucket.get("key") == b"third"

    def test_if_match_writes_only_over_that_version(self) -> None:
        bucket = self.open()
        first = bucket.put("key", b"first")
        second = bucket.put("key", b"second", if_match=first.etag)
        for stale in (first.etag, "no-such-etag", ""):
            with pytest.raises(PreconditionFailed):
                bucket.put("key", b"third", if_match=stale)
        assert (bucket.head("key")).etag == second.etag
        with pytest.raises(PreconditionFailed):
            bucket.put("missing", b"", if_match=second.etag)
        assert not bucket.exists("missing")
        with pytest.raises(InvalidArgument):
            bucket.put("key", b"", if_match=second.etag, if_absent=True)

    def test_delete_with_if_match_deletes_only_that_version(self) -> None:
        bucket = self.open()
        first = bucket.put("key", b"first")
        second = bucket.put("key", b"second")
        with pytest.raises(PreconditionFailed):
            bucket.delete("key", if_match=first.etag)
        assert bucket.get("key") == b"second"
        bucket.delete("key", if_match=second.etag)
        assert not bucket.exists("key")
        with pytest.raises(PreconditionFailed):
            bucket.delete("key", if_match=second.etag)

    def test_the_etag_changes_with_every_change_of_content(self) -> None:
        bucket = self.open()
        etags = [(bucket.put("key", b"%02d" % number)).etag for number in range(20)]
        assert len(set(etags)) == 20

    def test_of_twenty_that_write_if_absent_one_wins(self) -> None:
        handles = [self.open() for _ in range(4)]
        answers = race(
            partial(handles[number % 4].put, "a/key", b"%d" % number, if_absent=True) for number in range(20)
        )
        won = [number for number, answer in enumerate(answers) if not isinstance(answer, BaseException)]
        assert len(won) == 1, answers
        assert all(isinstance(answer, AlreadyExists) for number, answer in enumerate(answers) if number not in won)
        assert handles[0].get("a/key") == b"%d" % won[0]

    def test_of_twenty_that_write_if_match_one_wins(self) -> None:
        handles = [self.open() for _ in range(4)]
        etag = (handles[0].put("key", b"first")).etag
        answers = race(partial(handles[number % 4].put, "key", b"%d" % number, if_match=etag) for number in range(20))
        won = [number for number, answer in enumerate(answers) if not isinstance(answer, BaseException)]
        assert len(won) == 1, answers
        assert all(isinstance(answer, PreconditionFailed) for number, answer in enumerate(answers) if number not in won)
        assert handles[0].get("key") == b"%d" % won[0]

    def test_a_reader_sees_the_old_or_the_new_object_never_a_mix(self) -> None:
        bucket = self.open()
        size = 300_000

        writing = [1, 2, 3, 4]

        def write(number: int) -> None:
            try:
                for _ in range(4):
                    bucket.put("key", bytes([number]) * size, metadata={"number": str(number)})
                    sleep(0)
            finally:
                writing.pop()

        def read() -> None:
            while writing:
                sleep(0)
                assert len(set(bucket.get("key"))) == 1
                try:
                    with bucket.open("key") as reader:
                        data = reader.read()
                except PreconditionFailed:
                    continue
                assert data == bytes([int(reader.info.metadata["number"])]) * size

        bucket.put("key", bytes(size), metadata={"number": "0"})
        calls: list[Any] = [*(partial(write, number) for number in writing), *[read] * 4]
        answers: list[Any] = race(calls)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []

    def test_objects_and_those_below_them_come_and_go_side_by_side(self) -> None:
        bucket = self.open()
        keys = ["a", "a/b", "a/b/c", "a/", "a//"]

        def work(key: str) -> None:
            for _ in range(6):
                bucket.put(key, key.encode())
                assert bucket.get(key) == key.encode()
                bucket.delete(key)
                assert not bucket.exists(key)
            bucket.put(key, key.encode())

        answers = race(partial(work, key) for key in keys)
        assert [answer for answer in answers if isinstance(answer, BaseException)] == []
        assert self.keys(bucket) == sorted(keys)

    @pytest.mark.parametrize("old", [None, b"old"], ids=["new", "old"])
    def test_a_put_that_breaks_off_writes_nothing(self, old: bytes | None) -> None:
        bucket = self.open()
        if old is not None:
            bucket.put("a/key", old)
        size = bucket.capabilities.part_bytes * (bucket.capabilities.part_concurrency + 1)

        def breaking() -> Iterator[bytes]:
            yield b"x" * size
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            bucket.put("a/key", breaking(), timeout=100)
        assert self.keys(bucket) == ([] if old is None else ["a/key"])
        if old is not None:
            assert bucket.get("a/key") == old

    def test_many_objects_come_back_in_order(self) -> None:
        bucket = self.open()
        pairs = [(f"{number:03d}", b"%d" % number) for number in range(150)]
        infos = bucket.put_many(iter(pairs), concurrency=8)
        assert [info.key for info in infos] == [key for key, _ in pairs]
        assert bucket.get_many([key for key, _ in reversed(pairs)]) == [data for _, data in reversed(pairs)]
        result = bucket.delete_many(key for key, _ in pairs)
        assert result.results == [None] * 150
        assert self.keys(bucket) == []
        assert bucket.put_many([]) == []
        assert bucket.get_many([]) == []
        assert (bucket.delete_many([])).results == []

    def test_a_batch_says_which_failed(self) -> None:
        bucket = self.open()
        with pytest.raises(BatchError) as caught:
            bucket.put_many([("a", b"1"), ("", b"2"), ("c", "text"), ("d", b"4")])
        assert set(caught.value.result.failed) == {1, 2}
        assert all(isinstance(error, InvalidArgument) for error in caught.value.result.failed.values())
        assert self.keys(bucket) == ["a", "d"]
        with pytest.raises(BatchError) as caught:
            bucket.get_many(["a", "missing", "d"])
        assert caught.value.result.results[0] == b"1"
        assert isinstance(caught.value.result.failed[1], NotFound)
        for bad in (0, -1):
            with pytest.raises(InvalidArgument):
                bucket.get_many(["a"], concurrency=bad)

    def test_many_writers_of_many_keys_lose_nothing(self) -> None:
        bucket = self.open()

        def write(number: int) -> None:
            bucket.put(f"{number % 7}/{number}", b"%d" % number)

        gather([partial(write, number) for number in range(70)], concurrency=10, host=bucket._host)
        assert len(self.keys(bucket)) == 70

    @lacks("sign")
    def test_what_cannot_sign_says_so(self) -> None:
        bucket = self.open()
        with pytest.raises(Unsupported):
            bucket.sign("key")

    def test_a_closed_bucket_says_so(self) -> None:
        bucket = self.open()
        bucket.put("key", b"")
        bucket.close()
        bucket.close()
        with pytest.raises(Closed):
            bucket.get("key")
        assert self.open().exists("key")

    def test_check_finds_nothing_wrong(self) -> None:
        bucket = self.open()
        bucket.put("key", b"")
        bucket.check()
        bucket.check(write=True)
        assert self.keys(bucket) == ["key"]
