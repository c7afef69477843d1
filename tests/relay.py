"""A port of this test's own that leads to a shared server, so that connections can be cut which are nobody else's."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

from tests.patience import PATIENCE

__all__ = ["Relay"]


class Relay:
    """A port that leads to a server, until the connections are cut.

    Attributes:
        url: the server's URL, by way of this port.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._to = (parts.hostname, parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._all: list[socket.socket] = [self._listening]
        there, here = f"{parts.hostname}:{parts.port}", f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.url = here.join(url.rsplit(there, 1))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._to)
                self._ends += [near, far]
                self._all += [near, far]
                for one, other in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._copy, args=(one, other), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Cut every connection, as a network would that has gone; new ones are let through."""
        ends, self._ends = self._ends, []
        for one in ends:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut every connection, and listen no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)
        for one in self._all:
            one.close()
