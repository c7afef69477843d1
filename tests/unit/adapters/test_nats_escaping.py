"""How text becomes a token of a subject or a header of a message on NATS."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from portable_nats.escaping import quoted, read_attributes, token, unquoted, written_attributes

# Half a surrogate pair is no text.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT.filter(bool), TEXT.filter(bool))
def test_tokens_are_apart_and_fit_a_subject(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", token(one))
    assert (token(one) == token(other)) == (one == other)
    decoded = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), token(one).encode())
    assert decoded.decode() == one


@given(st.dictionaries(TEXT.filter(bool), TEXT))
def test_attributes_come_back(attributes: dict[str, str]) -> None:
    headers = written_attributes(attributes) or {}
    for name, value in headers.items():
        # What nats-py would change, or the server take for its own, is not written.
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", name)
        assert not name.startswith("Nats-")
        assert value == value.strip()
        assert value
        assert re.fullmatch(r"[ -\x7f]+", value)
    assert read_attributes(headers) == attributes


def test_names_of_the_server_and_ours_are_packed() -> None:
    attributes = {"Nats-TTL": "1s", "Portable-Id": "x", "Status": "404", "Description": "d", "type": "order.paid"}
    headers = written_attributes(attributes) or {}
    assert set(headers) == {"type", "Portable-Attributes"}
    assert read_attributes(headers) == attributes


def test_headers_of_another_program_are_attributes() -> None:
    assert read_attributes(None) == {}
    assert read_attributes({"Nats-Msg-Id": "1", "Portable-Id": "2", "A": "b"}) == {"A": "b"}
    assert read_attributes({"Portable-Attributes": "[1]"}) == {"Portable-Attributes": "[1]"}


@given(TEXT)
def test_keys_come_back(key: str) -> None:
    assert quoted(key).isascii()
    assert unquoted(quoted(key)) == key


def test_a_key_of_another_program_stays_as_it_is() -> None:
    assert unquoted("plain") == "plain"
