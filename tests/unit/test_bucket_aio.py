"""What the asynchronous bucket does itself: sources, transfers that resume, limits, files."""

from __future__ import annotations

import asyncio
import io
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import portable.local_files as local_files_module
from portable.aio._concurrency import Host
from portable.aio.bucket import Bucket
from portable.aio.cloud import open_bucket
from portable.bindings import Binding, Shared
from portable.contracts import BucketContract
from portable.errors import (
    AlreadyExists,
    BatchError,
    Closed,
    DeadlineExceeded,
    IntegrityError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ResourceNotFound,
    Unavailable,
)
from portable.objects import ObjectHeaders
from portable.urls import Url
from tests.unit.bucket_drivers import PART, Failing, content

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def bucket(anyio_backend: str) -> AsyncIterator[Bucket]:
    async with open_bucket("failing:") as opened:
        yield opened


def driver(bucket: Bucket) -> Any:
    return bucket._driver._driver  # type: ignore[attr-defined]  # behind the wrapper of sync drivers


class AsyncFile:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    async def read(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return self._file.read(size)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 333):
        await asyncio.sleep(0)
        yield data[at : at + 333]


@pytest.mark.parametrize("size", [0, 1, PART, 2 * PART + 1, 10 * PART + 7])
async def test_any_source_is_taken(bucket: Bucket, size: int, tmp_path: Path) -> None:
    data = content(size)
    tmp_path.joinpath("file").write_bytes(data)
    with tmp_path.joinpath("file").open("rb") as file:
        for source in (data, [data], iter([data]), io.BytesIO(data), file, AsyncFile(data), pieces(data)):
            assert (await bucket.put("key", source)).size == size
            assert await bucket.get("key") == data
            await bucket.delete("key")


async def test_parts_grow(bucket: Bucket) -> None:
    data = content(PART * 1010)
    await bucket.put("key", [data])
    assert await bucket.get("key") == data


async def test_a_put_that_fails_leaves_no_parts(bucket: Bucket) -> None:
    data = content(PART * 10)
    for source in (data, iter([data])):
        driver(bucket).calls_left = 3
        with pytest.raises(Unavailable):
            await bucket.put("key", source)
    driver(bucket).calls_left = None
    await bucket.put("key", b"")
    sources: list[Any] = [data, [data], [data, "text"]]
    for source in sources:
        with pytest.raises((AlreadyExists, InvalidArgument)):
            await bucket.put("key", source, if_absent=True)
    with pytest.raises(DeadlineExceeded):
        await bucket.put("key", [data], timeout=-1)
    assert driver(bucket)._objects.uploads == {}
    assert await bucket.get("key") == b""


async def test_interrupted_transfers_go_on(bucket: Bucket, tmp_path: Path) -> None:
    data = content(PART * 10 + 5)
    path, copy = tmp_path / "file", tmp_path / "copy"
    path.write_bytes(data)
    driver(bucket).calls_left = 4
    with pytest.raises(Unavailable):
        await bucket.upload(path, "key")
    driver(bucket).calls_left = None
    first = list(driver(bucket).written)
    await bucket.upload(path, "key")
    assert sorted(driver(bucket).written) == list(range(1, 12))
    assert 0 < len(first) < 11
    driver(bucket).calls_left = 4
    with pytest.raises(Unavailable):
        await bucket.download("key", copy)
    driver(bucket).calls_left = None
    await bucket.download("key", copy)
    assert copy.read_bytes() == data
    assert _names(tmp_path) == ["copy", "file"]


async def test_an_upload_whose_parts_are_gone_begins_anew(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(PART * 10))
    driver(bucket).calls_left = 4
    with pytest.raises(Unavailable):
        await bucket.upload(path, "key")
    driver(bucket)._objects.uploads.clear()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionDenied("not yours")

    monkeypatch.setattr(driver(bucket), "_count", refuse)
    with pytest.raises(PermissionDenied):
        await bucket.upload(path, "key")
    monkeypatch.undo()
    driver(bucket).calls_left = None
    monkeypatch.setattr(local_files_module, "Journal", _read_only)
    await bucket.upload(path, "key")
    assert await bucket.get("key") == content(PART * 10)
    assert driver(bucket)._objects.uploads == {}


def _names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def _read_only(_: Path) -> None:
    raise PermissionError("read-only")


