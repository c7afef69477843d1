"""A kind of resource for the tests of the core: its driver does what it is told, and counts."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar

from portable import _concurrency as plain
from portable.aio import _concurrency as twin
from portable.aio.resource import Resource as AioResource
from portable.bindings import Binding, Options, Shared
from portable.capabilities import QueueCapabilities
from portable.contracts import QueueContract
from portable.hooks import Hook
from portable.quantities import Duration
from portable.resource import Resource
from portable.urls import Url

CAPABILITIES = QueueCapabilities(delay=True, peek=True)


class Driver:
    capabilities = CAPABILITIES
    native = "the vendor's client"

    def __init__(self) -> None:
        self.opened = self.closed = self.checked = 0
        self.failing: list[Exception] = []
        self.begun = threading.Event()
        self.opening = threading.Event()
        self.opening.set()

    def open(self) -> None:
        self.begun.set()
        assert self.opening.wait(60)
        self.opened += 1
        if self.failing:
            raise self.failing.pop()

    def close(self) -> None:
        self.closed += 1

    def check(self, *, write: bool, timeout: float) -> None:
        self.checked += 1
        if self.failing:
            raise self.failing.pop()


class Instant(Driver):
    blocking = False


class Thing(Resource[Any]):
    kind: ClassVar[str] = "queue"

    @plain.operation
    def do(self, work: Callable[[], Any], *, timeout: float | None = None) -> Any:
        return work()

    @plain.operation
    def nested(self, work: Callable[[], Any]) -> Any:
        return self.do(work)

    @plain.iteration
    def steps(self, work: Callable[[int], Any], count: int) -> Iterator[Any]:
        for number in range(count):
            yield work(number)


class AioThing(AioResource[Any]):
    kind: ClassVar[str] = "queue"

    @twin.operation
    async def do(self, work: Callable[[], Any], *, timeout: float | None = None) -> Any:
        return await work()

    @twin.long_operation
    async def do_long(self, work: Callable[[], Any], *, timeout: float | None = None) -> Any:
        return await work()

    @twin.operation
    async def nested(self, work: Callable[[], Any]) -> Any:
        return await self.do(work)

    @twin.iteration
    async def steps(self, work: Callable[[int], Any], count: int) -> AsyncIterator[Any]:
        for number in range(count):
            yield await work(number)


def binding(*, timeout: float = 60.0, needs: tuple[str, ...] = ()) -> Binding[Options]:
    return Binding(
        resource="jobs",
        kind="queue",
        name="acme-jobs",
        url=Url.parse("acme://user:hidden@host/acme-jobs"),
        options=Options(),
        contract=QueueContract(timeout=Duration(timeout), needs=needs),
        create=True,
        shared=Shared(),
    )


def thing(driver: Driver, *, hooks: tuple[Hook, ...] = (), strict: bool = False, needs: tuple[str, ...] = ()) -> Thing:
    return Thing(binding(needs=needs), lambda: driver, host=plain.Host(), hooks=hooks, strict=strict)


def aio_thing(
    driver: Driver, *, host: twin.Host | None = None, timeout: float = 60.0, hooks: tuple[Hook, ...] = ()
) -> AioThing:
    host = host or twin.Host()
    return AioThing(binding(timeout=timeout), lambda: host.face(driver), host=host, hooks=hooks)
