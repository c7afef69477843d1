"""The config file: found, read, overridden by the environment, and checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from portable.config.environment import override, selects
from portable.config.profiles import Profile
from portable.config.source import Source, nearest
from portable.config.tables import Tables, flattened, read_tables
from portable.errors import ConfigError

if TYPE_CHECKING:
    from portable.config.checking import Problem
    from portable.config.explaining import Explained
    from portable.config.references import Resolve

__all__ = ["Config"]

_FILE = "portable.toml"
_said: set[str] = set()


class Config:
    """A config file, read and checked; it prints without any of its values.

    Attributes:
        path: the file, or None for the embedded default and for a config made of a dict.
        source: where its values were written.
        tables: what it says.
        embedded: whether there is no config, and so the embedded default.
    """

    def __init__(self, source: Source, tables: Tables, *, embedded: bool = False) -> None:
        """Take what was read; `load` and `from_dict` call this."""
        self.path = source.path
        self.source = source
        self.tables = tables
        self.embedded = embedded

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """Read a config file, and the variables of the environment that override it.

        Args:
            path: the file, or None: `$PORTABLE_CONFIG`, else the nearest `portable.toml` from the working directory
                upwards, else the embedded default, if no variable of the environment speaks of a config.

        Raises:
            ConfigError: there is no such file, or something in it is wrong.
        """
        named = "the config" if path is not None else "$PORTABLE_CONFIG"
        path = path if path is not None else os.environ.get("PORTABLE_CONFIG")
        file = Path(path) if path else _nearest_file()
        if file is not None:
            source = Source(file, file.absolute().parent, _read(file, named if path else ""))
            return cls(source, _tables(_parsed(source), source, os.environ))
        if (variable := selects(os.environ)) is not None:
            raise ConfigError(
                f"${variable} is set, but there is no {_FILE} in {Path.cwd()} or a folder above it; "
                "set PORTABLE_CONFIG to its path"
            )
        return cls(Source(None, Path.cwd(), label="the embedded default"), Tables({}, {}, None), embedded=True)

    @staticmethod
    def project(path: str | Path | None = None) -> Path:
        """Give the folder that `load` would find the file in, without reading it; else the working directory.

        Args:
            path: the file, or None, as for `load`.
        """
        path = path if path is not None else os.environ.get("PORTABLE_CONFIG")
        file = Path(path) if path else _nearest_file()
        return file.absolute().parent if file is not None else Path.cwd()

    @classmethod
    def from_dict(
        cls, tree: dict[str, Any], folder: str | Path = ".", *, environ: Mapping[str, str] | None = None
    ) -> Self:
        """Read a config from what a TOML file would parse to.

        Args:
            tree: the tables.
            folder: where relative paths start.
            environ: variables that override it; none when left out.

        Raises:
            ConfigError: something in it is wrong.
        """
        source = Source(None, Path(folder).absolute())
        return cls(source, _tables(dict(tree), source, environ or {}))

    @property
    def default_profile(self) -> str | None:
        """The profile in force where neither an argument nor `$PORTABLE_PROFILE` says which."""
        return self.tables.default_profile

    @property
    def profiles(self) -> list[str]:
        """The names of the profiles, in the order of the file."""
        return list(self.tables.profiles)

    def __repr__(self) -> str:
        """Name the file and the profiles."""
        return f"<Config {self.path or self.source.label} profiles {', '.join(self.profiles) or 'none'}>"

    def profile(self, name: str | None = None, *, resolve: Resolve | None = None) -> Profile:
        """Give a profile.

        Args:
            name: its name, or None: `$PORTABLE_PROFILE`, else `default_profile`.
            resolve: gives what references stand for, in place of the environment, files and secret managers.

        Raises:
            ConfigError: there is no such profile, or nothing says which.
        """
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"the name of a profile is a string, not {type(name).__name__}")
        asked = name or os.environ.get("PORTABLE_PROFILE") or None
        if self.embedded:
            if asked is not None:
                raise ConfigError(f"the profile {asked!r} is asked for, but there is no {_FILE} that holds it")
            _say_embedded(self.source.folder)
            return Profile.embedded(self.source.folder)
        profiles = self.tables.profiles
        chosen = asked or self.tables.default_profile
        if chosen is None:
            hint = nearest("", profiles) or f"; {_FILE} has none"
            raise self.source.error((), f"nothing says which profile: give profile=, or set PORTABLE_PROFILE{hint}")
        if chosen not in profiles:
            by = "" if name else "$PORTABLE_PROFILE: "
            raise self.source.error(("profiles",), f"{by}there is no profile {chosen!r}{nearest(chosen, profiles)}")
        table = flattened(chosen, profiles, self.source)
        return Profile(chosen, table, self.tables.resources, self.source, resolve=resolve)

    def explain(self, profile: str | None = None) -> list[Explained]:
        """Show each value in force under a profile and where it came from, secrets hidden, references as written.

        Raises:
            ConfigError: there is no such profile.
        """
        from portable.config.explaining import explain  # noqa: PLC0415 (only the command needs it)

        return explain(self.profile(profile))

    def check_all(self) -> list[Problem]:
        """Check every resource under every profile without connecting: what `portable config check` says.

        References are not resolved, since what one profile refers to need not be at hand where another is in force.
        """
        from portable.config.checking import check_profile  # noqa: PLC0415 (only the command needs it)

        return [problem for name in self.profiles for problem in check_profile(self, name)]

    @staticmethod
    def schema() -> dict[str, Any]:
        """Give the JSON Schema of `portable.toml`, for editors."""
        from portable.config.schema import schema  # noqa: PLC0415 (only the command needs it)

        return schema()


def _nearest_file() -> Path | None:
    here = Path.cwd()
    return next((file for folder in (here, *here.parents) if (file := folder / _FILE).is_file()), None)


def _read(file: Path, named: str) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{named or 'the config'} {str(file)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (at byte {error.start})") from None
    except ValueError:
        raise ConfigError(f"{named or 'the config'} {str(file)!r} is no path") from None


def _parsed(source: Source) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 (a program that opens its resources by URL never needs it)

    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source.path}: not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{source.path}: not TOML: a number is too long, or tables are nested too deep") from None


def _tables(tree: dict[str, Any], source: Source, environ: Mapping[str, str]) -> Tables:
    override(tree, environ, source)
    return read_tables(tree, source)


def _say_embedded(folder: Path) -> None:
    place = str(folder / ".portable")
    if place not in _said:
        _said.add(place)
        logging.getLogger("portable").info(
            "no portable.toml was found: everything is kept under %s; `portable init` writes a config", place
        )
