"""The command's root: its groups, found without importing them, and what becomes of errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

__all__ = ["portable", "run"]

_COMMANDS = {
    "init": ("init:init", "Write a commented portable.toml."),
    "config": ("config:config", "Check and explain the config file."),
    "resources": ("resources:resources", "Show, make and check queues, tables and the like."),
    "doctor": ("doctor:doctor", "Report on the environment, and probe every resource."),
    "bucket": ("bucket:bucket", "Look inside a bucket."),
    "queue": ("queue:queue", "Look inside a queue or subscription."),
    "topic": ("topic:topic", "Publish to a topic."),
    "stream": ("stream:stream", "Append to a stream, and follow it."),
    "cache": ("cache:cache", "Look inside a cache."),
    "collection": ("collection:collection", "Look inside a collection."),
    "worker": ("worker:worker", "Run a function on every message of a queue."),
    "outbox": ("outbox:outbox", "Deliver the messages of a database's outbox."),
    "services": ("services:services", "Install databases, caches and brokers, and look after them."),
    "conformance": ("conformance:conformance", "Prove what a live service keeps of the neutral API."),
}
"""Name → where the command is, and its line in the help."""


class _Root(click.Group):
    """Knows its commands by name, and imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (the same)
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"portable.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (the same)
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, 1)
            if not near:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}; did you mean {near[0]}?", ctx) from None


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"portable {version('portable-cloud')}")
        ctx.exit()


@click.group(
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: portable bucket ls photos 2024/ --profile aws",
)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def portable() -> None:
    """One neutral API for buckets, queues, topics, streams, caches, collections and databases.

    Every command takes --config, --profile and --json. It exits with 0 when done, 1 when something failed, 2 on wrong
    usage, 3 on a wrong config, and 4 when something is not there.
    """


def run(arguments: Sequence[str]) -> int:
    """Run the command, and give its exit code; what goes wrong is one line on stderr.

    Args:
        arguments: what follows the command's name.
    """
    if "_PORTABLE_COMPLETE" in os.environ:
        portable.main(list(arguments), prog_name="portable")
    as_json = "--json" in arguments
    try:
        with portable.make_context("portable", list(arguments)) as context:
            portable.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough. What Python still holds for it must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        from portable.cli.failures import report

        code = report(error, as_json=as_json)
        if code is None:
            raise
        return code
    return 0
