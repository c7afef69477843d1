"""Sync drivers under the async face, and async-only drivers under the sync one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from portable.bridges import stays_sync, undone_by
from portable.errors import Closed, NotFound
from portable.looped import Looped, LoopThread
from portable.threaded import Threaded
from portable.threads import Pool, in_own_thread

PATIENCE = 60.0
who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Blocking:
    """A sync driver whose calls stop until they are let go."""

    capabilities = "all"

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.undone: list[int] = []
        self.settled = threading.Event()
        self.steps_closed = threading.Event()

    def obtain(self, number: int) -> int:
        self.entered.release()
        assert self.go.wait(PATIENCE)
        if number < 0:
            self.settled.set()
            raise NotFound("nothing there")
        return number

    def _give_back(self, number: int) -> None:
        self.undone.append(number)
        self.settled.set()

    @undone_by(_give_back)
    def lease(self, number: int) -> int:
        return self.obtain(number)

    def wait_long(self, number: int) -> int:
        return self.obtain(number)

    def name(self) -> str:
        return f"{who.get()} in {threading.current_thread().name}"

    @stays_sync
    def plain(self) -> str:
        return self.name()

    def steps(self, count: int) -> Iterator[str]:
        try:
            for number in range(count):
                yield f"{number} in {threading.current_thread().name}"
        finally:
            self.steps_closed.set()

    def slow_steps(self) -> Iterator[int]:
        try:
            yield self.obtain(1)
        finally:
            self.steps_closed.set()


class Instant(Blocking):
    blocking = False


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("portable")}


async def acquired(semaphore: threading.Semaphore, times: int = 1) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(semaphore.acquire, timeout=PATIENCE)


async def seen(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE)


def test_a_pool_starts_no_thread_before_its_first_call_and_leaves_none() -> None:
    before = our_threads()
    pool = Pool(3)
    assert our_threads() <= before
    assert pool.submit(who.get).result(PATIENCE) == "nobody"
    assert len(our_threads() - before) == 1
    pool.close()
    assert our_threads() <= before
    pool.close()
    with pytest.raises(Closed, match="cloud is closed"):
        pool.submit(who.get)
    assert our_threads() <= before


def test_a_pool_is_bounded() -> None:
    before = our_threads()
    pool, driver = Pool(3), Blocking()
    calls = [pool.submit(driver.obtain, number) for number in range(20)]
    for _ in range(3):
        assert driver.entered.acquire(timeout=PATIENCE)
    assert not driver.entered.acquire(blocking=False)
    assert len(our_threads() - before) == 3
    driver.go.set()
    assert [call.result(PATIENCE) for call in calls] == list(range(20))
    pool.close()
    assert our_threads() <= before


def test_closing_a_pool_waits_for_the_calls_under_way() -> None:
    pool, driver = Pool(1), Blocking()
    call = pool.submit(driver.obtain, 1)
    assert driver.entered.acquire(timeout=PATIENCE)
    closing = threading.Thread(target=pool.close)
    closing.start()
    driver.go.set()
    closing.join(PATIENCE)
    assert call.done()
    assert call.result() == 1


def test_a_forgotten_pool_starts_anew() -> None:
    pool = Pool(1)
    pool.submit(who.get).result(PATIENCE)
    parents = pool._executor
    pool.forget()
    assert pool.submit(who.get).result(PATIENCE) == "nobody"
    pool.close()
    assert parents is not None
    parents.shutdown()


def test_a_thread_of_its_own_gives_the_result_the_error_and_the_context() -> None:
    who.set("caller")
    assert in_own_thread(who.get).result(PATIENCE) == "caller"
    driver = Blocking()
    driver.go.set()
    with pytest.raises(NotFound):
        in_own_thread(driver.obtain, -1).result(PATIENCE)


def test_methods_run_in_the_pool_in_the_context_of_the_caller() -> None:
    async def main() -> None:
        pool = Pool(2)
        face = Threaded(Blocking(), pool)
        who.set("somebody")
        assert (await face.name()).startswith("somebody in portable")
        assert face.plain() == f"somebody in {threading.current_thread().name}"
        assert face.capabilities == "all"
        assert face.name is face.name, "made once"
        with pytest.raises(AttributeError):
            _ = face.no_such_method
        pool.close()

    asyncio.run(main())


def test_what_never_blocks_is_called_in_place() -> None:
    async def main() -> None:
        pool = Pool(2)
        face = Threaded(Instant(), pool)
        assert threading.current_thread().name in await face.name()
        assert pool._executor is None
        driver = Instant()
        driver.go.set()
        with pytest.raises(NotFound):
            await Threaded(driver, pool).obtain(-1)

    asyncio.run(main())


@pytest.mark.parametrize("driver_class", [Blocking, Instant])
def test_what_waits_holds_no_thread_of_the_pool(driver_class: type[Blocking]) -> None:
    async def main() -> None:
        pool, driver = Pool(2), driver_class()
        face = Threaded(driver, pool)
        waiting = [asyncio.ensure_future(face.wait_long(number)) for number in range(10)]
        await acquired(driver.entered, 10)
        assert "in" in await face.name(), "the pool is free"
        driver.go.set()
        assert await asyncio.gather(*waiting) == list(range(10))
        pool.close()

    asyncio.run(main())


def test_what_a_cancelled_call_obtained_is_given_back() -> None:
    async def main() -> None:
        pool, driver = Pool(2), Blocking()
        call = asyncio.ensure_future(Threaded(driver, pool).lease(7))
        await acquired(driver.entered)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert driver.undone == [], "the thread still works"
        driver.go.set()
        await seen(driver.settled)
        assert driver.undone == [7]
        pool.close()

    asyncio.run(main())


def test_a_timed_out_call_is_given_back_too() -> None:
    async def main() -> None:
        pool, driver = Pool(2), Blocking()
        face = Threaded(driver, pool)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await face.lease(7)
        driver.go.set()
        await seen(driver.settled)
        pool.close()
        assert driver.undone == [7]

    asyncio.run(main())


def test_nothing_is_given_back_where_nothing_was_obtained() -> None:
    async def main() -> None:
        pool, driver = Pool(1), Blocking()
        face = Threaded(driver, pool)
        failing = asyncio.ensure_future(face.lease(-1))
        await acquired(driver.entered)
        queued = asyncio.ensure_future(face.lease(7))
        await asyncio.sleep(0)
        for call in (queued, failing):
            call.cancel()
        assert [type(one) for one in await asyncio.gather(queued, failing, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 2
        driver.go.set()
        await seen(driver.settled)
        pool.close()
        assert driver.undone == []
        assert not driver.entered.acquire(blocking=False), "what was cancelled in the queue never ran"

    asyncio.run(main())


def test_a_call_that_is_not_cancelled_gives_nothing_back() -> None:
    async def main() -> None:
        pool, driver = Pool(1), Blocking()
        driver.go.set()
        assert await Threaded(driver, pool).lease(7) == 7
        pool.close()
        assert driver.undone == []

    asyncio.run(main())


def test_a_generator_is_stepped_in_the_pool_and_closed() -> None:
    async def main() -> None:
        pool, driver = Pool(1), Blocking()
        face = Threaded(driver, pool)
        assert [step.split()[0] async for step in face.steps(3)] == ["0", "1", "2"]
        assert driver.steps_closed.is_set()
        driver.steps_closed.clear()
        steps = face.steps(3)
        assert (await anext(steps)).startswith("0 in portable")
        assert not driver.steps_closed.is_set()
        await steps.aclose()
        await seen(driver.steps_closed)
        pool.close()

    asyncio.run(main())


def test_a_generator_is_closed_once_a_cancelled_step_has_ended() -> None:
    async def main() -> None:
        pool, driver = Pool(1), Blocking()
        step = asyncio.ensure_future(anext(Threaded(driver, pool).slow_steps()))
        await acquired(driver.entered)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        assert not driver.steps_closed.is_set()
        driver.go.set()
        await seen(driver.steps_closed)
        pool.close()

    asyncio.run(main())


class Async:
    """An async-only driver."""

    is_async = True
    capabilities = "all"

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.cancelled = threading.Event()
        self.closed_steps = 0

    async def thread(self) -> str:
        return threading.current_thread().name

    async def fail(self) -> None:
        raise NotFound("nothing there")

    async def forever(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def gives_up(self) -> None:
        raise asyncio.CancelledError

    async def steps(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
        finally:
            self.closed_steps += 1

    def plain(self) -> str:
        return "plain"


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread()
    yield loop
    loop.close()


def test_coroutines_run_on_one_loop_thread(loop: LoopThread) -> None:
    before = our_threads()
    face = Looped(Async(), loop)
    assert face.capabilities == "all"
    assert face.plain() == "plain"
    assert our_threads() <= before, "no thread before the first call"
    calls = [in_own_thread(face.thread) for _ in range(20)]
    assert {call.result(PATIENCE) for call in calls} == {"portable-loop"}
    assert sum(thread.name == "portable-loop" for thread in our_threads() - before) == 1
    with pytest.raises(NotFound):
        face.fail()
    loop.close()
    assert not any(thread.name == "portable-loop" for thread in our_threads() - before)


def test_an_async_generator_is_iterated_and_closed(loop: LoopThread) -> None:
    driver = Async()
    face = Looped(driver, loop)
    assert list(face.steps(3)) == [0, 1, 2]
    steps = face.steps(3)
    assert next(steps) == 0
    steps.close()
    assert driver.closed_steps == 2


def test_a_closed_loop_closes_what_is_left_of_generators() -> None:
    loop, driver = LoopThread(), Async()
    steps: Any = Looped(driver, loop).steps(3)
    assert next(steps) == 0
    loop.close()
    assert driver.closed_steps == 1
    steps.close()


def test_closing_ends_the_calls_under_way_with_an_error() -> None:
    loop, driver = LoopThread(), Async()
    call: Future[Any] = in_own_thread(Looped(driver, loop).forever)
    assert driver.entered.wait(PATIENCE)
    loop.close()
    assert driver.cancelled.is_set()
    with pytest.raises(Closed, match="closed while the call was under way") as caught:
        call.result(PATIENCE)
    assert caught.value.maybe_applied
    with pytest.raises(Closed, match="cloud is closed"):
        Looped(driver, loop).thread()
    loop.close()


def test_a_cancellation_of_the_drivers_own_is_no_close(loop: LoopThread) -> None:
    with pytest.raises(BaseException) as caught:
        Looped(Async(), loop).gives_up()
    assert type(caught.value).__name__ == "CancelledError"


def test_a_forgotten_loop_starts_anew(loop: LoopThread) -> None:
    face = Looped(Async(), loop)
    face.thread()
    parents = loop._loop, loop._thread
    loop.forget()
    assert face.thread() == "portable-loop"
    assert loop._loop is not parents[0]
    assert parents[0] is not None
    assert parents[1] is not None
    parents[0].call_soon_threadsafe(parents[0].stop)
    parents[1].join(PATIENCE)
    parents[0].close()
