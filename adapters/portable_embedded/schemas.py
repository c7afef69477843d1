"""The tables of one family of drivers, and how an older file becomes a newer one.

Several families live in one file; `portable_schema(name, version)` says which and how new each is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portable import errors

__all__ = ["Schema", "apply", "current"]


@dataclass(frozen=True)
class Schema:
    """What a family of drivers needs in a file.

    Attributes:
        name: the family, such as `"queue"`.
        version: the newest layout this code knows, from 1.
        statements: what makes the newest layout in a file that has none.
        migrations: by the version they start from, the statements that lead to the next one.
    """

    name: str
    version: int
    statements: tuple[str, ...]
    migrations: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def current(connection: sqlite3.Connection, schema: Schema, path: Path) -> int:
    """The version of the family in the file, 0 where it is not there yet. Writes nothing.

    Raises:
        ConfigError: the file was written by a newer release.
    """
    known = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'portable_schema'"
    ).fetchone()
    if known is None:
        return 0
    row = connection.execute("SELECT version FROM portable_schema WHERE name = ?", (schema.name,)).fetchone()
    version = 0 if row is None else int(row[0])
    if version > schema.version:
        raise errors.ConfigError(
            f"{path} holds {schema.name} tables of version {version}, and this release knows up to {schema.version}: "
            "run `pip install --upgrade portable-cloud`, or name another file",
            provider="sqlite",
        )
    return version


def apply(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    """Bring the family to its newest version, inside the caller's transaction."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS portable_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"
    )
    version = current(connection, schema, path)
    if version == 0:
        for statement in schema.statements:
            connection.execute(statement)
    else:
        for step in range(version, schema.version):
            for statement in schema.migrations[step]:
                connection.execute(statement)
    connection.execute(
        "INSERT INTO portable_schema (name, version) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET version = excluded.version",
        (schema.name, schema.version),
    )
