"""What a `file:` bucket keeps where, and how it lives with what other programs do there."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import portable_embedded.file_attributes as attributes_module
from portable.cloud import open_bucket
from portable.errors import (
    AlreadyExists,
    ConfigError,
    DeadlineExceeded,
    IntegrityError,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    ResourceNotFound,
)
from portable_embedded.file_bucket import FileBucket
from portable_embedded.file_locks import let_go, stripes_of
from portable_embedded.file_names import decoded, key_of, names_of
from portable_embedded.file_tree import InTheWayError, Tree

XATTR = "user.portable"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def bucket(root: Path) -> Any:
    with open_bucket(f"file:{root}", durability="process") as opened:
        yield opened


def keys(bucket: Any, prefix: str = "", **how: Any) -> list[str]:
    return [item.key for item in bucket.list(prefix, **how)]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a", "a"),
        ("a/b.txt", "a/b.txt"),
        ("a b/é.txt", "a b/é.txt"),
        ("100%", "100%"),
        ("a%20b", "a%20b"),
        ("a%25b", "a%2525b"),
        ("a\nb", "a%0Ab"),
        ("\x7f", "%7F"),
        ("a%0Ab", "a%250Ab"),
        ("a/", "a/%empty"),
        ("a//b", "a/%empty/b"),
        ("/a", "%empty/a"),
        (".", "%2E"),
        ("../a", "%2E%2E/a"),
        ("...", "..."),
        (".portable/a", "%2Eportable/a"),
        ("a/.portable", "a/.portable"),
        ("%empty", "%25empty"),
        ("a%object", "a%25object"),
        ("a%more", "a%25more"),
        ("b" * 248, "b" * 248),
        ("b" * 249, "b" * 200 + "%more/" + "b" * 49),
        ("é" * 200, "é" * 100 + "%more/" + "é" * 100),
        ("b" + "é" * 200, "b" + "é" * 99 + "%more/" + "é" * 101),
    ],
)
def test_a_key_stands_where_the_wire_format_says(bucket: Any, root: Path, key: str, path: str) -> None:
    bucket.put(key, b"content")
    assert root.joinpath(path).read_bytes() == b"content"
    assert "/".join(names_of(key)) == path
    assert key_of(names_of(key)) == key
    assert keys(bucket) == [key]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
    | st.text("a/.%25EFempty\x01", min_size=1)
)
def test_names_can_be_undone_and_are_names(key: str) -> None:
    names = names_of(key)
    assert key_of(names) == key
    for name in names:
        assert 0 < len(name.encode()) <= 248
        assert name not in {".", ".."}
        assert not any(character in name for character in "/\x00\n")
    assert names[0] != ".portable"


@given(st.text("a.%025EFemptyobjcr", min_size=1, max_size=12))
def test_a_name_of_another_program_is_a_key_of_its_own_or_none(name: str) -> None:
    assume(name not in {".", ".."})
    key = decoded(name, at_root=False)
    assert key is None or names_of(f"x/{key}") == ("x", name)


def test_an_object_beside_a_folder_keeps_its_content(bucket: Any, root: Path) -> None:
    info = bucket.put("a", b"object", metadata={"a": "b"})
    bucket.put("a/b", b"below")
    assert root.joinpath("a%object").read_bytes() == b"object"
    assert bucket.head("a").etag == info.etag
    assert bucket.head("a").metadata == {"a": "b"}
    assert keys(bucket) == ["a", "a/b"]
    assert keys(bucket, delimiter="/") == ["a", "a/"]
    info = bucket.put("a", b"newer", if_match=info.etag)
    with pytest.raises(AlreadyExists):
        bucket.put("a", b"", if_absent=True)
    assert (bucket.get("a"), bucket.get("a/b")) == (b"newer", b"below")
    bucket.delete("a/b")
    assert not root.joinpath("a").exists()
    assert bucket.get("a") == b"newer"
    bucket.put("a", b"newest", if_match=info.etag)
    assert root.joinpath("a").read_bytes() == b"newest"
    assert keys(bucket) == ["a"]
    bucket.delete("a")
    assert sorted(path.name for path in root.iterdir()) == [".portable"]


def test_files_of_other_programs_are_read_as_they_are(bucket: Any, root: Path) -> None:
    root.mkdir()
    root.joinpath("sub").mkdir()
    root.joinpath("sub", "50% off.txt").write_bytes(b"one")
    root.joinpath("a%20b").write_bytes(b"two")
    assert keys(bucket) == ["a%20b", "sub/50% off.txt"]
    assert bucket.get("sub/50% off.txt") == b"one"
    info = bucket.head("a%20b")
    assert (info.size, info.content_type, info.metadata, info.checksum) == (3, None, {}, None)
    assert info.modified.timestamp() == pytest.approx(root.joinpath("a%20b").stat().st_mtime)
    listed = next(iter(bucket.list()))
    assert listed.etag == info.etag
    newer = bucket.put("a%20b", b"ours", if_match=info.etag)
    with pytest.raises(PreconditionFailed):
        bucket.delete("a%20b", if_match=info.etag)
    bucket.delete("a%20b", if_match=newer.etag)
    assert not root.joinpath("a%20b").exists()


def test_reading_makes_no_folder_of_ours(bucket: Any, root: Path) -> None:
    root.mkdir()
    root.joinpath("a").write_bytes(b"one")
    assert keys(bucket) == ["a"]
    assert bucket.get("a") == b"one"
    assert [path.name for path in root.iterdir()] == ["a"]


def test_a_file_that_another_program_changes_is_a_new_version(bucket: Any, root: Path) -> None:
    info = bucket.put("a", b"ours", content_type="text/plain")
    with root.joinpath("a").open("ab") as file:
        file.write(b" and theirs")
    changed = bucket.head("a")
    assert changed.etag != info.etag
    assert (changed.size, changed.checksum, changed.content_type) == (15, None, "text/plain")
    assert bucket.get("a") == b"ours and theirs"
    with pytest.raises(PreconditionFailed):
        bucket.put("a", b"", if_match=info.etag)


def test_damage_is_found(bucket: Any, root: Path) -> None:
    bucket.put("a", b"x" * 5000)
    path = root / "a"
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(4000)
        file.write(b"y")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(IntegrityError):
        bucket.get("a")
    with bucket.open("a") as reader, pytest.raises(IntegrityError):
        reader.read()
    with pytest.raises(IntegrityError):
        bucket.download("a", root.parent / "copy")
    assert [one.name for one in root.parent.iterdir()] == ["root"]


def test_names_that_are_no_keys_are_not_listed(bucket: Any, root: Path) -> None:
    bucket.put("a", b"")
    root.joinpath("b%25c").write_bytes(b"")
    root.joinpath("%empty").write_bytes(b"")
    root.joinpath("empty").mkdir()
    os.mkfifo(root / "pipe")
    root.joinpath(os.fsdecode(b"\xff")).write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    assert keys(bucket) == ["a"]
    assert keys(bucket, delimiter="/") == ["a"]
    for key in ("pipe", "empty", "socket"):
        assert not bucket.exists(key)
    # What is no object is not deleted.
    bucket.delete("pipe")
    assert root.joinpath("pipe").exists()


def test_symbolic_links_are_not_followed(bucket: Any, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    outside.joinpath("secret").write_bytes(b"secret")
    bucket.put("a", b"")
    root.joinpath("folder").symlink_to(outside)
    root.joinpath("file").symlink_to(outside / "secret")
    assert keys(bucket) == ["a"]
    for key in ("file", "folder", "folder/secret", "../outside/secret"):
        assert not bucket.exists(key)
        with pytest.raises(NotFound):
            bucket.get(key)
        bucket.delete(key)
    with pytest.raises(PermissionDenied):
        bucket.put("folder/new", b"")
    with pytest.raises(PermissionDenied):
        bucket.put("file/new", b"")
    bucket.put("../outside/secret", b"ours")
    # An object takes the place of the link, not of what it leads to.
    bucket.put("file", b"ours")
    assert not root.joinpath("file").is_symlink()
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert outside.joinpath("secret").read_bytes() == b"secret"


def test_a_link_in_the_place_of_our_folder_is_refused(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    root.joinpath(".portable").symlink_to(outside)
    with open_bucket(f"file:{root}") as bucket:
        with pytest.raises(Exception, match="Not a directory"):
            bucket.put("a", b"")
        assert list(outside.iterdir()) == []


def test_a_deep_key_needs_no_deep_stack(bucket: Any) -> None:
    deep = ["/" * 1024, "a/" * 511 + "b", "a/" * 512]
    for key in deep:
        bucket.put(key, key.encode())
    try:
        assert keys(bucket) == sorted(deep)
        assert keys(bucket, delimiter="/") == ["/", "a/"]
        assert [bucket.get(key) for key in deep] == [key.encode() for key in deep]
    finally:
        # Python's own `rmtree` cannot remove folders that deep.
        bucket.delete_many(deep)
    assert keys(bucket) == []


@pytest.fixture(params=["without", "too large"])
def beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Headers that are kept under `.portable/attributes`, as they do not fit, or as the file system has no place."""
    if request.param == "without":
        monkeypatch.setattr(attributes_module, "_HAS_XATTRS", False)
        return "short"
    return "x" * 70_000


