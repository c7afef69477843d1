"""Faults that tests of applications order: operations that fail, are slow, or fail once they were applied."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portable.errors import InvalidArgument, PortableError

if TYPE_CHECKING:
    from portable.hooks import Running

__all__ = ["Faults"]

_ANY_NUMBER = -1

_OF_ITS_PARTS = {"collection": {"page", "first", "count"}}
"""Operations of a kind's queries and the like, which are no methods of its own."""


@dataclass(slots=True)
class _Fault:
    error: type[PortableError] | PortableError | None
    delay: float
    applied: bool
    times: int

    def make(self) -> PortableError | None:
        """Make the error; a new one each time, so that none carries the traces of another."""
        if self.error is None:
            return None
        template = self.error if isinstance(self.error, PortableError) else self.error("ordered by portable_faults")
        error = type(template).__new__(type(template), *template.args)
        error.args = template.args
        error.__dict__.update(template.__dict__)
        error.maybe_applied = error.maybe_applied or self.applied
        return error


@dataclass(slots=True)
class _Begun:
    """One operation under way."""

    delay: float
    error: PortableError | None

    def end(self, error: BaseException | None) -> None:
        """Fail what was applied."""
        if error is None and self.error is not None:
            raise self.error


_UNHARMED = _Begun(0.0, None)


class Faults:
    """Orders faults, as `"resource.operation"`: the names of the config, and of the method that the application calls.

    What a message does is an operation of its queue (`"jobs.ack"`), what a stream's consumer does one of its stream
    (`"clicks.poll"`), and reading a query one of its collection (`"users.first"`). Faults of one operation take their
    turns in the order in which they were ordered. It is a `portable.hooks.Hook`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ordered: dict[tuple[str, str], list[_Fault]] = {}
        self._kinds: dict[str, str] | None = None
        self._any_name = False

    def fail(self, operation: str, error: type[PortableError] | PortableError, *, times: int | None = 1) -> None:
        """Let an operation fail before anything is done.

        Args:
            operation: `"resource.operation"`, such as `"jobs.send"`.
            error: the class of the error, or an error that is copied.
            times: how often; None for always.

        Raises:
            InvalidArgument: there is no such resource or operation, or `error` is none of `portable.errors`.
        """
        self._order(operation, _Fault(_checked(error), 0.0, applied=False, times=_times(times)))

    def slow(self, operation: str, seconds: float, *, times: int | None = None) -> None:
        """Let an operation start so many seconds late, by the real clock; the other arguments are those of `fail`.

        Args:
            operation: `"resource.operation"`.
            seconds: how late.
            times: how often; None for always.

        Raises:
            InvalidArgument: as for `fail`, or the seconds are fewer than 0.
        """
        if not seconds >= 0:
            raise InvalidArgument(f"slow({operation!r}, {seconds!r}): an operation is late by 0 seconds or more")
        self._order(operation, _Fault(None, float(seconds), applied=False, times=_times(times)))

    def apply_then_fail(
        self, operation: str, error: type[PortableError] | PortableError, *, times: int | None = 1
    ) -> None:
        """Let an operation happen, and then fail as if its answer was lost, with `maybe_applied` set.

        Args:
            operation: `"resource.operation"`.
            error: the class of the error, or an error that is copied.
            times: how often; None for always.

        Raises:
            InvalidArgument: as for `fail`.
        """
        self._order(operation, _Fault(_checked(error), 0.0, applied=True, times=_times(times)))

    def clear(self) -> None:
        """Forget every fault that is ordered."""
        with self._lock:
            self._ordered.clear()

    def begin(self, resource: str, kind: str, provider: str, operation: str) -> Running:  # noqa: ARG002 (a hook's signature)
        """Take the next fault of an operation, if one is ordered; `Cloud` calls this."""
        if not self._ordered:
            return _UNHARMED
        with self._lock:
            faults = self._ordered.get((resource, operation), [])
            fault = faults[0] if faults else None
            if fault is None:
                return _UNHARMED
            if fault.times != _ANY_NUMBER:
                fault.times -= 1
                if fault.times == 0:
                    faults.pop(0)
        error = fault.make()
        if error is not None and not fault.applied:
            raise error
        return _Begun(fault.delay, error)

    def act_on(self, declared: Mapping[str, str], *, any_name: bool) -> None:
        """Learn which resources there are; the fixtures call this.

        Args:
            declared: name → kind.
            any_name: whether there are others too, because no config declares any.
        """
        self._kinds = {**(self._kinds or {}), **declared}
        self._any_name = any_name

    def _order(self, operation: str, fault: _Fault) -> None:
        from portable.config.source import nearest

        resource, dot, method = operation.rpartition(".")
        if not dot or not resource or not method:
            raise InvalidArgument(f'{operation!r} is not of the form "resource.operation", such as "jobs.send"')
        if self._kinds is None:
            raise InvalidArgument("faults act on the resources of portable_cloud; take that fixture too")
        if resource not in self._kinds and not self._any_name:
            raise InvalidArgument(f"there is no resource {resource!r}{nearest(resource, self._kinds)}")
        known = _operations(self._kinds.get(resource))
        if method not in known:
            what = f"a {self._kinds[resource]}" if resource in self._kinds else "a resource"
            raise InvalidArgument(f"{what} has no operation {method!r}{nearest(method, known)}")
        with self._lock:
            self._ordered.setdefault((resource, method), []).append(fault)


def _operations(kind: str | None) -> set[str]:
    """Name the operations of a kind, or of all kinds: the methods that were made operations."""
    from portable.cloud import KINDS, portable_type

    found: set[str] = set()
    for one in KINDS if kind is None else [kind]:
        methods = inspect.getmembers(portable_type(one), inspect.isfunction)
        found |= {name.lstrip("_") for name, method in methods if hasattr(method, "__wrapped__")}
        found |= _OF_ITS_PARTS.get(one, set())
    return found


def _checked(error: Any) -> type[PortableError] | PortableError:
    if isinstance(error, PortableError) or (isinstance(error, type) and issubclass(error, PortableError)):
        return error
    raise InvalidArgument(f"{error!r} is none of portable.errors, which are what operations raise")


def _times(times: int | None) -> int:
    if times is None:
        return _ANY_NUMBER
    if type(times) is not int or times < 1:
        raise InvalidArgument(f"times={times!r} is not a number from 1, or None for always")
    return times
