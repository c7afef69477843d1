"""What a key, headers and metadata may be, and the checksums of parts."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable import object_keys
from portable.checksums import combine, crc32_of, named
from portable.errors import InvalidArgument
from portable.objects import Condition, ObjectHeaders


@given(st.lists(st.binary(max_size=70)))
def test_the_checksum_of_a_whole_comes_from_its_parts(parts: list[bytes]) -> None:
    assert combine((crc32(part), len(part)) for part in parts) == crc32(b"".join(parts))


def test_large_parts_combine() -> None:
    first, second = bytes(3_000_000), b"x" * 2_000_001
    assert combine([(crc32(first), len(first)), (crc32(second), len(second))]) == crc32(first + second)


def test_checksums_have_names() -> None:
    assert named(0xCBF43926) == "crc32:cbf43926"
    assert crc32_of("crc32:cbf43926") == 0xCBF43926
    assert crc32_of("crc64nvme:00") is None
    assert crc32_of(None) is None


@pytest.mark.parametrize("key", ["a", "a" * 1024, "é" * 512, "\x00", "//", "😀" * 256])
def test_keys_of_up_to_1024_bytes_are_keys(key: str) -> None:
    object_keys.check_key(key)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "empty"),
        ("a" * 1025, "1025"),
        ("é" * 513, "1026"),
        ("\udc80", r"U\+DC80"),
        (b"a", "bytes"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_key_is_named(key: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        object_keys.check_key(key)


def test_headers_are_gathered() -> None:
    assert object_keys.headers(None) == ObjectHeaders()
    found = object_keys.headers("text/plain", metadata={"A-B": "c"}, content_language="de")
    assert found == ObjectHeaders(content_type="text/plain", metadata={"a-b": "c"}, content_language="de")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"content_type": "a\r\nb"}, r"content_type holds '\\r'"),
        ({"cache_control": "é"}, "printable ASCII"),
        ({"content_encoding": 5}, "not int"),
        ({"metadata": {"a": None}}, "NoneType"),
        ({"metadata": {"A": "1", "a": "2"}}, "twice"),
        ({"metadata": {"": "1"}}, "empty"),
        ({"metadata": {"\ud800": "1"}}, r"U\+D800"),
        ({"metadata": {"a": "\ud800"}}, r"the metadata 'a' .* U\+D800"),
    ],
)
def test_what_is_no_header_is_named(how: Any, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        object_keys.headers(**how)


def test_conditions() -> None:
    assert object_keys.condition(False, None) is None
    assert object_keys.condition(True, None) == Condition(absent=True)
    assert object_keys.condition(False, "e") == Condition(etag="e")
    unfit: Any = 5
    with pytest.raises(InvalidArgument, match="int"):
        object_keys.condition(False, unfit)
    with pytest.raises(InvalidArgument, match="exclude"):
        object_keys.condition(True, "e")