def test_attributes_beside_the_file_belong_to_it(bucket: Any, root: Path, beside: str) -> None:
    folder = root / ".portable" / "attributes"
    info = bucket.put("a/b", b"one", metadata={"long": beside})
    assert bucket.head("a/b").metadata == {"long": beside}
    assert bucket.head("a/b").etag == info.etag
    assert len(list(folder.iterdir())) == 1
    bucket.copy("a/b", "c")
    bucket.delete("a/b")
    assert bucket.head("c").metadata == {"long": beside}
    assert len(list(folder.iterdir())) == 1
    bucket.put("c", b"two", metadata={"long": beside + "2"})
    assert bucket.head("c").metadata == {"long": beside + "2"}
    assert len(list(folder.iterdir())) == 1
    bucket.put("c/d", b"")
    assert bucket.head("c").metadata == {"long": beside + "2"}
    assert next(iter(bucket.list())).metadata == {"long": beside + "2"}
    bucket.delete_many(["c", "c/d"])
    assert list(folder.iterdir()) == []


def test_readers_of_attributes_beside_the_file_see_one_version(bucket: Any, beside: str) -> None:
    bucket.put("a", b"0", metadata={"long": beside, "number": "0"})
    done = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        while not done.is_set():
            info = bucket.head("a")
            if info.metadata.get("number") != str(info.size - 1):
                wrong.append(info)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(60):
        bucket.put("a", b"x" * (number + 1), metadata={"long": beside, "number": str(number)})
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_what_killed_processes_left_goes(root: Path, beside: str) -> None:
    with open_bucket(f"file:{root}", durability="process") as bucket:
        bucket.put("kept", b"one", metadata={"long": beside})
        bucket.put("gone", b"two", metadata={"long": beside})
        bucket.put("changed", b"three", metadata={"long": beside})
    root.joinpath("gone").unlink()
    root.joinpath("changed").write_bytes(b"other")
    work = root / ".portable" / "tmp"
    week = 7 * 86400 + 60
    ages = {"put-new": 60, "put-old": 4000, "upload-new": 4000, "upload-old": week, "foreign": week}
    for name in ages:
        work.joinpath(name).write_bytes(b"")
    for path in (*work.iterdir(), *root.joinpath(".portable", "attributes").iterdir()):
        then = path.stat().st_mtime - ages.get(path.name, 4000)
        os.utime(path, (then, then))
    root.joinpath(".portable", "attributes", "torn").write_bytes(b"{")
    os.utime(root / ".portable" / "attributes" / "torn", (1, 1))
    with open_bucket(f"file:{root}", durability="process") as bucket:
        assert bucket.head("kept").metadata == {"long": beside}
    assert sorted(path.name for path in work.iterdir()) == ["foreign", "put-new", "upload-new"]
    assert len(list(root.joinpath(".portable", "attributes").iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "getxattr"), reason="this system has no extended attributes")
