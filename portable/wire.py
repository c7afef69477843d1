"""How messages carry what a backend has no place for; `docs/wire-formats/queue.md` says the same for other languages.

Attribute names that start with `portable-` are ours: an application cannot set them and does not see them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = [
    "DEAD_ID",
    "DEAD_QUEUE",
    "DEAD_REASON",
    "OFFLOADED",
    "PACKED",
    "RESERVED",
    "dead_letter_attributes",
    "dead_letter_name",
    "own_attributes",
    "pack_attributes",
    "unpack_attributes",
]

RESERVED = "portable-"
"""What every attribute name of ours starts with."""

DEAD_REASON = "portable-dead-reason"
"""Why a dead letter is dead, in words."""

DEAD_ID = "portable-dead-id"
"""The id that a dead letter had in its own queue."""

DEAD_QUEUE = "portable-dead-queue"
"""The queue that a dead letter comes from."""

OFFLOADED = "portable-offloaded"
"""The key of the object that holds the body."""

PACKED = "portable-attributes"
"""The attributes beyond what the backend takes, as one JSON object."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def dead_letter_name(queue: str) -> str:
    """Give the physical name of the dead-letter queue that stands beside a queue."""
    return f"{queue}-dead"


def dead_letter_attributes(attributes: Mapping[str, str], *, queue: str, id: str, reason: str) -> dict[str, str]:
    """Give a message's attributes as it goes to the dead-letter queue.

    Args:
        attributes: what it had.
        queue: the resource that it could not be handled in.
        id: its id there.
        reason: why, in words; anything beyond 512 characters is cut.
    """
    return {**attributes, DEAD_REASON: reason[:512], DEAD_ID: id, DEAD_QUEUE: queue}


def own_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """Give the attributes that the application set: those without ours."""
    return {name: value for name, value in attributes.items() if not name.startswith(RESERVED)}


def pack_attributes(attributes: Mapping[str, str], *, native: int) -> dict[str, str]:
    """Make at most `native` attributes of any number: the last ones travel as JSON in one.

    Ours stay native, and then the first of the application's, which a filter may name.
    """
    if len(attributes) <= native:
        return dict(attributes)
    # False sorts first: ours, in the order they have.
    ordered = sorted(attributes, key=lambda name: not name.startswith(RESERVED))
    kept, packed = ordered[: native - 1], ordered[native - 1 :]
    text = _encode({name: attributes[name] for name in packed}).decode()
    return {**{name: attributes[name] for name in kept}, PACKED: text}


def unpack_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """Undo `pack_attributes`; what is not packed by us, or not readable, stays as it is."""
    found = dict(attributes)
    text = found.pop(PACKED, None)
    if text is None:
        return found
    try:
        return {**found, **_decode(text)}
    except msgspec.DecodeError:
        return dict(attributes)
