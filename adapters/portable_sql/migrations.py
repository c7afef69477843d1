"""Running Alembic migrations on a connection of ours."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Engine

from portable.errors import InvalidArgument

__all__ = ["migrate"]

# What a migration imports as `alembic.op` and `alembic.context` is one of the whole process.
_one_at_a_time = threading.RLock()


def _renew() -> None:
    global _one_at_a_time  # noqa: PLW0603 (a thread of the parent may have held it)
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def migrate(engine: Engine, directory: Path, revision: str, version_table: str) -> None:
    """Upgrade to a revision, in one transaction where the backend can.

    Args:
        engine: where.
        directory: holds `versions/`, and `env.py` where the application has its own.
        revision: how far.
        version_table: where Alembic keeps how far it is.

    Raises:
        InvalidArgument: there is no such revision.
    """
    try:
        with _one_at_a_time:
            _upgrade(engine, directory, revision, version_table)
    except CommandError as error:
        raise InvalidArgument(f"{directory}: {error}") from error


def _upgrade(engine: Engine, directory: Path, revision: str, version_table: str) -> None:
    config = Config()
    # ConfigParser reads a lone % as the start of a reference.
    config.set_main_option("script_location", str(directory.resolve()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    url = engine.url.render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    if (directory / "env.py").is_file():
        with engine.begin() as connection:
            config.attributes.update(connection=connection, version_table=version_table)
            command.upgrade(config, revision)
        return
    script = ScriptDirectory.from_config(config)

    def upgrades(current: Any, _context: Any) -> Any:
        return script._upgrade_revs(revision, current)  # noqa: SLF001 (what alembic.command.upgrade itself passes)

    environment = EnvironmentContext(config, script, fn=upgrades, destination_rev=revision)
    with environment, engine.begin() as connection:
        environment.configure(connection=connection, version_table=version_table)
        environment.run_migrations()
