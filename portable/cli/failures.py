"""What the command says of an error, and the exit code that goes with it."""

from __future__ import annotations

import sys

import click

from portable.cli.output import styled, to_json
from portable.errors import BatchError, ConfigError, NotFound, PortableError

__all__ = ["CONFIG", "FAILED", "NOT_FOUND", "described", "report"]

FAILED = 1
CONFIG = 3
NOT_FOUND = 4


def report(error: Exception, *, as_json: bool) -> int | None:
    """Write an error to stderr as one line, and give the exit code; None for what is a fault of ours.

    Args:
        error: what was raised.
        as_json: whether the line is JSON.
    """
    if isinstance(error, click.ClickException):
        _say(error.format_message(), {"type": "UsageError", "message": error.format_message()}, as_json=as_json)
        if isinstance(error, click.UsageError) and error.ctx is not None and not as_json:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.", err=True)
        return error.exit_code
    if isinstance(error, PortableError):
        _say(_line(error), described(error), as_json=as_json)
        return CONFIG if isinstance(error, ConfigError) else NOT_FOUND if isinstance(error, NotFound) else FAILED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}", {"type": "OSError", "message": str(error)}, as_json=as_json)
        return FAILED
    return None


def described(error: PortableError) -> dict[str, object]:
    """Give an error as JSON shows it: its class, its text, where it was, and whether to try again."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "resource": error.resource,
        "operation": error.operation,
        "provider": error.provider,
        "retryable": error.retryable,
        "maybe_applied": error.maybe_applied,
    }


def _line(error: PortableError) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, BatchError):
        failures = error.result.failed
        text += "".join(f"\n  entry {index}: {failure}" for index, failure in list(failures.items())[:10])
    return text


def _say(text: str, structure: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json({"error": structure}), err=True)
    else:
        click.echo(f"{styled('error:', sys.stderr, fg='red', bold=True)} {text}", err=True)
