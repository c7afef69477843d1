"""`portable worker`: run a function on every message of a queue."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable
from typing import Any

import click

from portable.cli.invocation import Call, command

__all__ = ["worker"]


@command(None, "worker", example="portable worker shop.tasks:handle --queue jobs --concurrency 4")
@click.argument("function", metavar="MODULE:FUNCTION")
@click.option("--queue", "name", required=True, help="The queue or subscription.")
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="Messages at a time.")
@click.option("--max-messages", type=click.IntRange(min=1), help="End after so many.")
@click.option("--idle-timeout", type=float, help="End after so many seconds without a message.")
@click.option(
    "--drain-timeout", type=float, default=30.0, show_default=True, help="Seconds that handlers get at the end."
)
def worker(
    call: Call,
    function: str,
    name: str,
    concurrency: int,
    max_messages: int | None,
    idle_timeout: float | None,
    drain_timeout: float,
) -> None:
    """Call MODULE:FUNCTION with each message of a queue, until SIGTERM or SIGINT.

    A message is acknowledged when the function returns, and delivered again, later and later, when it raises. Its
    body is bytes, or what the function's first parameter says: Message[Job]. A coroutine function gets messages of
    portable.aio. MODULE is looked for in the working directory too.
    """
    import asyncio
    import logging

    # What becomes of messages whose handler fails is in the log alone.
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    handler = _imported(function)
    how = {
        "concurrency": concurrency,
        "max_messages": max_messages,
        "idle_timeout": idle_timeout,
        "drain_timeout": drain_timeout,
    }
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
        handled = asyncio.run(_consume_async(call, name, handler, how))
    else:
        handled = _consume(call, name, handler, how)
    call.show({"handled": handled}, f"handled {handled}")


def _consume(call: Call, name: str, handler: Callable[..., Any], how: dict[str, Any]) -> int:
    from portable.cli.queue import chosen
    from portable.worker import run

    with call.cloud() as cloud:
        return run(chosen(cloud, name, type=_body_type(handler)), handler, **how)


async def _consume_async(call: Call, name: str, handler: Callable[..., Any], how: dict[str, Any]) -> int:
    from portable.aio.cloud import connect
    from portable.cli.queue import chosen
    from portable.worker import run_async

    async with connect(call.config, profile=call.profile) as cloud:
        return await run_async(chosen(cloud, name, type=_body_type(handler)), handler, **how)


def _imported(path: str) -> Callable[..., Any]:
    """Find the function that MODULE:FUNCTION names."""
    module_name, colon, attribute = path.partition(":")
    if not colon or not module_name or not attribute:
        raise click.UsageError(f"{path!r} is not of the form MODULE:FUNCTION")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 (sys.path holds strings)
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise click.UsageError(f"there is no module {error.name!r} in {here} or on the path") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise click.UsageError(f"{module_name} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise click.UsageError(f"{path} is not a function but a {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def _body_type(handler: Callable[..., Any]) -> Any:
    """Give the type that a handler's annotation asks bodies to be decoded to; None for bytes."""
    from portable.aio.message import Message as AioMessage
    from portable.message import Message

    try:
        hints = typing.get_type_hints(handler if hasattr(handler, "__annotations__") else type(handler).__call__)
    except (NameError, TypeError):
        # An annotation that only a type checker can resolve says nothing here.
        return None
    hints.pop("return", None)
    first = next(iter(hints.values()), None)
    if typing.get_origin(first) not in {Message, AioMessage}:
        return None
    (asked,) = typing.get_args(first)
    return None if asked in {bytes, Any} else asked
