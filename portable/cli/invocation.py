"""What every command has: `--config`, `--profile`, `--json`, an example in its help, and the cloud they lead to."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from portable.cloud import Cloud
    from portable.config import Config

__all__ = ["Call", "assignments", "command", "group", "key_value", "read_input"]


class Call(NamedTuple):
    """The options that every command takes.

    Attributes:
        config: the config file, or None for the one that `portable.connect` finds.
        profile: the profile, or None for the one in force.
        as_json: whether output is JSON.
    """

    config: Path | None
    profile: str | None
    as_json: bool

    def cloud(self) -> Cloud:
        """Open the profile; use it as a context manager."""
        from portable.cloud import connect

        return connect(self.config, profile=self.profile)

    def loaded(self) -> Config:
        """Read the config file."""
        from portable.config import Config

        return Config.load(self.config)

    def show(self, value: Any, text: str | None = None) -> None:
        """Write one thing: as a line of JSON with --json, else as text, or not at all where that is None."""
        if self.as_json:
            from portable.cli.output import to_json

            click.echo(to_json(value))
        elif text is not None:
            click.echo(text)

    def show_text(self, text: str) -> None:
        """Write a line for people, which --json leaves out."""
        if not self.as_json:
            click.echo(text)

    def show_table(self, headers: Iterable[str], rows: Iterable[Iterable[str]], value: Any) -> None:
        """Write a table, or with --json the value that it shows."""
        if self.as_json:
            self.show(value)
            return
        from portable.cli.output import show_table

        show_table(list(headers), [list(row) for row in rows])


def group(name: str, help: str) -> click.Group:
    """Make a command group."""
    return click.Group(name, help=help, no_args_is_help=True)


def command(parent: click.Group | None, name: str, *, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command that takes a `Call` first, and shows an example at the end of its help.

    Args:
        parent: the group it is in, or None for one that stands alone.
        name: its name.
        example: what a user may type, whole.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def run(*, config: Path | None, profile: str | None, as_json: bool, **arguments: Any) -> None:
            function(Call(config, profile, as_json), **arguments)

        made = click.command(name, epilog=f"Example: {example}")(run)
        made.params += [
            click.Option(
                ["--config"],
                type=click.Path(path_type=Path),
                help="The config file.  [default: $PORTABLE_CONFIG, else the nearest portable.toml upwards]",
            ),
            click.Option(["--profile"], help="The profile.  [default: $PORTABLE_PROFILE, else the config's]"),
            click.Option(["--json", "as_json"], is_flag=True, help="Write JSON, one line for each thing."),
        ]
        if parent is not None:
            parent.add_command(made)
        return made

    return decorate


def read_input(text: str) -> bytes:
    """Give an argument's bytes as they were typed, whatever they encode; `-` stands for everything on stdin."""
    return sys.stdin.buffer.read() if text == "-" else os.fsencode(text)


def key_value(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Read options of the form NAME=VALUE (a click callback)."""
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE", param=parameter)
        pairs[name] = rest
    return pairs


def assignments(*names: str, help: str) -> Callable[[Any], Any]:
    """Make an option that is given any number of times as NAME=VALUE."""
    return click.option(*names, multiple=True, metavar="NAME=VALUE", callback=key_value, help=help)
