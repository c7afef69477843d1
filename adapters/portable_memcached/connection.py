"""One connection to a memcached, made and secured by pymemcache, on which commands are sent together.

pymemcache has the classic commands, each with a round trip of its own, and none that gives an item's time to live. The
meta commands have both: https://docs.memcached.org/protocols/meta/.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from pymemcache.client.base import Client
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownCommandError,
)

from portable.errors import Unsupported

__all__ = ["Answer", "Connection", "Login", "check_served"]

OLDEST = (1, 6)
"""The first release that has the meta commands."""

AT_ONCE = 256 * 1024
"""Bytes that are read at once."""

Login = tuple[str, str] | None


class Answer(NamedTuple):
    """What the server says to one command.

    Attributes:
        code: two letters, such as `HD` (done) or `EN` (not there), or `SERVER_ERROR`.
        tokens: what stands behind it: the flags that were asked for, in the same order.
        value: the value, where one came.
    """

    code: bytes
    tokens: list[bytes]
    value: bytes


class Connection:
    """One connection; one thread at a time uses it."""

    def __init__(self, address: tuple[str, int] | str, context: ssl.SSLContext | None, login: Login) -> None:
        self._client = Client(address, no_delay=True, tls_context=context, default_noreply=False)
        self._is_encrypted = context is not None
        self._login = login
        self._sock: socket.socket | None = None
        self._poll = select.poll()
        self._rest = b""

    def connect(self, timeout: float) -> None:
        """Connect, log in, and see what the server is.

        Raises:
            MemcacheError: the server refuses the login.
            OSError: it cannot be reached.
            Unsupported: it is too old.
        """
        client = self._client
        client.connect_timeout = client.timeout = timeout
        if self._login is not None:
            # The first `set` of a connection is the login, whatever its key.
            client.set("login", " ".join(self._login).encode())
        version = client.version().decode(errors="replace")
        if tuple(int(part) for part in re.findall("[0-9]+", version)[:2]) < OLDEST:
            self.close()
            raise Unsupported(f"the server is memcached {version}; 1.6 is the first that will do")
        self._sock = client.sock
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._rest = b""

    @property
    def is_alive(self) -> bool:
        """Whether it is connected, and the server has not ended it since."""
        return self._sock is not None and not self._poll.poll(0)

    def close(self) -> None:
        """Disconnect; `connect` makes a new connection."""
        self._sock = None
        self._client.close()

    @property
    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise MemcacheUnexpectedCloseError
        return self._sock

    def exchange(self, commands: Sequence[bytes], timeout: float) -> list[Answer]:
        """Send commands, and give the answer to each.

        Raises:
            MemcacheError: the server does not understand one, or has ended the connection; it is of no more use.
            OSError: the same, or the answers did not come in time.
        """
        deadline = monotonic() + timeout
        sock = self._socket
        sock.settimeout(timeout)
        if self._is_encrypted:
            # memcached may leave what it has decrypted, and not yet taken, until more comes. A record of TLS that ends
            # with a command leaves nothing.
            for command in commands:
                sock.sendall(command)
        else:
            sock.sendall(b"".join(commands))
        return [self._answer(deadline) for _ in commands]

    def _answer(self, deadline: float) -> Answer:
        while (end := self._rest.find(b"\r\n")) < 0:
            self._read(deadline)
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        code, *tokens = line.split(b" ")
        if code == b"VA":
            size = int(tokens[0])
            if len(self._rest) < size + 2:
                self._read_all(size + 2, deadline)
            value, self._rest = self._rest[:size], self._rest[size + 2 :]
            return Answer(code, tokens[1:], value)
        if code == b"ERROR":
            raise MemcacheUnknownCommandError(line)
        if code == b"CLIENT_ERROR":
            raise MemcacheClientError(line.partition(b" ")[2])
        return Answer(code, tokens, b"")

    def _read_all(self, size: int, deadline: float) -> None:
        """Read until there are so many bytes: those of a large value are joined once."""
        parts, there = [self._rest], len(self._rest)
        while there < size:
            self._rest = b""
            self._read(deadline)
            parts.append(self._rest)
            there += len(self._rest)
        self._rest = b"".join(parts)

    def _read(self, deadline: float) -> None:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        sock = self._socket
        sock.settimeout(left)
        received = sock.recv(AT_ONCE)
        if not received:
            raise MemcacheUnexpectedCloseError
        self._rest += received


def check_served(answer: Answer) -> None:
    """Refuse an answer that says that the server could not do it.

    Raises:
        MemcacheServerError: it is one; the connection is still of use.
    """
    if answer.code == b"SERVER_ERROR":
        raise MemcacheServerError(b" ".join(answer.tokens))
