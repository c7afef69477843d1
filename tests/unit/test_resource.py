"""What every resource does: open once, say where an error happened, close for good, start anew after a fork."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portable.aio._concurrency import Host as AioHost
from portable.errors import Closed, DeadlineExceeded, NotFound, Unavailable, Unsupported
from portable.threads import in_own_thread
from tests.unit.things import CAPABILITIES, Driver, Instant, aio_thing, thing

PATIENCE = 60.0


def nothing() -> str:
    return "done"


async def aio_nothing() -> str:
    return "done"


def raising(error: Exception) -> Any:
    def work(*_: object) -> None:
        raise error

    return work


def aio_raising(error: Exception) -> Any:
    async def work(*_: object) -> None:
        raise error

    return work


def test_what_it_shows() -> None:
    queue = thing(Driver())
    assert queue.name == "jobs"
    assert queue.url == "acme://user:***@host/acme-jobs"
    assert repr(queue) == "<Thing 'jobs' acme://user:***@host/acme-jobs>"
    assert queue.capabilities is CAPABILITIES
    assert queue.native == "the vendor's client"


def test_threads_that_race_open_it_once() -> None:
    driver = Driver()
    driver.opening.clear()
    queue = thing(driver)
    assert driver.opened == 0
    calls = [in_own_thread(queue.do, nothing) for _ in range(50)]
    driver.opening.set()
    assert [call.result(PATIENCE) for call in calls] == ["done"] * 50
    assert driver.opened == 1


@pytest.mark.parametrize("driver_class", [Driver, Instant])
def test_tasks_that_race_open_it_once(driver_class: type[Driver]) -> None:
    async def main() -> None:
        driver = driver_class()
        queue = aio_thing(driver)
        assert await asyncio.gather(*(queue.do(aio_nothing) for _ in range(50))) == ["done"] * 50
        assert driver.opened == 1
        await queue.close()
        await queue._host.close()

    asyncio.run(main())


def test_an_open_that_failed_is_tried_again() -> None:
    driver = Driver()
    driver.failing.append(Unavailable("nobody answers"))
    queue = thing(driver)
    with pytest.raises(Unavailable, match=r"jobs \(acme\) do: nobody answers"):
        queue.do(nothing)
    assert queue.do(nothing) == "done"
    assert driver.opened == 2


def test_a_closed_one_says_so() -> None:
    driver = Driver()
    queue = thing(driver)
    with queue as entered:
        assert entered is queue
        queue.do(nothing)
    queue.close()
    assert driver.closed == 1
    for call in (lambda: queue.do(nothing), queue.check, lambda: next(queue.steps(raising(ValueError()), 1))):
        with pytest.raises(Closed, match="the queue is closed; get a new one from an open cloud") as caught:
            call()
        assert (caught.value.resource, caught.value.provider) == ("jobs", "acme")
    assert driver.opened == 1


def test_one_that_was_never_used_can_be_closed() -> None:
    driver = Driver()
    thing(driver).close()
    assert (driver.opened, driver.closed) == (0, 1)


def test_a_closed_twin_says_so() -> None:
    async def main() -> None:
        driver = Instant()
        async with aio_thing(driver) as queue:
            await queue.do(aio_nothing)
        await queue.close()
        assert driver.closed == 1
        for call in (queue.do(aio_nothing), queue.check(), anext(queue.steps(aio_raising(ValueError()), 1))):
            with pytest.raises(Closed, match="the queue is closed"):
                await call

    asyncio.run(main())


def test_it_closes_the_cloud_that_was_made_for_it() -> None:
    class Owned:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    cloud = Owned()
    queue = thing(Driver())._owning(cloud)
    queue.close()
    queue.close()
    assert cloud.closed == 1


@pytest.mark.parametrize("method", ["do", "nested"])
def test_an_error_says_where_it_happened(method: str) -> None:
    cause = ConnectionResetError("reset")
    error = NotFound("no such key")
    error.__cause__ = cause
    with pytest.raises(NotFound) as caught:
        getattr(thing(Driver()), method)(raising(error))
    assert caught.value is error
    assert error.__cause__ is cause
    assert (error.resource, error.operation, error.provider) == ("jobs", "do", "acme")


def test_an_error_that_says_where_it_happened_is_left_alone() -> None:
    error = NotFound("no such key", resource="other", operation="get", provider="s3")
    with pytest.raises(NotFound, match=r"^other \(s3\) get: no such key$"):
        thing(Driver()).do(raising(error))


def test_errors_of_the_application_pass_untouched() -> None:
    error = KeyError("a")
    with pytest.raises(KeyError) as caught:
        thing(Driver()).do(raising(error))
    assert caught.value is error
    assert error.__cause__ is None


def test_steps_say_where_they_failed() -> None:
    def work(number: int) -> int:
        if number == 2:
            raise NotFound("gone")
        return number

    steps = thing(Driver()).steps(work, 3)
    assert [next(steps), next(steps)] == [0, 1]
    with pytest.raises(NotFound, match=r"jobs \(acme\) steps: gone"):
        next(steps)


def test_steps_of_the_twin_say_where_they_failed() -> None:
    async def main() -> None:
        queue = aio_thing(Instant())
        with pytest.raises(NotFound, match=r"jobs \(acme\) steps: gone"):
            await anext(queue.steps(aio_raising(NotFound("gone")), 3))

    asyncio.run(main())


def test_a_check_is_a_use_like_any_other_and_says_where() -> None:
    driver = Driver()
    queue = thing(driver)
    queue.check()
    driver.failing.append(Unavailable("nobody answers"))
    with pytest.raises(Unavailable, match=r"jobs \(acme\) check: nobody answers"):
        queue.check(write=True)
    assert (driver.checked, driver.opened) == (2, 1)


async def forever() -> None:
    await asyncio.Event().wait()


def test_a_call_of_the_twin_keeps_to_its_time() -> None:
    async def main() -> None:
        host = AioHost()
        queue = aio_thing(Driver(), host=host, timeout=60)
        for call in (queue.do(forever, timeout=0.01), queue.nested(lambda: queue.do(forever, timeout=0.01))):
            with pytest.raises(DeadlineExceeded, match=r"jobs \(acme\) do: the timeout ran out") as caught:
                await call
            assert caught.value.maybe_applied
            assert isinstance(caught.value.__cause__, TimeoutError)
        await aio_thing(Driver(), host=host, timeout=0.01).do_long(lambda: asyncio.sleep(0.05))
        with pytest.raises(DeadlineExceeded, match="ran out"):
            await aio_thing(Driver(), host=host, timeout=0.01).do(forever)
        await host.close()

    asyncio.run(main())


def test_a_cancelled_call_of_the_twin_is_cancelled() -> None:
    async def main() -> None:
        call = asyncio.ensure_future(aio_thing(Instant()).do(forever))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())


def test_strict_needs_refuse_what_is_not_declared() -> None:
    strict = thing(Driver(), strict=True, needs=("delay",))
    strict._require("delay", "send(delay=…)")
    with pytest.raises(Unsupported, match=r'does not declare; add needs = \["peek"\] to \[resources.jobs\]'):
        strict._require("peek", "peek()")
    for queue in (strict, thing(Driver())):
        with pytest.raises(Unsupported, match=r"purge\(\) needs the capability 'purge', which acme: does not have"):
            queue._require("purge", "purge()")
    thing(Driver())._require("peek", "peek()")


def test_after_a_fork_it_makes_its_driver_anew() -> None:
    drivers = [Driver(), Driver()]
    made = iter(drivers)
    queue = thing(drivers[0])
    queue._make = lambda: next(made)
    assert next(made) is queue._driver
    queue.do(nothing)
    held = queue._opening
    held.acquire()  # as a thread of the parent may at the fork
    assert queue._forked() is drivers[0]
    call = in_own_thread(queue.do, nothing)
    assert call.result(PATIENCE) == "done"
    assert [driver.opened for driver in drivers] == [1, 1]
    assert drivers[0].closed == 0


def test_what_is_closed_while_it_opens_is_closed_again() -> None:
    driver = Driver()
    queue = thing(driver)
    driver.opening.clear()
    call = in_own_thread(queue.do, nothing)
    assert driver.begun.wait(PATIENCE)
    queue.close()
    driver.opening.set()
    with pytest.raises(Closed, match="the queue is closed"):
        call.result(PATIENCE)
    assert not queue._opened
    assert driver.closed == 2


def test_a_check_of_the_twin_keeps_to_its_time() -> None:
    async def main() -> None:
        driver = Driver()
        queue = aio_thing(driver)
        driver.opening.clear()
        try:
            with pytest.raises(DeadlineExceeded, match=r"jobs \(acme\) check: the timeout ran out"):
                await queue.check(timeout=0.01)
        finally:
            driver.opening.set()
            await queue.close()
            await queue._host.close()

    asyncio.run(main())
