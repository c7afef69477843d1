"""Fixtures for tests of applications: their own contract on memory, a clock to move, and faults to order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from portable.testing.clock import Clock
from portable.testing.faults import Faults

if TYPE_CHECKING:
    from portable.aio.cloud import Cloud as AioCloud
    from portable.cloud import Cloud
    from portable.config import Profile

__all__ = [
    "_portable_profile",
    "_portable_running_clock",
    "portable_aio_cloud",
    "portable_clock",
    "portable_cloud",
    "portable_config",
    "portable_faults",
]


@pytest.fixture
def portable_config() -> str | Path | None:
    """Give the config whose contract `portable_cloud` keeps: None, for what `portable.connect()` would find.

    Override it in a `conftest.py` to name another file.
    """
    return None


@pytest.fixture
def _portable_running_clock() -> Clock:
    return Clock()


@pytest.fixture
def portable_clock(_portable_running_clock: Clock) -> Clock:
    """Stop the clock of the clouds: from here on leases, delays and times to live move only when it is told.

    `portable_clock.advance(30)` moves it, `.set(moment)` puts it, `.now()` reads it.
    """
    _portable_running_clock.stop()
    return _portable_running_clock


@pytest.fixture
def portable_faults() -> Faults:
    """Order faults: `portable_faults.fail("jobs.send", Throttled, times=2)`, `.slow(…)`, `.apply_then_fail(…)`."""
    return Faults()


@pytest.fixture
def _portable_profile(portable_config: str | Path | None, portable_faults: Faults, tmp_path: Path) -> Profile:
    from portable.config import Config
    from portable.testing.rebinding import in_memory

    config = Config.load(portable_config)
    profile = in_memory(config, tmp_path / "portable")
    portable_faults.act_on(profile.declared(), any_name=config.embedded)
    return profile


@pytest.fixture
def portable_cloud(
    _portable_profile: Profile, _portable_running_clock: Clock, portable_faults: Faults
) -> Iterator[Cloud]:
    """Open the application's own contract on memory drivers, and databases on SQLite files of this test.

    The config is the one that `portable.connect()` finds (see `portable_config`), its guard that of the profile in
    force; nothing that its profiles bind is touched. Every test starts empty.
    """
    from portable.cloud import Cloud

    clock = _portable_running_clock
    with Cloud(_portable_profile, hooks=(portable_faults,), clock=clock.now, on_clock_moved=clock.on_moved) as cloud:
        yield cloud


@pytest.fixture
async def portable_aio_cloud(
    _portable_profile: Profile, _portable_running_clock: Clock, portable_faults: Faults
) -> AsyncIterator[AioCloud]:
    """Open the same as `portable_cloud` with the async face, for tests that anyio runs.

    The two share nothing but the files of their databases.
    """
    from portable.aio.cloud import Cloud

    clock = _portable_running_clock
    cloud = Cloud(_portable_profile, hooks=(portable_faults,), clock=clock.now, on_clock_moved=clock.on_moved)
    async with cloud:
        yield cloud
