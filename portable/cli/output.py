"""What the command writes: text and tables for people, JSON for scripts, bytes as they are."""

from __future__ import annotations

import base64
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import click
import msgspec

__all__ = ["printable", "progress", "show_bytes", "show_table", "styled", "text_or_base64", "to_json", "working"]

_SLOW = 1.0
"""Seconds after which something has to be seen of what is going on."""


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    return str(value)


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def to_json(value: Any) -> str:
    """Write a value as one line of JSON; bytes inside it are Base64."""
    return _encode(value).decode()


def text_or_base64(name: str, data: bytes) -> dict[str, str]:
    """Give bytes as JSON can hold them: `{name: text}`, or `{name_base64: …}` for what is no UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def printable(text: str) -> str:
    """Escape what would move a terminal's cursor or end the line: names and keys may hold any character."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def styled(text: str, stream: IO[str], **style: Any) -> str:
    """Colour text for a terminal; elsewhere, and with `NO_COLOR`, it stays as it is."""
    coloured = stream.isatty() and not os.environ.get("NO_COLOR")
    return click.style(text, **style) if coloured else text


def show_bytes(data: bytes | memoryview) -> None:
    """Write bytes to stdout as they are."""
    sys.stdout.buffer.write(data)


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write rows under headers, in columns as wide as they need."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    click.echo(styled(_joined(headers, widths), sys.stdout, bold=True))
    for row in cells:
        click.echo(_joined(row, widths))


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """While the block runs, and once it takes over a second, say on the terminal what goes on."""
    with progress(what, None):
        yield


@contextlib.contextmanager
def progress(what: str, total: int | None, *, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how far something is, on the terminal's stderr, once it takes over a second.

    Args:
        what: what goes on, in words.
        total: how much there is to do, or None where that is not known.
        in_bytes: whether that is bytes.

    Yields:
        A function that takes how much is done so far.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    shown = _Shown(what, total, in_bytes=in_bytes)
    timer = threading.Timer(_SLOW, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield shown.update
    finally:
        timer.cancel()
        shown.stop()


class _Shown:
    """A progress bar that imports what draws it only when it starts."""

    def __init__(self, what: str, total: int | None, *, in_bytes: bool) -> None:
        self._what = what
        self._total = total
        self._in_bytes = in_bytes
        self._done = 0
        self._over = False
        self._lock = threading.Lock()
        self._bar: Any = None
        self._task: Any = None

    def start(self) -> None:
        try:
            from rich import progress as bars
            from rich.console import Console
        except ModuleNotFoundError:
            return
        columns: list[Any] = [bars.SpinnerColumn(), bars.TextColumn("{task.description}")]
        if self._total is not None:
            amount = bars.DownloadColumn() if self._in_bytes else bars.MofNCompleteColumn()
            columns += [bars.BarColumn(), amount]
        columns.append(bars.TimeElapsedColumn())
        bar = bars.Progress(*columns, console=Console(stderr=True), transient=True)
        with self._lock:
            if self._over:
                return
            self._task = bar.add_task(self._what, total=self._total, completed=self._done)
            self._bar = bar
            bar.start()

    def update(self, done: int) -> None:
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def stop(self) -> None:
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()
