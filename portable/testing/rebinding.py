"""From an application's config to a profile that keeps its contract in memory, for its tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from portable.config.profiles import Profile
from portable.config.source import Source
from portable.config.tables import Placed, ProfileTable

if TYPE_CHECKING:
    from portable.config import Config

__all__ = ["in_memory"]


def in_memory(config: Config, folder: Path) -> Profile:
    """Give a profile that has every resource of a config on `memory:`, and its databases on SQLite files.

    Args:
        config: the application's.
        folder: where the files go.
    """
    memory = Placed(("profiles", "test", "default"), "memory:")
    # What the default means for a database is a file under `.portable/` of the config's folder.
    source = Source(None, folder, label="the profile of portable_cloud")
    if config.embedded:
        return Profile("test", ProfileTable(default=memory), {}, source, undeclared="embedded")
    in_force = os.environ.get("PORTABLE_PROFILE") or config.default_profile
    guard = config.profile(in_force).table if in_force else ProfileTable()
    table = ProfileTable(default=memory, limits=guard.limits, strict=guard.strict)
    return Profile("test", table, config.tables.resources, source)
