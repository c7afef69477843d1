"""A bad network between a test and a server: connections that are slow, that hang, or that are reset."""

from __future__ import annotations

import contextlib
import http.client
import json
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.targets import target

__all__ = ["Proxy", "proxied"]

PATIENCE = 60.0


class Proxy:
    """One way to one server, as good or as bad as the test wants it.

    Attributes:
        url: the server's URL, by way of the proxy.
    """

    def __init__(self, api: str, url: str, default_port: int | None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        port = parts.port or default_port
        self._api = api
        self._name = uuid.uuid4().hex
        wish = {"name": self._name, "listen": "127.0.0.1:0", "upstream": f"{parts.hostname}:{port}"}
        listen = self._ask("POST", "/proxies", wish)["listen"]
        login, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{login}{at}{listen}").geturl()

    def slow(self, seconds: float) -> None:
        """Have every answer come so much later."""
        self._poison("latency", {"latency": round(seconds * 1000)})

    def hang(self) -> None:
        """Have no answer come, on connections that stay."""
        self._poison("timeout", {"timeout": 0})

    def reset(self) -> None:
        """Have every connection end as soon as an answer would come."""
        self._poison("reset_peer", {"timeout": 0})

    def mend(self) -> None:
        """Have all be well again."""
        for toxic in self._ask("GET", f"/proxies/{self._name}/toxics"):
            self._ask("DELETE", f"/proxies/{self._name}/toxics/{toxic['name']}")

    def remove(self) -> None:
        """End the connections, and the proxy."""
        self._ask("DELETE", f"/proxies/{self._name}")

    def _poison(self, kind: str, attributes: dict[str, int]) -> None:
        self._ask("POST", f"/proxies/{self._name}/toxics", {"name": kind, "type": kind, "attributes": attributes})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self._api).netloc, timeout=PATIENCE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status < 300, (path, answer.status, said)
            return json.loads(said) if said else None
        finally:
            connection.close()


@contextlib.contextmanager
def proxied(url: str, *, default_port: int | None = None) -> Iterator[Proxy]:
    """Put a proxy before a server.

    Args:
        url: the server's.
        default_port: its port, where the URL names none.
    """
    proxy = Proxy(target("toxiproxy"), url, default_port)
    try:
        yield proxy
    finally:
        proxy.remove()
