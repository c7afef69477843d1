"""What of a message goes beside its body: attributes of ours, packed ones, and the rules for those of applications."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable import errors, wire
from portable.composing import BodyCodec, Composer
from portable.limits import guard
from portable.messages import Outgoing

ATTRIBUTES = st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda n: not n.startswith("portable-")), st.text())


def allow(feature: str, what: str) -> None:
    pass


def composer(**changes: object) -> Composer:
    rules: dict[str, object] = {
        "ordered": None,
        "guard": None,
        "max_bytes": None,
        "max_delay": None,
        "resource": "jobs",
        **changes,
    }
    return Composer(BodyCodec(), allow, **rules)  # type: ignore[arg-type]  # each of its own type


@given(ATTRIBUTES, st.integers(1, 10))
def test_packed_attributes_come_back(attributes: dict[str, str], native: int) -> None:
    packed = wire.pack_attributes(attributes, native=native)
    assert len(packed) <= native
    assert wire.unpack_attributes(packed) == attributes


def test_the_first_attributes_and_ours_stay_native() -> None:
    attributes = {f"name-{number}": str(number) for number in range(12)} | {wire.DEAD_ID: "7"}
    packed = wire.pack_attributes(attributes, native=10)
    assert list(packed) == [wire.DEAD_ID, *(f"name-{number}" for number in range(8)), wire.PACKED]
    assert msgspec.json.decode(packed[wire.PACKED]) == {f"name-{number}": str(number) for number in range(8, 12)}


@pytest.mark.parametrize("text", ["", "not JSON", "[1]", '{"a": 1}'])
def test_what_we_did_not_pack_stays_as_it_is(text: str) -> None:
    attributes = {wire.PACKED: text, "a": "b"}
    assert wire.unpack_attributes(attributes) == attributes


def test_a_dead_letter_keeps_its_attributes() -> None:
    attributes = wire.dead_letter_attributes({"a": "b"}, queue="jobs", id="7", reason="r" * 1000)
    assert attributes == {"a": "b", wire.DEAD_QUEUE: "jobs", wire.DEAD_ID: "7", wire.DEAD_REASON: "r" * 512}
    assert wire.own_attributes(attributes) == {"a": "b"}


def test_size_counts_attributes() -> None:
    rules = composer(max_bytes=10)
    assert rules.compose(b"12345678", {"a": "b"}, 0.0, None, None).attributes == {"a": "b"}
    with pytest.raises(errors.LimitExceeded, match=r"11 bytes.*at most 10.*offload"):
        rules.compose(b"123456789", {"a": "b"}, 0.0, None, None)
    with pytest.raises(errors.LimitExceeded):
        rules.compose(b"12345678", {"a": "é"}, 0.0, None, None)


def test_delay_has_its_limit() -> None:
    rules = composer(max_delay=900.0)
    assert rules.compose(b"", None, 900, None, None).delay == 900.0
    with pytest.raises(errors.LimitExceeded, match="900"):
        rules.compose(b"", None, 901, None, None)


def test_guarded_limits_are_kept() -> None:
    rules = composer(guard=guard(["aws"], "queue"))
    rules.compose(b"x" * 1000, None, 0.0, None, None)
    with pytest.raises(errors.LimitExceeded, match="max_message_bytes"):
        rules.compose(b"x" * (1024 * 1024 + 1), None, 0.0, None, None)
    with pytest.raises(errors.LimitExceeded, match="max_delay_seconds"):
        rules.compose(b"", None, 901.0, None, None)


def test_outgoing_is_copied_not_shared() -> None:
    attributes = {"a": "b"}
    outgoing = composer().outgoing(Outgoing(bytearray(b"x"), attributes))
    attributes["a"] = "changed"
    assert outgoing == Outgoing(b"x", {"a": "b"})


def test_typed_bodies_that_cannot_be_written() -> None:
    codec = BodyCodec(dict)
    with pytest.raises(errors.InvalidArgument, match="JSON"):
        codec.encode({"a": object()})
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(errors.InvalidArgument):
        codec.encode(loop)
    assert codec.decode(codec.encode({"a": 1})) == {"a": 1}
