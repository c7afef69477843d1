"""The time that a call of several steps has left."""

from __future__ import annotations

from time import monotonic

from portable.errors import DeadlineExceeded, InvalidArgument

__all__ = ["Deadline", "check_timeout"]


def check_timeout(timeout: object) -> None:
    """Check the `timeout` that a call was given.

    Raises:
        InvalidArgument: it is neither None nor a number of seconds.
        DeadlineExceeded: it is less than 0, as what is left of a time that is over.
    """
    if timeout is None:
        return
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or timeout != timeout:  # noqa: PLR0124 (NaN)
        raise InvalidArgument(f"timeout={timeout!r} is not a number of seconds")
    if timeout < 0:
        raise DeadlineExceeded("the timeout ran out before anything was sent")


class Deadline:
    """How long each step of a call may take.

    Args:
        timeout: seconds for the whole call, or None for no bound of the whole.
        step: seconds for each step, where the whole has no bound.
    """

    __slots__ = ("_at", "_step")

    def __init__(self, timeout: float | None, step: float) -> None:
        self._step = step
        self._at = None if timeout is None else monotonic() + timeout

    def left(self) -> float:
        """Give the seconds that the next step may take.

        Raises:
            DeadlineExceeded: none are left.
        """
        if self._at is None:
            return self._step
        left = self._at - monotonic()
        if left <= 0:
            raise DeadlineExceeded("the timeout ran out before everything was done")
        return left
