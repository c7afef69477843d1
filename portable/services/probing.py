"""Asking a server how it is: conversations over TCP, and commands, each with a deadline."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from portable.errors import ConfigError, DeadlineExceeded, PortableError, Unavailable
from portable.quantities import Duration
from portable.services.manifest import Probe, Step
from portable.services.templates import Lookup, expanded

__all__ = ["Address", "Answer", "Run", "ask", "converse", "wait_until"]

_LARGEST = 1024 * 1024
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)


class Answer(NamedTuple):
    """What a command said.

    Attributes:
        code: its exit code.
        output: what it wrote, stdout before stderr.
    """

    code: int
    output: str


Address = Callable[[str], tuple[str, int]]
"""Tells where a port is reached."""

Run = Callable[[Probe, float], Answer]
"""Runs a probe's command where the server's programs are, for at most so many seconds."""


def ask(probe: Probe, *, address: Address, lookup: Lookup, run: Run, timeout: float | None = None) -> None:
    """Ask once.

    Args:
        probe: the question.
        address: of the ports that it is asked at.
        lookup: gives the values of references.
        run: runs a command.
        timeout: seconds, if not the probe's own.

    Raises:
        Unavailable: the server is not well; the message holds no secret.
        DeadlineExceeded: it did not answer in time.
    """
    seconds = timeout if timeout is not None else Duration.parse(probe.timeout)
    if probe.port is not None:
        converse(probe.port, probe.exchange, address, lookup, seconds)
        return
    answer = run(probe, seconds)
    if answer.code != 0:
        last = answer.output.strip().splitlines()[-1:] or ["without a word"]
        raise Unavailable(f"the probe ended with {answer.code}: {last[0][:200]}")
    if probe.expect is not None and not re.search(probe.expect, answer.output):
        raise Unavailable(f"the probe's output does not match {probe.expect!r}")


def converse(port: str, steps: Sequence[Step], address: Address, lookup: Lookup, timeout: float) -> None:
    """Have a conversation over TCP: send, and read until what was expected has come; with another port, a new one."""
    end = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        where, connection = address(port), None
        for number, step in enumerate(steps, 1):
            if step.port is not None:
                stack.close()
                where, connection = address(step.port), None
            try:
                if connection is None:
                    left = max(0.001, end - time.monotonic())
                    connection = stack.enter_context(socket.create_connection(where, timeout=left))
                data = bytes.fromhex(step.send_hex) if step.send_hex else expanded(step.send, lookup).encode()
                if data:
                    connection.sendall(data)
                _expect(connection, step.expect.encode("utf-8", "surrogateescape"), number, end)
            except TimeoutError:
                raise DeadlineExceeded(f"no answer from {where[0]}:{where[1]} within {timeout:g} s") from None
            except OSError as error:
                raise Unavailable(f"{where[0]}:{where[1]}: {error.strerror or error}") from None


def _expect(connection: socket.socket, pattern: bytes, number: int, end: float) -> None:
    received = b""
    while not re.search(pattern, received, re.DOTALL):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(65536)
        received += chunk
        if not chunk or len(received) > _LARGEST:
            # What came is not repeated: it may hold what was sent.
            raise Unavailable(f"the answer to step {number} does not match {pattern.decode(errors='replace')!r}")


def wait_until(question: Callable[[], None], *, timeout: float, alive: Callable[[], None]) -> None:
    """Ask until the answer is good.

    Args:
        question: raises a `PortableError` while it is not, of which a `ConfigError` will not pass.
        timeout: how long, in seconds.
        alive: raises where waiting is in vain, as the server has ended.

    Raises:
        Unavailable: the answer was not good in time; the message holds the last one.
        ConfigError: the question is none.
    """
    end = time.monotonic() + timeout
    tries = 0
    while True:
        try:
            question()
        except ConfigError:
            raise
        except PortableError as error:
            alive()
            if time.monotonic() >= end:
                raise Unavailable(f"not ready within {timeout:g} s: {error.message}") from error
        else:
            return
        # A server that starts tells nobody when it is done.
        time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
        tries += 1
