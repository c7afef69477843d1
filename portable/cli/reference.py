"""The reference page of the command, made of its help: `python -m portable.cli.reference FILE`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from portable.cli.program import portable

__all__ = ["page"]

_HEAD = """\
# The command

Made of the command's own help by `python -m portable.cli.reference`; `portable COMMAND --help` says the same.
"""


def page() -> str:
    """Write the help of every command as Markdown, whatever click's own layout is."""
    return "\n".join(
        [_HEAD, *_sections(portable, click.Context(portable, info_name="portable", **portable.context_settings))]
    )


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    depth = context.command_path.count(" ")
    yield f"{'#' * (depth + 2)} {context.command_path}\n\n{inspect.cleandoc(command.help or '')}\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _sections(inner, click.Context(inner, parent=context, info_name=name))
        return
    arguments = [_argument(one) for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join([context.command_path, *arguments, "[OPTIONS]"])
    example = (command.epilog or "").removeprefix("Example: ")
    yield f"```text\n{usage}\n```\n\nExample:\n\n```sh\n{example}\n```\n"
    yield "| option | meaning |\n|---|---|"
    for one in command.params:
        if isinstance(one, click.Option):
            yield f"| {_names(one)} | {_meaning(one)} |"
    yield ""


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _names(option: click.Option) -> str:
    value = ""
    if not option.is_flag:
        choices = getattr(option.type, "choices", ())
        value = " " + (option.metavar or "/".join(choices) or option.type.name.upper().removesuffix(" RANGE"))
    return f"`{', '.join(option.opts)}{value}`" + (" (required)" if option.required else "")


def _meaning(option: click.Option) -> str:
    text = (option.help or "").replace("|", "\\|")
    return f"{text} Default: {option.default}." if option.show_default else text


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
