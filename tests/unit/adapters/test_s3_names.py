"""How keys become names on S3, hidden keys, packed metadata, and listings of servers with folders."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable.errors import LimitExceeded
from portable.objects import ObjectInfo, Prefix
from portable.testing.aio.bucket_cases import HOSTILE_KEYS, HOSTILE_TEXTS
from portable_aws.names import Names
from portable_aws.s3_listing import S3Listing
from portable_objectstore.hidden_keys import AREA, hidden_name, is_long, shown_key
from portable_objectstore.metadata import PACKED, PLAIN
from portable_objectstore.plane import DataPlane
from portable_objectstore.stores import rung

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(keys, keys)
def test_hidden_names_sort_as_keys_do(one: str, other: str) -> None:
    assert (hidden_name(one) < hidden_name(other)) == (one < other)
    assert shown_key(hidden_name(one)) == one


def test_hidden_names_fit_and_differ() -> None:
    names = {hidden_name(key) for key in HOSTILE_KEYS}
    assert len(names) == len(HOSTILE_KEYS)
    assert max(map(len, names)) <= 1024
    assert all(len(segment) <= 255 for name in names for segment in name.split("/"))
    assert {key for key in HOSTILE_KEYS if is_long(hidden_name(key))} == {
        key for key in HOSTILE_KEYS if len(key.encode()) > 500
    }


@pytest.mark.parametrize("names", [Names(folders=False), Names(folders=True)], ids=["native", "folders"])
def test_no_two_keys_have_one_name(names: Names) -> None:
    assert len({names.name(key) for key in HOSTILE_KEYS}) == len(HOSTILE_KEYS)


def test_plain_keys_are_their_own_names() -> None:
    for key in ("a.jpg", "photos/2024/a.jpg", "é/ü.txt", ".env", "a b/c+d.e"):
        assert Names(folders=True).name(key) == key
    for key in ("a", "a//b", "a/", "/a", "a/../b", "x" * 300, "a%2Fb", "\x00"):
        assert Names(folders=False).name(key) == key
    for key in ("a", "a/b", "v1.2/a.jpg", "a//b.c", "a\\b.c", ".uploads", ".portable", "a.versions", AREA + "61."):
        assert Names(folders=True).name(key).startswith(AREA)
    with pytest.raises(LimitExceeded, match="S3 refuses"):
        Names(folders=False).name("a/../../b")


@given(st.dictionaries(keys.map(str.lower), st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_metadata_comes_back(metadata: dict[str, str]) -> None:
    packed = PLAIN.pack(metadata)
    assert PLAIN.unpack(packed) == metadata
    assert all(value.isascii() and value.isprintable() for value in packed.values())


def test_metadata_is_packed_where_headers_cannot_carry_it() -> None:
    assert PLAIN.pack({"a": "b", "c-d": "1 2"}) == {"a": "b", "c-d": "1 2"}
    for text in HOSTILE_TEXTS:
        assert PLAIN.unpack(PLAIN.pack({"a": text})) == {"a": text}
    assert set(PLAIN.pack({"content-type": "x", PACKED: "y"})) == {PACKED}
    assert PLAIN.unpack({PACKED: "not ours"}) == {PACKED: "not ours"}
    assert PLAIN.key_in(PLAIN.pack({}, key="é/\x00")) == "é/\x00"
    assert PLAIN.key_in({}) is None


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "..", "a/../b", "./a", "a/.", "\x00", "a\nb"])
def test_obstore_gets_no_key_that_it_changes(key: str) -> None:
    assert not DataPlane.carries(key)


def test_a_time_limit_has_a_rung_below_it() -> None:
    assert rung(60, 60) == 60
    assert rung(0.01, 60) == 0.125
    for timeout in (0.2, 1.0, 1.9, 59.0, 61.0, 1000.0):
        assert timeout / 2 < rung(timeout, 60.0) <= timeout


class FolderServer:
    """Lists as SeaweedFS does: one folder at a time, by bare names, files and folders of one name as two entries."""

    def __init__(self, stored: list[str]) -> None:
        self._stored = stored

    def call(self, operation: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
        assert operation == "list_objects_v2"
        prefix, after = arguments["Prefix"], arguments.get("StartAfter", "")
        folder = prefix.rpartition("/")[0] + "/" if "/" in prefix else ""
        found: set[tuple[str, bool]] = set()
        for key in self._stored:
            if key.startswith(prefix):
                name, slash, _ = key[len(folder) :].partition("/")
                if folder + name > after:
                    found.add((folder + name, bool(slash)))
        ordered = sorted(found)
        page = ordered[: arguments["MaxKeys"]]
        return {
            "Contents": [
                {"Key": name, "Size": 0, "ETag": '"e"', "LastModified": datetime.now(UTC)}
                for name, is_folder in page
                if not is_folder
            ],
            "CommonPrefixes": [{"Prefix": f"{name}/"} for name, is_folder in page if is_folder],
            "IsTruncated": len(ordered) > len(page),
        }


@given(
    st.sets(st.text("ab-./0é", min_size=1, max_size=6), max_size=12),
    st.text("ab-/é", max_size=3),
    st.text("ab-./0é", max_size=4),
    st.sampled_from([None, "/", "-", "a"]),
)
def test_folders_are_listed_in_the_order_of_keys(
    some: set[str], prefix: str, after: str, delimiter: str | None
) -> None:
    stored = sorted(key for key in some if "//" not in key and key[0] != "/" and key[-1] != "/")
    calls: Any = FolderServer(stored)
    listing = S3Listing(calls, Names(folders=True), size=2, timeout=1, key_of=lambda _: None)
    expected: list[tuple[str, bool]] = []
    for key in stored:
        if key.startswith(prefix) and key > after:
            at = -1 if delimiter is None else key.find(delimiter, len(prefix))
            item = (key, False) if delimiter is None or at < 0 else (key[: at + len(delimiter)], True)
            if item not in expected:
                expected.append(item)
    items: list[ObjectInfo | Prefix] = list(listing.items(prefix, delimiter, after.encode()))
    assert [(item.key, isinstance(item, Prefix)) for item in items] == expected