def test_the_attribute_is_readable_without_us(bucket: Any, root: Path) -> None:
    plain = bucket.put("a", b"123456789")
    version, etag, crc, modified, size = json.loads(os.getxattr(root / "a", XATTR))
    assert (version, etag, crc, size) == (1, plain.etag, 0xCBF43926, 9)
    assert modified == root.joinpath("a").stat().st_mtime_ns
    # What is longer costs a block of its own on ext4.
    assert len(os.getxattr(root / "a", XATTR)) <= 64
    bucket.put("a", b"", content_type="text/plain", metadata={"A": "b"})
    assert json.loads(os.getxattr(root / "a", XATTR))[5] == {"content_type": "text/plain", "metadata": {"a": "b"}}
    os.setxattr(root / "a", XATTR, b"not ours")
    assert bucket.head("a").metadata == {}


def test_a_bucket_that_was_removed_is_made_again(bucket: Any, root: Path) -> None:
    import shutil

    bucket.put("a", b"")
    shutil.rmtree(root)
    assert not bucket.exists("a")
    bucket.put("b", b"")
    assert keys(bucket) == ["b"]
    shutil.rmtree(root)
    bucket.put("c", b"")
    assert keys(bucket) == ["c"]


def test_a_missing_folder_is_named(root: Path) -> None:
    with open_bucket(f"file:{root}", create="never") as bucket:
        with pytest.raises(ResourceNotFound, match=str(root)):
            bucket.get("a")
        with pytest.raises(ResourceNotFound, match=str(root)):
            bucket.check()
        assert [change.action for change in bucket._driver.plan()] == ["create"]
        bucket._driver.create()
        assert bucket._driver.plan() == []
        bucket.check(write=True)
        assert bucket.native == root


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_bytes(b"")
    for path in ("file", "file/root"):
        with open_bucket(f"file:{tmp_path / path}") as bucket:
            with pytest.raises(Exception, match="file"):
                bucket.put("a", b"")
            with pytest.raises(Exception, match="file"):
                bucket.check()
    with pytest.raises(ConfigError):
        open_bucket("file:").put("a", b"")


