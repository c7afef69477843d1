"""What stands around each call to an object store: its errors in the words of the call, and what is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from portable.errors import AlreadyExists, NotFound, PortableError, PreconditionFailed
from portable.objects import Condition
from portable_objectstore.failures import FailedError, Failure

__all__ = ["Attempt", "Attempts", "unmet"]

T = TypeVar("T")

# What S3 says of a multipart upload; the others' drivers say it themselves.
_NO_UPLOAD = "NoSuchUpload"


def unmet(key: str) -> PreconditionFailed:
    """Give the error for a version that an object does not have."""
    return PreconditionFailed(f"the object {key!r} is missing or not of this version any more")


class Attempts:
    """The attempts at one bucket.

    Args:
        translated: gives the error of ours for a failure, by the vendor's codes.
        is_refusal: whether nothing was done, and the same request may succeed a moment later.
        retries: how often a write with a condition is tried again; the clients repeat all other calls themselves.
    """

    def __init__(
        self, translated: Callable[[Failure], PortableError], *, is_refusal: Callable[[Failure], bool], retries: int
    ) -> None:
        self.translated = translated
        self._is_refusal = is_refusal
        self._retries = retries

    def at(self, key: str) -> Attempt:
        """Turn what fails in a block into errors of ours that name the object."""
        return Attempt(self, key)

    def placed(self, error: FailedError, key: str, condition: Condition | None = None) -> PortableError:
        """Give the error of ours, in the words of the call."""
        ours = self.translated(error.failure)
        is_missing = type(ours) is NotFound and error.failure.code != _NO_UPLOAD
        if condition is not None:
            if is_missing:
                return unmet(key)
            if isinstance(ours, (PreconditionFailed, AlreadyExists)) and condition.absent:
                return AlreadyExists(f"there is an object {key!r} already")
        if isinstance(ours, PreconditionFailed):
            return unmet(key)
        return NotFound(f"there is no object {key!r}") if is_missing else ours

    def settled(self, key: str, condition: Condition | None, call: Callable[[float], T], timeout: float) -> T:
        """Make a write; one with a condition again only where the server said that it did nothing.

        Args:
            key: what it writes.
            condition: its condition, or None.
            call: makes it, in so many seconds.
            timeout: for all attempts, in seconds.
        """
        until = time.monotonic() + timeout
        for attempt in range(self._retries + 1):
            left = timeout if attempt == 0 else until - time.monotonic()
            try:
                return call(left)
            except FailedError as error:
                pause = random.uniform(0.0, 0.05 * 2**attempt)  # noqa: S311 (spreads attempts, guards nothing)
                again = condition is not None and attempt < self._retries and self._is_refusal(error.failure)
                if not again or time.monotonic() + pause >= until:
                    raise self.placed(error, key, condition) from error.__cause__
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


class Attempt:
    """One attempt, as a context manager."""

    __slots__ = ("_attempts", "_key")

    def __init__(self, attempts: Attempts, key: str) -> None:
        self._attempts = attempts
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FailedError):
            raise self._attempts.placed(error, self._key) from error.__cause__
