"""From what an application sends to what a driver takes: checked against every rule, and encoded.

Nothing here does I/O, so that whatever is refused is refused before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from portable.errors import InvalidArgument, LimitExceeded
from portable.messages import Outgoing
from portable.quantities import LONGEST
from portable.wire import RESERVED

if TYPE_CHECKING:
    from portable.limits import Guard

__all__ = ["BodyCodec", "Composer", "at_least_one", "seconds", "several"]

LARGEST_COUNT = 2**31 - 1


def seconds(value: float, what: str) -> float:
    """Check a number of seconds that an application gave.

    Raises:
        InvalidArgument: it is no number, negative.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(f"{what}={value!r:.40} is not a number of seconds") from None
    if not 0 <= number < LONGEST:
        raise InvalidArgument(f"{what}={value!r} is not a number of seconds from 0 up to 3,000 years")
    return number


def at_least_one(value: object, what: str) -> int:
    """Check a number of things that an application asks for; what is beyond counting is cut to what is not.

    Raises:
        InvalidArgument: it is no int, or less than 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgument(f"{what}={value!r} is not a whole number from 1 upwards")
    return min(value, LARGEST_COUNT)


def several(entries: Any, what: str) -> Iterable[Any]:
    """Check that a batch is one, and not a single body, which would be taken apart.

    Raises:
        InvalidArgument: it is a single body, or cannot be iterated over.
    """
    if isinstance(entries, (str, bytes, bytearray, memoryview)) or not isinstance(entries, Iterable):
        raise InvalidArgument(f"{what} is several, not one {type(entries).__name__}; put it into a list")
    return entries


class BodyCodec:
    """Bodies as bytes: as they are, or as JSON of a type.

    Args:
        type: what bodies are, or None for bytes.
    """

    __slots__ = ("_decode", "_encode", "plain")

    def __init__(self, type: Any = None) -> None:
        self.plain = type is None or type is bytes
        if not self.plain:
            self._encode = msgspec.json.Encoder(decimal_format="string").encode
            self._decode = msgspec.json.Decoder(type).decode

    def encode(self, body: Any) -> bytes:
        """Encode a body.

        Raises:
            InvalidArgument: it is not what this resource carries.
        """
        if self.plain:
            return _as_bytes(body)
        try:
            return self._encode(body)
        except (TypeError, ValueError, msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
            raise InvalidArgument(f"the body, a {type(body).__name__}, cannot be written as JSON: {error}") from error

    def decode(self, body: bytes) -> Any:
        """Decode a body.

        Raises:
            ValueError: it does not fit the type (`msgspec.DecodeError` and `ValidationError` are such).
        """
        return body if self.plain else self._decode(body)


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the body is a str that is not valid UTF-8: {error}") from error
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    raise InvalidArgument(
        f"a body is bytes or str, not {type(body).__name__}; open the resource with type= to send other values as JSON"
    )


class Composer:
    """Makes what one queue or topic sends.

    Args:
        codec: how bodies become bytes.
        require: refuses a capability that is lacking or not declared: `require(feature, what)`.
        ordered: whether every message needs an ordering key, None where it may have one or not.
        guard: the limits of other services that are kept, or None.
        max_bytes: what the backend takes of body and attributes together, or None.
        max_delay: the longest delay that the backend takes in seconds, or None.
        resource: the resource's name, for errors that say what to change.
    """

    def __init__(
        self,
        codec: BodyCodec,
        require: Callable[[str, str], None],
        *,
        ordered: bool | None,
        guard: Guard | None,
        max_bytes: int | None,
        max_delay: float | None,
        resource: str,
    ) -> None:
        self._encode = codec.encode
        self._require = require
        self._ordered = ordered
        self._guard = guard
        self._max_bytes = max_bytes
        self._max_delay = max_delay
        self._resource = resource

    def outgoing(self, entry: Any) -> Outgoing:
        """Make an entry of a batch an `Outgoing` with bytes, checked.

        Raises:
            InvalidArgument: some part of it is not what any backend takes.
            LimitExceeded: it is larger or later than this backend, or a guarded cloud, takes.
            Unsupported: it needs a capability that is lacking or not declared.
        """
        if isinstance(entry, Outgoing):
            return self.compose(entry.body, entry.attributes, entry.delay, entry.ordering_key, entry.dedup_id)
        return self.compose(entry, None, 0.0, None, None)

    def compose(
        self,
        body: Any,
        attributes: Mapping[str, str] | None,
        delay: float,
        ordering_key: str | None,
        dedup_id: str | None,
    ) -> Outgoing:
        """Check and encode one message; raises as `outgoing` does."""
        return self.checked(self._encode(body), attributes, delay, ordering_key, dedup_id)

    def checked(
        self,
        body: bytes,
        attributes: Mapping[str, str] | None,
        delay: float,
        ordering_key: str | None,
        dedup_id: str | None,
        *,
        ours: Mapping[str, str] | None = None,
    ) -> Outgoing:
        """Check a message whose body is encoded already; `ours` are attributes of `portable.wire` to add."""
        if attributes:
            attributes = checked_attributes(attributes)
        if delay or delay.__class__ is not float:
            delay = self._checked_delay(delay)
        if ordering_key is not None or self._ordered:
            self._check_order(ordering_key, delay)
        if dedup_id is not None:
            check_text(dedup_id, "dedup_id")
            self._require("dedup", "dedup_id=")
        whole = {**attributes, **(ours or {})} if attributes else dict(ours) if ours else None
        if self._guard is not None:
            self._guard.message(body, whole, delay, ordering_key, dedup_id)
        if self._max_bytes is not None:
            self._check_size(body, whole)
        return Outgoing(body, whole, delay, ordering_key, dedup_id)

    def _checked_delay(self, delay: float) -> float:
        delay = seconds(delay, "delay")
        if delay:
            self._require("delay", "delay=")
            if self._max_delay is not None and delay > self._max_delay:
                raise LimitExceeded(f"a delay of {delay:g} s; this backend takes at most {self._max_delay:g} s")
        return delay

    def _check_order(self, key: str | None, delay: float) -> None:
        if key is None:
            raise InvalidArgument("an ordered queue needs an ordering_key for every message")
        check_text(key, "ordering_key")
        self._require("ordered", "ordering_key=")
        if self._ordered is False:
            raise InvalidArgument(
                "an ordering_key keeps no order in a queue that is not ordered; "
                f"set ordered = true in [resources.{self._resource}]"
            )
        if delay:
            raise InvalidArgument("an ordered queue takes no delay: it would hold up, or break, the order of its key")

    def _check_size(self, body: bytes, attributes: Mapping[str, str] | None) -> None:
        size = len(body)
        if attributes:
            size += sum(len(name.encode()) + len(value.encode()) for name, value in attributes.items())
        if size > (self._max_bytes or size):
            raise LimitExceeded(
                f"body and attributes are {size:,} bytes together; this backend takes at most {self._max_bytes:,}; "
                "send less, or name a bucket in `offload`"
            )


def check_text(text: Any, what: str) -> None:
    if not isinstance(text, str) or not text:
        raise InvalidArgument(f"{what}={text!r} is not a string of at least one character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"{what} is not valid UTF-8: {error}") from error


def checked_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(attributes, Mapping):
        raise InvalidArgument(f"attributes are a mapping of names to values, not {type(attributes).__name__}")
    for name, value in attributes.items():
        check_text(name, "the name of an attribute")
        if name.startswith(RESERVED):
            raise InvalidArgument(f"the attribute {name!r}: names that start with {RESERVED!r} are reserved; rename it")
        if not isinstance(value, str):
            raise InvalidArgument(f"the attribute {name!r} is {type(value).__name__}; values are strings")
        if not value.isascii():
            check_text(value, f"the attribute {name!r}")
    return dict(attributes)
