"""Where the two faces differ: hooks around operations, calls side by side, waiting, and calling what is handed over."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import io
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from portable import _concurrency as plain
from portable.aio import _concurrency as twin
from portable.batches import Page
from portable.errors import DeadlineExceeded, InvalidArgument, NotFound, Throttled
from portable.hooks import Running
from portable.threads import in_own_thread
from portable_embedded.memory import News
from tests.unit.things import Driver, Instant, aio_thing, thing

PATIENCE = 60.0


class Diary:
    """A hook that writes down what it sees, in a diary that hooks may share."""

    def __init__(self, name: str, lines: list[str], *, delay: float = 0.0, begin: Exception | None = None) -> None:
        self.name, self.lines, self.delay, self.refusal = name, lines, delay, begin

    def begin(self, resource: str, kind: str, provider: str, operation: str) -> Running:
        if self.refusal is not None:
            raise self.refusal
        self.lines.append(f"{self.name} begins {operation} of {provider} {kind} {resource}")
        return self

    def end(self, error: BaseException | None) -> None:
        self.lines.append(f"{self.name} ends with {type(error).__name__}")


class Unforgiving(Diary):
    def end(self, error: BaseException | None) -> None:
        super().end(error)
        raise Throttled("the answer was lost", maybe_applied=True)


def run_plain(hooks: tuple[Diary, ...], work: Callable[..., Any], **how: Any) -> Any:
    return thing(Driver(), hooks=hooks).do(work, **how)


def run_twin(hooks: tuple[Diary, ...], work: Callable[..., Any], **how: Any) -> Any:
    async def call() -> Any:
        return work()

    return asyncio.run(_awaited(aio_thing(Instant(), hooks=hooks).do(call, **how)))


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


faces = pytest.mark.parametrize("run", [run_plain, run_twin], ids=["sync", "aio"])


@faces
def test_hooks_stand_around_an_operation(run: Callable[..., Any]) -> None:
    lines: list[str] = []
    assert run((Diary("a", lines), Diary("b", lines)), lambda: lines.append("work")) is None
    assert lines == [
        "a begins do of acme queue jobs",
        "b begins do of acme queue jobs",
        "work",
        "b ends with NoneType",
        "a ends with NoneType",
    ]


@faces
def test_hooks_are_told_of_the_error(run: Callable[..., Any]) -> None:
    lines: list[str] = []

    def work() -> None:
        raise NotFound("gone")

    with pytest.raises(NotFound, match=r"jobs \(acme\) do: gone"):
        run((Diary("a", lines),), work)
    assert lines[-1] == "a ends with NotFound"


@faces
def test_a_hook_that_refuses_ends_what_began(run: Callable[..., Any]) -> None:
    lines: list[str] = []
    hooks = (Diary("a", lines), Diary("b", lines, begin=Throttled("no")), Diary("c", lines))
    with pytest.raises(Throttled, match=r"jobs \(acme\) do: no"):
        run(hooks, lambda: lines.append("work"))
    assert lines == ["a begins do of acme queue jobs", "a ends with Throttled"]


@faces
def test_a_hook_can_fail_what_was_applied(run: Callable[..., Any]) -> None:
    lines: list[str] = []
    with pytest.raises(Throttled, match="the answer was lost") as caught:
        run((Unforgiving("a", lines),), lambda: lines.append("work"))
    assert caught.value.maybe_applied
    assert lines[1:] == ["work", "a ends with NoneType"]


@faces
def test_a_delay_within_the_time_of_the_call_is_waited_for(run: Callable[..., Any]) -> None:
    lines: list[str] = []
    run((Diary("a", lines, delay=0.001),), lambda: lines.append("work"))
    assert lines[1] == "work"


@faces
def test_a_delay_beyond_the_time_of_the_call_ends_it(run: Callable[..., Any]) -> None:
    lines: list[str] = []
    with pytest.raises(DeadlineExceeded, match="before anything was sent") as caught:
        run((Diary("a", lines, delay=1e6),), lambda: lines.append("work"), timeout=0.001)
    assert not caught.value.maybe_applied
    assert lines == ["a begins do of acme queue jobs", "a ends with DeadlineExceeded"]


def test_steps_are_one_operation_whatever_the_pace() -> None:
    lines: list[str] = []
    queue = thing(Driver(), hooks=(Diary("a", lines),))
    steps = queue.steps(lambda number: lines.append(f"step {number}"), 3)
    assert lines == []
    next(steps)
    assert lines == ["a begins steps of acme queue jobs", "step 0", "a ends with NoneType"]
    assert list(steps) == [None, None]
    assert lines[3:] == ["step 1", "step 2"]
    assert list(queue.steps(lambda number: number, 0)) == []


def test_steps_of_the_twin_are_one_operation_too() -> None:
    async def main() -> None:
        lines: list[str] = []
        queue = aio_thing(Instant(), hooks=(Diary("a", lines),))

        async def step(number: int) -> None:
            lines.append(f"step {number}")

        assert [one async for one in queue.steps(step, 2)] == [None, None]
        assert lines == ["a begins steps of acme queue jobs", "step 0", "a ends with NoneType", "step 1"]
        assert [one async for one in queue.steps(step, 0)] == []

    asyncio.run(main())


def test_a_hooked_call_of_the_twin_keeps_to_its_time() -> None:
    async def main() -> None:
        queue = aio_thing(Instant(), hooks=(Diary("a", []),), timeout=0.01)
        for how in ({}, {"timeout": 0.005}):
            with pytest.raises(DeadlineExceeded, match="ran out"):
                await queue.do(asyncio.Event().wait, **how)

    asyncio.run(main())


# Calls side by side


class Crowd:
    """Calls that are under way together until so many are."""

    def __init__(self, wanted: int) -> None:
        self.lock = threading.Lock()
        self.inside = self.most = self.calls = 0
        self.barrier = threading.Barrier(wanted)

    def call(self, number: int) -> int:
        with self.lock:
            self.inside += 1
            self.calls += 1
            self.most = max(self.most, self.inside)
        self.barrier.wait(PATIENCE)
        with self.lock:
            self.inside -= 1
        return number


def test_gather_runs_so_many_at_a_time_in_order() -> None:
    crowd = Crowd(4)
    calls = [functools.partial(crowd.call, number) for number in range(20)]
    assert plain.gather(calls, concurrency=4, host=plain.Host()) == list(range(20))
    assert crowd.most == 4


def test_gather_of_the_twin_runs_so_many_at_a_time_in_order() -> None:
    async def main() -> None:
        inside = most = 0

        async def call(number: int) -> int:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            return number

        calls = [functools.partial(call, number) for number in range(20)]
        assert await twin.gather(calls, concurrency=4, host=twin.Host()) == list(range(20))
        assert most == 4

    asyncio.run(main())


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_first_error_ends_a_gathering(concurrency: int) -> None:
    done: list[int] = []

    def call(number: int) -> None:
        done.append(number)
        if number == 1:
            raise NotFound("gone")
        # Long enough that the one that waits for the first error has its turn before the last call.
        threading.Event().wait(0.005 if number else 0)

    with pytest.raises(NotFound):
        plain.gather([functools.partial(call, n) for n in range(3000)], concurrency=concurrency, host=plain.Host())
    assert len(done) < 3000
    assert plain.gather([], concurrency=concurrency, host=plain.Host()) == []


def test_the_first_error_ends_a_gathering_of_the_twin() -> None:
    async def main() -> None:
        ended: list[int] = []

        async def call(number: int) -> None:
            if number == 1:
                raise NotFound("gone")
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)

        with pytest.raises(NotFound):
            await twin.gather([functools.partial(call, n) for n in range(50)], concurrency=4, host=twin.Host())
        assert {0, 2, 3} <= set(ended), "those under way were cancelled"
        assert len(ended) < 10, "the others never began"

    asyncio.run(main())


def test_what_is_kept_is_repeated_until_the_block_ends() -> None:
    before = threading.active_count()
    twice, calls = threading.Event(), iter(range(10**9))

    def call() -> None:
        if next(calls) >= 1:
            twice.set()

    with plain.kept(0.001, call):
        assert twice.wait(PATIENCE)
    assert threading.active_count() <= before


def test_an_error_ends_the_keeping_and_not_the_block() -> None:
    failed = threading.Event()

    def call() -> None:
        assert not failed.is_set()
        failed.set()
        raise NotFound("gone")

    with plain.kept(0.001, call):
        assert failed.wait(PATIENCE)
        for thread in threading.enumerate():
            if thread.name == "portable-keep":
                thread.join(PATIENCE)


def test_keeping_of_the_twin() -> None:
    async def main() -> None:
        calls = 0
        twice = asyncio.Event()

        async def call() -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                twice.set()
                raise NotFound("gone")

        async with twin.kept(0.001, call):
            await asyncio.wait_for(twice.wait(), PATIENCE)
            await asyncio.sleep(0.01)
        assert calls == 2, "an error ended it"

        with pytest.raises(KeyError):
            async with twin.kept(1e6, call):
                raise KeyError("a")

    asyncio.run(main())


def test_a_pause_ends_when_it_is_told_to() -> None:
    stop = plain.Stop()
    waiting = in_own_thread(plain.pause, stop, 1e6)
    stop.set()
    waiting.result(PATIENCE)
    plain.pause(None, 0.0)
    plain.pause(plain.Stop(), 0.001)


def test_a_pause_of_the_twin_ends_when_it_is_told_to() -> None:
    async def main() -> None:
        stop = twin.Stop()
        waiting = asyncio.ensure_future(twin.pause(stop, 1e6))
        await asyncio.sleep(0)
        stop.set()
        await asyncio.wait_for(waiting, PATIENCE)
        await twin.pause(None, 0.0)
        await twin.pause(twin.Stop(), 0.001)

    asyncio.run(main())


def test_waiting_for_an_arrival() -> None:
    news = News()
    plain.wait_for_arrival(news, news.version(), 0.001)
    version = news.version()
    news.changed()
    plain.wait_for_arrival(news, version, 1e6)
    waiting = in_own_thread(plain.wait_for_arrival, news, news.version(), 1e6)
    while not waiting.done():
        news.changed()
    waiting.result(PATIENCE)
    assert not news._callbacks


def test_waiting_of_the_twin_for_an_arrival() -> None:
    async def main() -> None:
        news = News()
        await twin.wait_for_arrival(news, news.version(), 0.001)
        version = news.version()
        news.changed()
        await asyncio.wait_for(twin.wait_for_arrival(news, version, 1e6), PATIENCE)
        waiting = asyncio.ensure_future(twin.wait_for_arrival(news, news.version(), 1e6))
        await asyncio.sleep(0)
        await asyncio.to_thread(news.changed)
        await asyncio.wait_for(waiting, PATIENCE)
        waiting = asyncio.ensure_future(twin.wait_for_arrival(news, news.version(), 1e6))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not news._callbacks, "nobody listens any more"

    asyncio.run(main())


def test_an_arrival_after_the_loop_is_closed_is_nobodys() -> None:
    news = News()
    loop = asyncio.new_event_loop()

    async def forever() -> None:
        await twin.wait_for_arrival(news, news.version(), 1e6)

    waiting = loop.create_task(forever())
    loop.run_until_complete(asyncio.sleep(0))
    wake = next(iter(news._callbacks.values()))
    waiting.cancel()
    loop.run_until_complete(asyncio.wait([waiting]))
    loop.close()
    wake()


# What an application hands over


class Odd:
    def __init__(self) -> None:
        self.got: list[tuple[object, str]] = []

    async def coroutine(self, argument: object) -> None:
        self.got.append((argument, threading.current_thread().name))

    def plain(self, argument: object) -> None:
        self.got.append((argument, threading.current_thread().name))

    def returns_awaitable(self, argument: object) -> Awaitable[None]:
        return self.coroutine(argument)

    async def __call__(self, argument: object) -> None:
        await self.coroutine(argument)


def test_handlers_of_every_sort_are_called() -> None:
    async def main() -> None:
        odd = Odd()
        for handler in (odd.coroutine, odd, odd.returns_awaitable, odd.plain):
            await twin.called(handler, 5)
        here = threading.current_thread().name
        assert [(argument, name == here) for argument, name in odd.got] == [(5, True)] * 3 + [(5, False)]

    asyncio.run(main())
    odd = Odd()
    plain.called(odd.plain, 6)
    assert odd.got == [(6, threading.current_thread().name)]


class AsyncFile(io.BytesIO):
    async def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]  # an async file is another thing
        return super().read(size)


async def some_chunks() -> AsyncIterator[bytes]:
    for chunk in (b"ab", b"", b"c"):
        yield chunk


def test_chunks_of_files_and_iterables() -> None:
    host = plain.Host()
    assert list(plain.chunks(io.BytesIO(b"abc"), 2, host)) == [b"ab", b"c"]
    assert list(plain.chunks([b"ab", b"", b"c"], 2, host)) == [b"ab", b"", b"c"]

    async def main() -> None:
        host = twin.Host()
        for source, expected in (
            (io.BytesIO(b"abc"), [b"ab", b"c"]),
            (AsyncFile(b"abc"), [b"ab", b"c"]),
            ([b"ab", b"", b"c"], [b"ab", b"", b"c"]),
            (some_chunks(), [b"ab", b"", b"c"]),
        ):
            assert [chunk async for chunk in twin.chunks(source, 2, host)] == expected
        await host.close()

    asyncio.run(main())


def pages() -> Iterator[Page[int]]:
    yield Page([1, 2], "more")
    yield Page([], "more")
    yield Page([3])


async def aio_pages() -> AsyncIterator[Page[int]]:
    for page in pages():
        yield page


def test_items_of_pages() -> None:
    assert list(plain.items_of(pages())) == [1, 2, 3]

    async def main() -> list[int]:
        return [item async for item in twin.items_of(aio_pages())]

    assert asyncio.run(main()) == [1, 2, 3]


# Working together


def test_workers_end_together() -> None:
    crowd = Crowd(3)

    def work() -> None:
        crowd.call(0)

    plain.work_together(work, 3, lambda: False)
    assert crowd.calls == 3


def test_an_error_of_a_worker_ends_the_work() -> None:
    go = threading.Event()
    calls = iter(range(3))

    def work() -> None:
        if next(calls) == 0:
            raise NotFound("gone")
        assert go.wait(PATIENCE)

    with pytest.raises(NotFound):
        plain.work_together(work, 3, lambda: False)
    go.set()


def test_overdue_work_is_left_alone() -> None:
    go = threading.Event()

    def work() -> None:
        assert go.wait(PATIENCE)

    plain.work_together(work, 2, lambda: True)
    plain.work_together(work, 2, iter([False, True]).__next__)
    go.set()


def test_working_together_in_the_twin() -> None:
    async def main() -> None:
        ended: list[str] = []

        async def short() -> None:
            ended.append("short")

        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        calls = iter(range(2))

        async def one_fails() -> None:
            if next(calls) == 0:
                raise NotFound("gone")
            await endless()

        await twin.work_together(short, 3, lambda: False)
        assert ended == ["short"] * 3
        ended.clear()
        with pytest.raises(NotFound):
            await twin.work_together(one_fails, 2, lambda: False)
        assert ended == ["cancelled"]
        ended.clear()
        await twin.work_together(endless, 2, iter([False, True]).__next__)
        assert ended == ["cancelled"] * 2

    asyncio.run(main())


def test_what_is_not_closed_is_not_written() -> None:
    class Writer(plain.BinaryFile):
        closings = 0

        def close(self) -> None:
            type(self).closings += 1

    class AioWriter(twin.BinaryFile):
        pass

    writer = Writer()
    del writer
    assert Writer.closings == 0
    AioWriter().__del__()


@faces
def test_every_hook_hears_of_the_end_whatever_another_raises(run: Callable[..., Any]) -> None:
    lines: list[str] = []
    with pytest.raises(Throttled, match="the answer was lost"):
        run((Diary("a", lines), Unforgiving("b", lines)), lambda: lines.append("work"))
    assert lines[2:] == ["work", "b ends with NoneType", "a ends with Throttled"]


@faces
@pytest.mark.parametrize("hooks", [0, 1])
@pytest.mark.parametrize(
    ("timeout", "error"),
    [("5", InvalidArgument), (float("nan"), InvalidArgument), (True, InvalidArgument), (-1, DeadlineExceeded)],
)
def test_a_timeout_is_a_number_of_seconds(
    run: Callable[..., Any], hooks: int, timeout: Any, error: type[Exception]
) -> None:
    lines: list[str] = []
    with pytest.raises(error, match=r"jobs \(acme\) do: .*timeout"):
        run((Diary("a", lines),) * hooks, lambda: lines.append("work"), timeout=timeout)
    assert lines == []


def test_steps_of_the_twin_with_hooks_take_the_time_they_are_given() -> None:
    lines: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def work(_: int) -> None:
            asyncio.get_running_loop().call_later(0.05, begun.set)
            await begun.wait()

        # The usual timeout is long over when the first step comes.
        queue = aio_thing(Driver(), timeout=0.001, hooks=(Diary("a", lines),))
        queue._opened = True
        assert [step async for step in queue.steps(work, 1)] == [None]

    asyncio.run(main())
    assert lines[-1] == "a ends with NoneType"


def test_steps_are_closed_with_whoever_takes_them() -> None:
    ended: list[str] = []

    class Endless(type(thing(Driver()))):  # type: ignore[misc]  # the things of these tests
        @plain.iteration
        def endless(self) -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                ended.append("closed")

    for hooks in ((), (Diary("a", []),)):
        queue = thing(Driver(), hooks=hooks)
        queue.__class__ = Endless
        steps = queue.endless()  # type: ignore[attr-defined]
        next(steps)
        steps.close()
    assert ended == ["closed"] * 2


@pytest.mark.parametrize("hooks", [0, 1])
def test_an_applications_own_timeout_stays_its_own(hooks: int) -> None:
    def work() -> None:
        raise TimeoutError("the socket of the application")

    async def main(driver: Driver, method: str) -> None:
        async def call() -> None:
            work()

        queue = aio_thing(driver, hooks=(Diary("a", []),) * hooks)
        try:
            await getattr(queue, method)(call)
        finally:
            await queue.close()
            await queue._host.close()

    with pytest.raises(TimeoutError, match=r"^the socket of the application$"):
        thing(Driver(), hooks=(Diary("a", []),) * hooks).do(work)
    for driver, method in ((Driver(), "do"), (Instant(), "do"), (Driver(), "do_long")):
        with pytest.raises(TimeoutError, match=r"^the socket of the application$"):
            asyncio.run(main(driver, method))


def test_hooks_see_the_same_error_of_a_timeout_in_both_faces() -> None:
    lines: list[str] = []

    async def main() -> None:
        queue = aio_thing(Driver(), hooks=(Diary("a", lines),))
        with pytest.raises(DeadlineExceeded):
            await queue.do(asyncio.Event().wait, timeout=0.001)
        await queue.close()
        await queue._host.close()

    asyncio.run(main())
    assert lines[-1] == "a ends with DeadlineExceeded"


def test_a_none_among_chunks_does_not_end_them() -> None:
    async def main() -> None:
        host = twin.Host()
        try:
            assert [chunk async for chunk in twin.chunks([b"a", None, b"b"], 2, host)] == [b"a", None, b"b"]
        finally:
            await host.close()

    assert list(plain.chunks([b"a", None, b"b"], 2, plain.Host())) == [b"a", None, b"b"]
    asyncio.run(main())


def test_plain_handlers_of_the_twin_run_side_by_side_and_leave_no_thread() -> None:
    before = set(threading.enumerate())
    together = threading.Barrier(40)

    async def main() -> None:
        await asyncio.gather(*(twin.called(lambda _: together.wait(PATIENCE), None) for _ in range(40)))

    asyncio.run(main())
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_handler_that_nobody_awaits_is_refused() -> None:
    class Handler:
        async def __call__(self, argument: object) -> None:
            raise AssertionError("never begun")

    with pytest.raises(InvalidArgument, match=r"use portable\.aio"):
        plain.called(Handler(), None)


def test_calls_side_by_side_and_kept_calls_are_of_the_callers_context() -> None:
    of: contextvars.ContextVar[str] = contextvars.ContextVar("of")
    of.set("caller")
    assert plain.gather([of.get] * 3, concurrency=3, host=plain.Host()) == ["caller"] * 3
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()
    with plain.kept(0.001, lambda: seen.put(of.get())):
        assert seen.get(timeout=PATIENCE) == "caller"


def test_closing_the_host_of_the_twin_leaves_the_loop_to_what_is_under_way() -> None:
    async def main() -> None:
        host, loop = twin.Host(), asyncio.get_running_loop()
        begun, answered = asyncio.Event(), threading.Event()

        def ask_the_loop() -> bool:
            loop.call_soon_threadsafe(begun.set)
            loop.call_soon_threadsafe(loop.call_later, 0.01, answered.set)
            return answered.wait(PATIENCE)

        call = asyncio.ensure_future(twin.in_thread(host, ask_the_loop))
        await begun.wait()
        await host.close()
        assert await call

    asyncio.run(main())
