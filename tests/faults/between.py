"""Servers between a client and a cloud's service, which refuse, change or lose what a test wants them to."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import grpc

from tests.patience import PATIENCE

__all__ = ["Answer", "Between", "GrpcBetween", "GrpcFault", "HttpFault", "Refusal", "Request", "lost", "times"]

_OF_ONE_WAY = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
_OF_GRPC = ("grpc-", "user-agent", "content-type", "te")


@dataclass
class Request:
    """A request of HTTP."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """What the service is asked for, as AWS names it; method and last parts of the path elsewhere."""
        target = self.headers.get("X-Amz-Target")
        if target is not None:
            return target.rpartition(".")[2]
        action = parse_qs(self.body.decode(errors="replace")).get("Action") if self.method == "POST" else None
        if action:
            return action[0]
        # Of Queue Storage: /account/queue/messages/id.
        return f"{self.method} {'/'.join(urlsplit(self.path).path.split('/')[3:4])}".strip()


@dataclass
class Answer:
    """An answer of HTTP."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


HttpFault = Callable[[Request, Callable[[Request], Answer]], Answer | None]
"""Gives the answer to a request, which it may pass on; None to end the connection without any."""


class _Faulty:
    """What both kinds of server have.

    Attributes:
        url: the service's URL, by way of this server.
        calls: how many came, by the name of the operation.
        faults: by the name of the operation, what becomes of a call.
    """

    def __init__(self, url: str) -> None:
        self._around = url
        self.calls = Counter[str]()
        self.faults: dict[str, Any] = {}

    @property
    def upstream(self) -> str:
        """Host and port of the service."""
        (endpoint,) = parse_qs(urlsplit(self._around).query)["endpoint"]
        return urlsplit(endpoint).netloc

    def _by_way_of(self, port: int) -> str:
        return self._around.replace(self.upstream, f"127.0.0.1:{port}")


class Between(_Faulty):
    """A server of HTTP that passes on what no fault sees to.

    Args:
        url: of the service, with its `endpoint=`.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)

        class Handler(_Handler):
            between = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The service's URL, by way of this server."""
        return self._by_way_of(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def refuse_connections(self) -> None:
        """Have every later connection be refused."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: Request) -> Answer | None:
        """Answer a request; None to end its connection."""
        self.calls[request.operation] += 1
        fault = self.faults.get(request.operation)
        return self._passed(request) if fault is None else fault(request, self._passed)

    def _passed(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(self.upstream, timeout=PATIENCE)
        try:
            kept = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_WAY}
            # What signs it may count an empty body.
            kept |= {"Content-Length": str(len(request.body))} if request.body or request.method != "GET" else {}
            connection.request(request.method, request.path, request.body or None, kept)
            answer = connection.getresponse()
            body = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_ONE_WAY}
            return Answer(answer.status, body, headers)
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    between: Between

    def handle_one_request(self) -> None:
        """Answer a request, whatever its method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.between.answer(Request(self.command, self.path, dict(self.headers.items()), body))
        self.close_connection = True
        if found is None:
            return
        self.send_response(found.status)
        for name, value in found.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        self.wfile.write(found.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


GrpcFault = Callable[[bytes, Callable[[bytes], list[bytes]]], list[bytes]]
"""Gives the answers to a call, which it may pass on; raises a `Refusal` for any other end."""


class Refusal(Exception):  # noqa: N818 (no error of the test)
    """The service ends the call with this status."""

    def __init__(self, code: grpc.StatusCode, text: str = "on purpose") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class GrpcBetween(_Faulty):
    """A server of gRPC that passes on what no fault sees to, message by message as bytes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._channel = grpc.insecure_channel(self.upstream)
        self._threads = ThreadPoolExecutor(32)
        self._server = grpc.server(self._threads)
        self._server.add_generic_rpc_handlers([_GrpcHandler(self)])
        self._port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def url(self) -> str:
        """The service's URL, by way of this server."""
        return self._by_way_of(self._port)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
        self._channel.close()
        self._threads.shutdown()

    def answer(self, method: str, request: bytes, context: grpc.ServicerContext) -> list[bytes]:
        """Answer a call."""
        operation = method.rpartition("/")[2]
        self.calls[operation] += 1
        kept = [(name, value) for name, value in context.invocation_metadata() if not name.startswith(_OF_GRPC)]

        def passed(changed: bytes) -> list[bytes]:
            # None where the client has set no limit, whatever the types say. One whose time is over gets nothing more:
            # a pull that went on would take messages for nobody.
            left: Any = context.time_remaining()
            call: Any = self._channel.unary_stream(method)
            return list(call(changed, metadata=tuple(kept), timeout=PATIENCE if left is None else left))

        fault = self.faults.get(operation)
        return passed(request) if fault is None else list(fault(request, passed))


class _GrpcHandler(grpc.GenericRpcHandler):
    def __init__(self, between: GrpcBetween) -> None:
        self._between = between

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                yield from self._between.answer(method, next(requests), context)
            except Refusal as refusal:
                context.abort(refusal.code, refusal.text)
            except grpc.RpcError as error:
                told: Any = error
                context.abort(told.code(), told.details())

        return grpc.stream_stream_rpc_method_handler(answer)


def times(count: int, fault: Callable[..., Any]) -> Callable[..., Any]:
    """Have a fault see to so many calls, and to no more."""
    left = [count]

    def some(request: Any, passed: Callable[[Any], Any]) -> Any:
        left[0] -= 1
        return fault(request, passed) if left[0] >= 0 else passed(request)

    return some


def lost(request: Any, passed: Callable[[Any], Any]) -> Any:
    """Carry a call out, and lose the answer."""
    passed(request)
    if isinstance(request, Request):
        return None
    raise Refusal(grpc.StatusCode.UNAVAILABLE, "Socket closed")
