# Generated from portable/testing/aio/bucket_files.py by tools/generate_sync.py; change that file, not this one.
"""Cases of buckets: objects as files, local files, and copies."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from portable.errors import AlreadyExists, InvalidArgument, NotFound, PortableError, PreconditionFailed
from portable.testing.bucket_cases import BucketCases
from portable.testing.suite import needs

__all__ = ["BucketFileCases"]

LINES = [b"first\n", b"\n", b"x" * 700_000 + b"\n", b"last without an end"]


class BucketFileCases(BucketCases):
    """Objects as files, local files, and copies."""

    def test_a_reader_reads_like_a_file(self) -> None:
        bucket = self.open()
        data = b"".join(LINES)
        info = bucket.put("key", data, content_type="text/plain")
        with bucket.open("key") as reader:
            assert reader.info.etag == info.etag
            assert reader.info.content_type == "text/plain"
            assert reader.readable()
            assert reader.seekable()
            assert not reader.writable()
            assert reader.read(3) == data[:3]
            assert reader.read(0) == b""
            assert reader.tell() == 3
            assert reader.read() == data[3:]
            assert reader.read(5) == b""
            assert reader.read() == b""
            assert reader.seek(-4, io.SEEK_END) == len(data) - 4
            assert reader.read(100) == data[-4:]
            assert reader.seek(500_000) == 500_000
            assert reader.seek(10, io.SEEK_CUR) == 500_010
            assert reader.read(300_000) == data[500_010:800_010]
            reader.seek(len(data) + 10)
            assert reader.read(1) == b""
            reader.seek(0)
            buffer = bytearray(10)
            assert reader.readinto(buffer) == 10
            assert buffer == data[:10]
            with pytest.raises(InvalidArgument):
                reader.seek(-1)
        assert reader.closed
        with pytest.raises(ValueError, match="closed"):
            reader.read()

    def test_a_reader_gives_lines(self) -> None:
        bucket = self.open()
        bucket.put("key", b"".join(LINES))
        with bucket.open("key", "rb") as reader:
            assert [bytes(line) for line in reader] == LINES
            reader.seek(0)
            assert reader.readline() == LINES[0]
            assert reader.readlines() == LINES[1:]
            reader.seek(0)
            assert reader.readline(3) == LINES[0][:3]

    def test_a_reader_stays_with_its_version(self) -> None:
        bucket = self.open()
        for change in (partial(bucket.put, "key", b"n" * 2_000_000), partial(bucket.delete, "key")):
            bucket.put("key", b"o" * 2_000_000)
            with bucket.open("key") as reader:
                assert reader.read(10) == b"o" * 10
                change()
                try:
                    rest = reader.read()
                except PreconditionFailed:
                    continue
                # A backend may still have the old version, but no other.
                assert rest == b"o" * 1_999_990

    def test_a_writer_commits_when_it_is_closed(self) -> None:
        bucket = self.open()
        with bucket.open("key", "wb", content_type="text/plain", metadata={"A": "b"}) as writer:
            assert writer.writable()
            assert writer.write(b"one ") == 4
            writer.writelines([b"two ", bytearray(b"three")])
            writer.flush()
            assert writer.tell() == 13
            assert not bucket.exists("key")
        assert writer.closed
        assert writer.info is not None
        assert writer.info.etag == (bucket.head("key")).etag
        assert bucket.get("key") == b"one two three"
        assert (bucket.head("key")).metadata == {"a": "b"}
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"")
        writer.close()

    def test_a_large_writer_commits_whole(self) -> None:
        bucket = self.open()
        piece = bytes(range(256)) * 1000
        pieces = bucket.capabilities.part_bytes * (bucket.capabilities.part_concurrency + 1) // len(piece) + 1
        with bucket.open("key", "wb", timeout=100) as writer:
            for _ in range(pieces):
                writer.write(piece)
            assert self.keys(bucket) == []
        assert (bucket.head("key")).size == pieces * len(piece)
        assert bucket.get("key", timeout=100) == piece * pieces

    def _break_off(self, writer: Any, data: bytes) -> None:
        with writer:
            writer.write(data)
            raise ZeroDivisionError

    @pytest.mark.parametrize("parts", [0, 1], ids=["small", "large"])
    def test_a_writer_aborts_on_an_exception(self, parts: int) -> None:
        bucket = self.open()
        bucket.put("old", b"old")
        size = 10 + parts * bucket.capabilities.part_bytes * (bucket.capabilities.part_concurrency + 1)
        for key in ("old", "a/new"):
            writer = bucket.open(key, "wb", timeout=100)
            with pytest.raises(ZeroDivisionError):
                self._break_off(writer, b"x" * size)
            assert writer.closed
            assert writer.info is None
        assert self.keys(bucket) == ["old"]
        assert bucket.get("old") == b"old"

    def test_a_writer_keeps_to_its_conditions(self) -> None:
        bucket = self.open()
        info = bucket.put("key", b"old")
        for condition, error in (({"if_absent": True}, AlreadyExists), ({"if_match": "other"}, PreconditionFailed)):
            writer = bucket.open("key", "wb", **condition)
            writer.write(b"new")
            with pytest.raises(error):
                writer.close()
            assert writer.closed
        assert bucket.get("key") == b"old"
        with bucket.open("key", "wb", if_match=info.etag) as writer:
            writer.write(b"new")
        assert bucket.get("key") == b"new"

    def test_other_modes_are_refused(self) -> None:
        bucket = self.open()
        bucket.put("key", b"")
        for mode in ("r", "w", "ab", "r+b", "", "rt"):
            with pytest.raises(InvalidArgument):
                bucket.open("key", mode)
        with pytest.raises(InvalidArgument):
            bucket.open("key", "rb", if_absent=True)
        writer = bucket.open("key", "wb")
        with pytest.raises(InvalidArgument):
            writer.write("text")
        writer.abort()

    @pytest.mark.parametrize("size", [0, 1, 100_000, -1], ids=["empty", "one", "small", "parts"])
    def test_a_local_file_goes_up_and_down(self, size: int, tmp_path: Path) -> None:
        bucket = self.open()
        if size < 0:
            size = bucket.capabilities.part_bytes * 2 + 12345
        data = (bytes(range(251)) * (size // 251 + 1))[:size]
        tmp_path.joinpath("up").write_bytes(data)
        told: list[tuple[int, int]] = []
        info = bucket.upload(
            tmp_path / "up", "a/key", progress=lambda done, total: told.append((done, total)), timeout=100
        )
        assert info.size == size
        assert _told_well(told, size)
        assert bucket.get("a/key", timeout=100) == data
        told.clear()
        got = bucket.download(
            "a/key", str(tmp_path / "down"), progress=lambda done, total: told.append((done, total)), timeout=100
        )
        assert got.etag == info.etag
        assert size == 0 or _told_well(told, size)
        assert tmp_path.joinpath("down").read_bytes() == data
        assert _names(tmp_path) == ["down", "up"]

    def test_a_download_that_fails_leaves_the_old_file(self, tmp_path: Path) -> None:
        bucket = self.open()
        target = tmp_path / "file"
        target.write_bytes(b"old")
        with pytest.raises(NotFound):
            bucket.download("missing", target)
        bucket.put("key", b"new")
        for bad in (tmp_path / "no" / "such", tmp_path):
            with pytest.raises(InvalidArgument):
                bucket.download("key", bad)
        assert _names(tmp_path) == ["file"]
        assert target.read_bytes() == b"old"
        bucket.download("key", target)
        assert target.read_bytes() == b"new"

    def test_what_is_no_local_file_is_refused(self, tmp_path: Path) -> None:
        bucket = self.open()
        for bad in (tmp_path / "missing", tmp_path):
            with pytest.raises(InvalidArgument):
                bucket.upload(bad, "key")
        assert self.keys(bucket) == []

    def test_an_open_local_file_is_put_from_where_it_stands(self, tmp_path: Path) -> None:
        bucket = self.open()
        size = bucket.capabilities.part_bytes + 999
        tmp_path.joinpath("file").write_bytes(b"head" + b"x" * size)
        with tmp_path.joinpath("file").open("rb") as file:
            assert file.read(4) == b"head"
            info = bucket.put("key", file, timeout=100)
            assert file.read() == b""
        assert info.size == size
        assert bucket.get("key", timeout=100) == b"x" * size

    @needs("server_side_copy")
    def test_a_copy_is_made_where_the_object_is(self) -> None:
        bucket, same = self.open(), self.open()
        data = bytes(range(256)) * 4096
        stored = bucket.put("a", data, metadata={"a": "1"}, timeout=100)
        copied = bucket.copy("a", "b", to=same, timeout=100)
        assert (copied.size, copied.checksum) == (stored.size, stored.checksum)
        assert (same.head("b")).metadata == {"a": "1"}
        assert same.get("b", timeout=100) == data

    def test_a_copy_is_whole(self) -> None:
        bucket = self.open()
        data = b"x" * (bucket.capabilities.part_bytes + 1)
        how = {"content_type": "text/plain", "cache_control": "no-cache", "metadata": {"a": "é"}}
        bucket.put("a", data, **how)
        bucket.put("b/c", b"old", metadata={"old": "1"})
        info = bucket.copy("a", "b/c", timeout=100)
        assert (info.key, info.size) == ("b/c", len(data))
        for key in ("a", "b/c"):
            head = bucket.head(key)
            assert (head.content_type, head.cache_control, head.metadata) == tuple(how.values())
            assert bucket.get(key, timeout=100) == data
        with pytest.raises(NotFound):
            bucket.copy("missing", "b")
        assert self.keys(bucket) == ["a", "b/c"]

    def test_a_copy_goes_to_another_bucket(self) -> None:
        bucket, other = self.open(), self.open("other")
        data = b"x" * (bucket.capabilities.part_bytes + 1)
        bucket.put("a", data, content_language="de", metadata={"a": "b"})
        info = bucket.copy("a", "b", to=other, timeout=100)
        assert info.key == "b"
        assert (other.head("b")).metadata == {"a": "b"}
        assert (other.head("b")).content_language == "de"
        assert other.get("b", timeout=100) == data
        assert self.keys(bucket) == ["a"]
        assert self.keys(other) == ["b"]
        with pytest.raises(NotFound):
            bucket.copy("missing", "c", to=other)
        assert self.keys(other) == ["b"]
        not_a_bucket: Any = "other"
        with pytest.raises(PortableError):
            bucket.copy("a", "b", to=not_a_bucket)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _told_well(told: list[tuple[int, int]], size: int) -> bool:
    """Say whether the progress that was told grows to the whole, and never falls."""
    done = [so_far for so_far, _ in told]
    return done == sorted(done) and told[-1] == (size, size) and {total for _, total in told} == {size}