async def test_small_files_go_in_one_piece(bucket: Bucket, tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_bytes(b"data")
    told: list[tuple[int, int]] = []
    await bucket.upload(tmp_path / "file", "key", progress=lambda *done: told.append(done))
    assert told == [(4, 4)]
    await bucket.upload(tmp_path / "file", "key")
    assert await bucket.get("key") == b"data"


async def test_an_object_that_changes_all_the_time_is_not_downloaded(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.put("key", content(PART * 10))
    get = driver(bucket).get

    def change(_: Any, *arguments: Any, **how: Any) -> bytes:
        data: bytes = get(*arguments, **how)
        driver(bucket)._store("key", content(PART * 10), ObjectHeaders(), None)
        return data

    driver(bucket).get = types.MethodType(change, driver(bucket))
    with pytest.raises(PreconditionFailed):
        await bucket.download("key", tmp_path / "file")
    assert _names(tmp_path) == []


async def test_damage_on_the_way_is_found(tmp_path: Path) -> None:
    async with open_bucket("corrupt:") as bucket:
        for key in ("damaged", "cut"):
            await bucket.put(key, content(PART * 3))
            async with await bucket.open(key) as reader:
                with pytest.raises(IntegrityError):
                    await reader.read()
            with pytest.raises(IntegrityError):
                await bucket.download(key, tmp_path / "file")
    async with open_bucket("gone:") as gone:
        with pytest.raises(ResourceNotFound):
            await gone.exists("key")


async def test_batches_say_what_failed(bucket: Bucket) -> None:
    with pytest.raises(BatchError) as caught:
        await bucket.delete_many(["a", "bad", "c", "d", "refused", "f", "g"])
    assert set(caught.value.result.failed) == {1, 3, 4, 5}
    unfit: Any = ["key", ("a", b"1")]
    with pytest.raises(BatchError):
        await bucket.put_many(unfit)
    assert await bucket.get_many(["a"] * 200, concurrency=3) == [b"1"] * 200
    assert len(await bucket.put_many(((str(number), b"") for number in range(300)), concurrency=2)) == 300


async def test_signing_checks_what_it_is_given(bucket: Bucket) -> None:
    assert (await bucket.sign("key")).method == "GET"
    with pytest.raises(InvalidArgument):
        await bucket.sign("key", method="POST")
    with pytest.raises(InvalidArgument):
        await bucket.sign("key", expires=0)


async def test_a_bucket_keeps_to_the_limits_of_clouds() -> None:
    host = Host()
    binding = Binding(
        resource="b",
        kind="bucket",
        name="b",
        url=Url.parse("failing:"),
        options=Failing.Options(),
        contract=BucketContract(),
        create=True,
        shared=Shared(),
    )
    async with Bucket(binding, lambda: host.face(Failing(binding)), host=host, limits=("aws",)) as bucket:
        with pytest.raises(LimitExceeded):
            await bucket.put("key", b"", metadata={"a": "x" * 3000})
        with pytest.raises(LimitExceeded):
            await bucket.sign("key", expires=8 * 86400)
        for source in (b"x" * 5, [b"x" * 5] * 2, content(PART * 9)):
            await bucket.put("key", source)
    await host.close()


async def test_a_reader_is_read_in_many_ways(bucket: Bucket) -> None:
    await bucket.put("key", b"first\nsecond\nthird")
    async with await bucket.open("key") as reader:
        assert (reader.name, reader.mode, reader.closed) == ("key", "rb", False)
        assert await reader.readinto1(bytearray(3)) == 3
        assert await reader.read1(2) == b"st"
        assert await reader.readline() == b"\n"
        assert await reader.readlines(1) == [b"second\n"]
        assert reader.tell() == 13
    with pytest.raises(NotFound):
        await bucket.open("missing")


async def test_writers_end_in_one_way(bucket: Bucket) -> None:
    async with await bucket.open("key", "wb") as writer:
        assert (writer.name, writer.mode) == ("key", "wb")
        assert (writer.readable(), writer.seekable()) == (False, False)
        await writer.write(content(PART * 9))
        await writer.flush()
    await writer.abort()
    assert await bucket.get("key") == content(PART * 9)
    forgotten = await bucket.open("other", "wb")
    with pytest.warns(ResourceWarning, match="never closed"):
        del forgotten
    cancelled = await bucket.open("other", "wb")
    driver(bucket).calls_left = 0
    with pytest.raises(Unavailable):
        await cancelled.write(content(PART * 9))
    await cancelled.abort()
    assert driver(bucket)._objects.uploads == {}


async def test_files_of_a_closed_bucket_say_so(bucket: Bucket) -> None:
    await bucket.put("key", b"data")
    reader, writer = await bucket.open("key"), await bucket.open("new", "wb")
    await bucket.close()
    with pytest.raises(Closed):
        await reader.read()
    with pytest.raises(Closed):
        await writer.write(b"")
    with pytest.raises(Closed):
        await writer.close()


async def test_only_buckets_of_this_face_take_copies(bucket: Bucket) -> None:
    await bucket.put("key", content(PART * 9))
    async with open_bucket("memory:") as other:
        await bucket.copy("key", "copy", to=other)
        assert await other.get("copy") == content(PART * 9)
    unfit: Any = "other"
    with pytest.raises(InvalidArgument):
        await bucket.copy("key", "copy", to=unfit)
