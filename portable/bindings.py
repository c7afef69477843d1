"""What a driver is made from: one resource's contract, its URL and options, and what it shares with its neighbours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from portable.contracts import Contract
from portable.urls import Url

__all__ = ["Binding", "Options", "Shared"]

T = TypeVar("T")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a driver's URL or binding table; a driver derives its own, whose docstring shows its URL."""

    def __repr__(self) -> str:
        """Name the options that are set, and no value: some are secrets, and any may have come from a reference."""
        return f"{type(self).__name__}({', '.join(self._set())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show the same where `rich` prints, which would list every value."""
        return [(name, ...) for name in self._set()]

    def _set(self) -> list[str]:
        return [field.name for field in msgspec.structs.fields(self) if getattr(self, field.name) != field.default]


O_co = TypeVar("O_co", bound=Options, covariant=True)


class Shared:
    """What the drivers of one `Cloud` share: each thing is made once, and closed with the cloud.

    A driver asks for it by a key of its own: `binding.shared.get(("memory", name), Space)`.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._things: dict[object, Any] = {}

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Give the thing kept under `key`, making it on the first call."""
        with self._lock:
            if key not in self._things:
                self._things[key] = make()
            thing: T = self._things[key]
            return thing

    def forget(self) -> None:
        """Drop the lock that a thread of a parent process may hold, after a fork."""
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close, newest first, every thing that has a `close`, and forget them all."""
        with self._lock:
            things = list(self._things.values())
            self._things.clear()
        for thing in reversed(things):
            close = getattr(thing, "close", None)
            if close is not None:
                close()


class Binding(Generic[O_co]):
    """One resource, as its driver sees it.

    Attributes:
        resource: its name in the config.
        kind: `"bucket"`, `"queue"` …
        name: its physical name at the backend.
        url: where it is; prints without secrets.
        options: the driver's own `Options`, from the URL's query and the binding's table.
        contract: what the application asks of it.
        create: whether what is missing is made on first use.
        topic: for a subscription, the binding of its topic.
        subscriptions: for a topic, the bindings of the subscriptions that the config declares for it.
        shared: what the drivers of one `Cloud` share.
        clock: the wall clock, in seconds since the epoch; tests of applications move it.
        on_clock_moved: registers a callback that runs when a test moves the clock, so that waits look again.
    """

    def __init__(
        self,
        *,
        resource: str,
        kind: str,
        name: str,
        url: Url,
        options: O_co,
        contract: Contract,
        create: bool,
        shared: Shared,
        topic: Binding[Any] | None = None,
        subscriptions: tuple[Binding[Any], ...] = (),
        clock: Callable[[], float] = time.time,
        on_clock_moved: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self.resource = resource
        self.kind = kind
        self.name = name
        self.url = url
        self.options = options
        self.contract = contract
        self.create = create
        self.shared = shared
        self.topic = topic
        self.subscriptions = subscriptions
        self.clock = clock
        self.on_clock_moved = on_clock_moved

    def beside(self, *, kind: str, resource: str, name: str, contract: Contract) -> Binding[O_co]:
        """Give the binding of another resource in the same place: same URL and options, a name of its own."""
        return Binding(
            resource=resource,
            kind=kind,
            name=name,
            url=self.url,
            options=self.options,
            contract=contract,
            create=self.create,
            shared=self.shared,
            clock=self.clock,
            on_clock_moved=self.on_clock_moved,
        )

    def __repr__(self) -> str:
        """Name the resource and where it is, without secrets."""
        return f"<Binding {self.resource!r} {self.kind} {self.url}>"
