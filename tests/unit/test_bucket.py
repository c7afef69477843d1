"""What the bucket does itself, whatever its driver: parts, transfers that resume, files, limits."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import portable.local_files as local_files_module
from portable.bucket import Bucket
from portable.cloud import open_bucket
from portable.errors import (
    AlreadyExists,
    BatchError,
    DeadlineExceeded,
    IntegrityError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ResourceNotFound,
    Unavailable,
    Unsupported,
)
from portable.objects import Part
from portable.transfers import part_size
from portable_embedded.memory_bucket import MemoryBucket
from tests.unit.bucket_drivers import PART, Failing, content


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with open_bucket("failing:") as opened:
        yield opened


def driver(bucket: Bucket) -> Any:
    return bucket._driver


def test_parts_of_known_size_are_not_too_many() -> None:
    assert part_size(10, 8, 10_000) == 8
    assert part_size(8 * 10_000, 8, 10_000) == 8
    assert part_size(8 * 10_000 + 1, 8, 10_000) == 16
    assert part_size(10**15, 8, None) == 8
    huge = 5 * 1024**4
    assert -(-huge // part_size(huge, 8 * 1024**2, 10_000)) <= 10_000


def test_parts_of_unknown_size_grow(bucket: Bucket) -> None:
    size = PART * 1000 + 10 * PART
    data = content(size)
    bucket.put("key", iter([data]))
    assert bucket.get("key") == data
    assert max(driver(bucket).written) == 1000 + 5


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART, 2 * PART + 1, 4 * PART, 10 * PART + 7])
def test_any_size_comes_back_however_it_is_cut(bucket: Bucket, size: int, tmp_path: Path) -> None:
    data = content(size)
    tmp_path.joinpath("file").write_bytes(data)
    pieces = [data[at : at + 333] for at in range(0, size, 333)]
    with tmp_path.joinpath("file").open("rb") as file, tmp_path.joinpath("file").open("rb", buffering=0) as raw:
        for source in (data, bytearray(data), [data], pieces, io.BytesIO(data), file, raw):
            info = bucket.put("key", source)
            assert info.size == size
            assert bucket.get("key") == data
            bucket.delete("key")


def test_a_file_that_is_not_plain_gives_its_own_bytes(bucket: Bucket, tmp_path: Path) -> None:
    data = bytes(PART * 20)
    tmp_path.joinpath("file.gz").write_bytes(gzip.compress(content(PART * 5)))
    with gzip.open(tmp_path / "file.gz") as unzipped:
        bucket.put("key", unzipped)
    assert bucket.get("key") == content(PART * 5)
    tmp_path.joinpath("file").write_bytes(data)
    with tmp_path.joinpath("file").open("rb") as file, io.BufferedReader(file) as twice:
        bucket.put("key", twice)
    assert bucket.get("key") == data


def test_a_put_that_fails_leaves_no_parts(bucket: Bucket, tmp_path: Path) -> None:
    data = content(PART * 10)
    tmp_path.joinpath("file").write_bytes(data)
    objects = driver(bucket)._objects
    for source in (data, [data]):
        driver(bucket).calls_left = 3
        with pytest.raises(Unavailable):
            bucket.put("key", source)
        assert objects.uploads == {}
    driver(bucket).calls_left = None
    bucket.put("key", b"")
    for source in (data, [data]):
        with pytest.raises(AlreadyExists):
            bucket.put("key", source, if_absent=True)
        assert objects.uploads == {}
    with pytest.raises(InvalidArgument, match="binary mode"):
        bucket.put("key", [data, "text"])
    assert objects.uploads == {}
    assert bucket.get("key") == b""


def test_a_file_that_shrinks_is_not_put(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(PART * 10))

    write_part = driver(bucket).write_part

    def shrink(*arguments: Any, **how: Any) -> Part:
        with path.open("r+b") as file:
            file.truncate(PART)
        part: Part = write_part(*arguments, **how)
        return part

    driver(bucket).write_part = shrink
    with path.open("rb") as file, pytest.raises(PreconditionFailed, match="changed"):
        bucket.put("key", file)
    path.write_bytes(content(PART * 10))
    with pytest.raises(PreconditionFailed, match="changed"):
        bucket.upload(path, "key")
    assert not bucket.exists("key")
    assert driver(bucket)._objects.uploads == {}
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_upload_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    data = content(PART * 10 + 5)
    path = tmp_path / "file"
    path.write_bytes(data)
    driver(bucket).calls_left = 4
    with pytest.raises(Unavailable):
        bucket.upload(path, "key")
    first = sorted(driver(bucket).written)
    assert len(first) == 4
    assert len(list(tmp_path.iterdir())) == 2
    assert not bucket.exists("key")
    driver(bucket).calls_left, driver(bucket).written = None, []
    told: list[int] = []
    bucket.upload(path, "key", progress=lambda done, _: told.append(done))
    assert sorted(first + driver(bucket).written) == list(range(1, 12))
    assert bucket.get("key") == data
    assert told[-1] == len(data)
    assert told == sorted(told)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("change", ["content", "upload", "journal"])
def test_an_upload_of_something_else_begins_anew(bucket: Bucket, tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(PART * 10))
    driver(bucket).calls_left = 4
    with pytest.raises(Unavailable):
        bucket.upload(path, "key")
    driver(bucket).calls_left, driver(bucket).written = None, []
    data = content(PART * 10)
    (journal,) = (one for one in tmp_path.iterdir() if one != path)
    if change == "content":
        data = content(PART * 10 + 1)
        path.write_bytes(data)
    elif change == "upload":
        driver(bucket)._objects.uploads.clear()
    else:
        journal.write_bytes(b'{"torn')
    bucket.upload(path, "key")
    assert len(driver(bucket).written) == -(-len(data) // PART)
    assert bucket.get("key") == data
    assert list(tmp_path.iterdir()) == [path]


def test_an_upload_that_was_refused_keeps_nothing(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(PART * 10))

    def refuse(*_: Any, **__: Any) -> Part:
        raise PermissionDenied("not yours")

    driver(bucket).write_part = refuse
    with pytest.raises(PermissionDenied):
        bucket.upload(path, "key")
    assert driver(bucket)._objects.uploads == {}
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_download_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    data = content(PART * 10 + 5)
    bucket.put("key", data)
    path = tmp_path / "file"
    path.write_bytes(b"old")
    driver(bucket).calls_left = 4
    with pytest.raises(Unavailable):
        bucket.download("key", path)
    assert path.read_bytes() == b"old"
    first = list(driver(bucket).read)
    assert len(first) == 4
    driver(bucket).calls_left, driver(bucket).read = None, []
    told: list[int] = []
    bucket.download("key", path, progress=lambda done, _: told.append(done))
    assert sorted(first + driver(bucket).read) == list(range(0, len(data), PART))
    assert path.read_bytes() == data
    assert told[-1] == len(data)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("change", ["object", "part"])
def test_a_download_of_something_else_begins_anew(bucket: Bucket, tmp_path: Path, change: str) -> None:
    data = content(PART * 10)
    bucket.put("key", data)
    path = tmp_path / "file"
    driver(bucket).calls_left = 4
    with pytest.raises(Unavailable):
        bucket.download("key", path)
    driver(bucket).calls_left, driver(bucket).read = None, []
    if change == "object":
        data = content(PART * 9)
        bucket.put("key", data)
    else:
        # A power cut may leave the note of a part without its bytes.
        (part,) = tmp_path.glob("*.portable-download")
        part.write_bytes(bytes(PART * 10))
    bucket.download("key", path)
    assert sorted(driver(bucket).read) == list(range(0, len(data), PART))
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_two_transfers_at_once_do_not_meet(bucket: Bucket, tmp_path: Path) -> None:
    data = content(PART * 10)
    path = tmp_path / "file"
    bucket.put("key", data)
    get = driver(bucket).get
    nested: list[bool] = []

    def download_within(*arguments: Any, **how: Any) -> bytes:
        if not nested:
            nested.append(True)
            bucket.download("key", path)
            assert path.read_bytes() == data
            path.unlink()
        return bytes(get(*arguments, **how))

    driver(bucket).get = download_within
    bucket.download("key", path)
    assert path.read_bytes() == data
    write_part = driver(bucket).write_part
    nested.clear()

    def upload_within(*arguments: Any, **how: Any) -> Part:
        if not nested:
            nested.append(True)
            bucket.upload(path, "other")
        part: Part = write_part(*arguments, **how)
        return part

    driver(bucket).write_part = upload_within
    bucket.upload(path, "other")
    assert bucket.get("other") == data
    assert list(tmp_path.iterdir()) == [path]


def test_an_object_that_changes_is_downloaded_again(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("key", content(PART * 10))
    get, changes = driver(bucket).get, [content(PART * 11), content(PART * 12)]

    def change(*arguments: Any, **how: Any) -> bytes:
        if changes and arguments[1] > 3 * PART:
            bucket.put("key", changes.pop(0))
        return bytes(get(*arguments, **how))

    driver(bucket).get = change
    bucket.download("key", tmp_path / "file")
    # Two threads read, so either change may have been the last.
    assert tmp_path.joinpath("file").read_bytes() == bucket.get("key") != content(PART * 10)
    changes += [content(PART * 10)] * 30
    with pytest.raises(PreconditionFailed):
        bucket.download("key", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_upload_needs_no_writable_folder(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(PART * 10)
    tmp_path.joinpath("file").write_bytes(data)

    def refuse(_: Path) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(local_files_module, "Journal", refuse)
    bucket.upload(tmp_path / "file", "key")
    assert bucket.get("key") == data
    driver(bucket).calls_left = 2
    with pytest.raises(Unavailable):
        bucket.upload(tmp_path / "file", "key")
    assert driver(bucket)._objects.uploads == {}
    with pytest.raises(PermissionDenied):
        bucket.download("key", tmp_path / "other")


def test_damage_on_the_way_is_found(tmp_path: Path) -> None:
    with open_bucket("corrupt:") as bucket:
        for key in ("damaged", "cut"):
            bucket.put(key, content(PART * 3))
            with bucket.open(key) as reader, pytest.raises(IntegrityError):
                reader.read()
            with pytest.raises(IntegrityError):
                bucket.download(key, tmp_path / "file")
            with open_bucket("memory:") as other, pytest.raises(IntegrityError):
                bucket.copy(key, "copy", to=other)
    assert list(tmp_path.iterdir()) == []


def test_a_backend_without_checksums_is_read(tmp_path: Path) -> None:
    with open_bucket("vague:") as bucket:
        bucket.put("key", content(PART * 3))
        bucket.download("key", tmp_path / "file")
        with bucket.open("key") as reader:
            assert reader.read() == content(PART * 3)
    assert tmp_path.joinpath("file").read_bytes() == content(PART * 3)


def test_a_missing_bucket_is_not_a_missing_object() -> None:
    with open_bucket("gone:") as bucket:
        with pytest.raises(ResourceNotFound):
            bucket.exists("key")
        with pytest.raises(ResourceNotFound):
            bucket.head("key")


def test_deletes_go_in_batches(bucket: Bucket) -> None:
    assert bucket.delete_many([str(number) for number in range(7)]).results == [None] * 7
    with pytest.raises(BatchError) as caught:
        bucket.delete_many(["a", "bad", "c", "d", "refused", "f", "g"])
    assert set(caught.value.result.failed) == {1, 3, 4, 5}
    result = bucket.delete_many(["a", "bad"], return_errors=True)
    assert isinstance(result.results[1], PermissionDenied)


def test_deletes_one_at_a_time_say_which_failed() -> None:
    with open_bucket("memory:") as bucket:
        bucket.put("a", b"")

        def refuse(key: str, *_: Any, **__: Any) -> None:
            raise PermissionDenied(key)

        bucket._driver.delete = refuse  # type: ignore[method-assign]  # a driver that refuses
        result = bucket.delete_many(["a", "b"], return_errors=True)
        assert [type(error) for error in result.results] == [PermissionDenied] * 2
        assert result.results[0].resource == bucket.name  # type: ignore[union-attr]  # an error, as just seen


def test_pairs_are_pairs(bucket: Bucket) -> None:
    unfit: Any = ["key", 5, ("a", b"", b"")]
    with pytest.raises(BatchError) as caught:
        bucket.put_many(unfit)
    assert set(caught.value.result.failed) == {0, 1, 2}


def test_a_time_that_is_over_writes_nothing(bucket: Bucket) -> None:
    with pytest.raises(DeadlineExceeded):
        bucket.put("key", content(PART * 10), timeout=-1)
    with pytest.raises(DeadlineExceeded):
        bucket.put("key", [content(PART * 10)], timeout=-1)
    assert not bucket.exists("key")


def test_signing_checks_what_it_is_given(bucket: Bucket) -> None:
    assert bucket.sign("key", method="PUT", content_type="text/plain").method == "PUT"
    for bad in ({"method": "POST"}, {"method": "get"}, {"expires": 0}, {"expires": -1}, {"content_type": "a\nb"}):
        with pytest.raises(InvalidArgument):
            bucket.sign("key", **bad)
    with pytest.raises(InvalidArgument):
        bucket.sign("")
    with open_bucket("memory:") as plain, pytest.raises(Unsupported, match="sign"):
        plain.sign("key")
    for scheme in (bucket, plain):
        if scheme is plain:
            with pytest.raises(Unsupported):
                MemoryBucket.sign(driver(plain), "key", "GET", 1, None, timeout=1)


def test_a_bucket_keeps_to_the_limits_of_clouds() -> None:
    from portable._concurrency import Host
    from portable.bindings import Binding, Shared
    from portable.contracts import BucketContract
    from portable.urls import Url

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
    with Bucket(binding, lambda: Failing(binding), host=Host(), limits=("aws",)) as bucket:
        bucket.put("key", b"", metadata={"a": "x" * 2000})
        with pytest.raises(LimitExceeded):
            bucket.put("key", b"", metadata={"a": "x" * 3000})
        with pytest.raises(LimitExceeded):
            bucket.sign("key", expires=8 * 86400)
        assert bucket._guard is not None
        seen: list[int] = []
        bucket._guard.object_size = seen.append  # type: ignore[method-assign, assignment]  # what it is asked
        for source in (b"x" * 5, [b"x" * 5] * 2, content(PART * 9)):
            bucket.put("key", source)
        assert seen == [5, 5, 10, 10, PART * 9]


def test_a_reader_is_a_file_to_other_libraries(bucket: Bucket) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "first\nsecond\n" * 1000)
    bucket.put("a.zip", packed.getvalue())
    with bucket.open("a.zip") as reader:
        assert reader.name == "a.zip"
        assert reader.mode == "rb"
        with zipfile.ZipFile(reader) as archive:
            assert archive.read("a.txt") == b"first\nsecond\n" * 1000
    bucket.put("text", "é\nb\n".encode())
    with io.TextIOWrapper(bucket.open("text"), encoding="utf-8") as text:
        assert list(text) == ["é\n", "b\n"]
    with bucket.open("text") as reader:
        assert reader.readinto1(bytearray(3)) == 3
        assert reader.readlines(1) == [b"b\n"]
        with pytest.raises(io.UnsupportedOperation):
            reader.fileno()


def test_a_writer_is_a_file_to_other_libraries(bucket: Bucket) -> None:
    with bucket.open("a.zip", "wb") as writer:
        assert (writer.name, writer.mode) == ("a.zip", "wb")
        assert (writer.readable(), writer.seekable(), writer.writable()) == (False, False, True)
        with zipfile.ZipFile(writer, "w") as archive:
            archive.writestr("a.txt", "text" * PART)
    with bucket.open("a.zip") as reader, zipfile.ZipFile(reader) as archive:
        assert archive.read("a.txt") == b"text" * PART
    with io.TextIOWrapper(bucket.open("text", "wb"), encoding="utf-8") as text:
        text.write("é")
    assert bucket.get("text") == "é".encode()


def test_a_forgotten_writer_writes_nothing(bucket: Bucket) -> None:
    writer = bucket.open("key", "wb")
    writer.write(b"data")
    with pytest.warns(ResourceWarning, match="never closed"):
        del writer
    assert not bucket.exists("key")


def test_files_of_a_closed_bucket_say_so(bucket: Bucket) -> None:
    from portable.errors import Closed

    bucket.put("key", b"data")
    reader, writer = bucket.open("key"), bucket.open("new", "wb")
    bucket.close()
    with pytest.raises(Closed) as caught:
        reader.read()
    assert (caught.value.resource, caught.value.operation) == (bucket.name, "read")
    with pytest.raises(Closed):
        writer.write(b"")
    with pytest.raises(Closed):
        writer.close()
    reader.close()


def test_reading_names_the_missing_version(bucket: Bucket) -> None:
    bucket.put("key", b"data")
    with bucket.open("key") as reader:
        bucket.delete("key")
        with pytest.raises(PreconditionFailed) as caught:
            reader.read()
        assert caught.value.operation == "read"
    with pytest.raises(NotFound):
        bucket.open("key")


def test_infos_are_the_receivers_own() -> None:
    with open_bucket("memory:") as bucket:
        bucket.put("key", b"", metadata={"a": "b"}).metadata["a"] = "changed"
        bucket.head("key").metadata["a"] = "changed"
        next(iter(bucket.list())).metadata["a"] = "changed"  # type: ignore[union-attr]  # an object
        assert bucket.head("key").metadata == {"a": "b"}