def test_a_writer_waits_for_others_no_longer_than_it_may(bucket: Any, root: Path) -> None:
    bucket.put("a", b"one")
    stripes, _ = stripes_of(root / ".portable" / "locks")
    held = stripes.acquire("a", 1)
    try:
        with pytest.raises(DeadlineExceeded):
            bucket.put("a", b"two", timeout=0.05)
        assert bucket.get("a") == b"one"
    finally:
        stripes.release(held)
    bucket.put("a", b"two", timeout=30)
    assert list(root.joinpath(".portable", "tmp").iterdir()) == []


def test_an_upload_that_is_no_name_of_ours_is_gone(bucket: Any) -> None:
    driver: FileBucket = bucket._driver
    bucket.put("a", b"")
    for upload in ("../../a", "", "0" * 16):
        with pytest.raises(NotFound):
            driver.write_part("a", upload, 1, 0, b"", timeout=1)
        with pytest.raises(NotFound):
            driver.kept_parts("a", upload, [], timeout=1)
        driver.abort_upload("a", upload, timeout=1)
    assert bucket.exists("a")


def test_parts_are_checked_before_they_are_kept(bucket: Any, root: Path) -> None:
    from portable.errors import InvalidArgument
    from portable.objects import ObjectHeaders, Part

    driver: FileBucket = bucket._driver
    bucket.put("a", b"")
    upload = driver.begin_upload("b", ObjectHeaders(), timeout=1)
    parts = [driver.write_part("b", upload, number + 1, number * 4, b"%04d" % number, timeout=1) for number in range(3)]
    path = root / ".portable" / "tmp" / f"upload-{upload}"
    with path.open("r+b") as file:
        file.seek(5)
        file.write(b"x")
    assert driver.kept_parts("b", upload, parts, timeout=1) == [parts[0], parts[2]]
    with pytest.raises(InvalidArgument):
        driver.commit_upload("b", upload, [*parts, Part(4, 12, 4, "0")], ObjectHeaders(), None, timeout=1)
    assert not bucket.exists("b")


def test_foreign_writers_in_place_do_not_look_like_damage(bucket: Any, root: Path) -> None:
    bucket.put("a", b"x" * 100_000)
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            with root.joinpath("a").open("r+b") as file:
                file.write(b"%d" % number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(50):
            assert len(bucket.get("a")) == 100_000
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize("how", ["in the kernel", "by hand"])
def test_copies_are_checked(bucket: Any, root: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "by hand":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    data = os.urandom(700_000)
    bucket.put("ours", data, metadata={"a": "b"})
    root.joinpath("foreign").write_bytes(data)
    for source in ("ours", "foreign"):
        info = bucket.copy(source, f"copies/{source}")
        assert info.checksum == bucket.head("ours").checksum
        assert bucket.get(f"copies/{source}") == data
    stat = root.joinpath("ours").stat()
    with root.joinpath("ours").open("r+b") as file:
        file.write(b"damage")
    os.utime(root / "ours", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if how == "by hand":
        with pytest.raises(IntegrityError):
            bucket.copy("ours", "copies/damaged")
    else:
        # The kernel looks at no content; the checksum goes with the copy, and finds the damage where it is read.
        bucket.copy("ours", "copies/damaged")
        with pytest.raises(IntegrityError):
            bucket.get("copies/damaged")


def test_locks_are_let_go_with_their_last_user(root: Path) -> None:
    with open_bucket(f"file:{root}", durability="process") as first:
        with open_bucket(f"file:{root}", durability="process") as second:
            first.put("a", b"")
            second.put("a", b"")
        first.put("a", b"", timeout=30)
    stripes, taken = stripes_of(root / ".portable" / "locks")
    assert stripes.users == 1
    assert stripes._files == [None] * 64
    let_go(taken)


def test_deletes_of_a_driver_come_in_batches(bucket: Any, root: Path) -> None:
    bucket.put("a", b"")
    assert bucket._driver.delete_many(["a", "b"], timeout=10) == [None, None]
    assert not bucket.exists("a")


def test_an_object_that_was_in_the_way_may_go_with_its_folder(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("folder/object", b"above")
    make_parent = Tree.make_parent

    def slow(tree: Tree, names: Any) -> Any:
        try:
            return make_parent(tree, names)
        except InTheWayError:
            monkeypatch.undo()
            bucket.delete("folder/object")
            raise

    monkeypatch.setattr(Tree, "make_parent", slow)
    bucket.put("folder/object/below", b"below")
    assert keys(bucket) == ["folder/object/below"]
