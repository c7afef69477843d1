"""Queues of the three clouds by way of a server that can refuse, change and lose: what their fault tests share."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from portable import open_queue
from portable.errors import PortableError
from portable.queue import Queue
from tests.faults.between import Answer, Between, GrpcBetween, Refusal
from tests.patience import PATIENCE, persistently
from tests.targets import target

__all__ = ["VENDORS", "Amazon", "Google", "Microsoft", "Vendor", "opened", "received"]


class Vendor:
    """One cloud's queues, by way of a server that can refuse and lose.

    Attributes:
        sending: the operation that sends.
        receiving: the operation that receives.
        settling: the operation that acknowledges.
        telling: seconds after which a call that is refused all the time has failed: what has no number of attempts
            goes on until its time is over.
        between: the server.
    """

    telling = PATIENCE
    sending: str
    receiving: str
    settling: str
    target: str

    def __init__(self) -> None:
        self.direct = target(self.target, "queue")
        self.between: Any = self.server(self.direct)

    @staticmethod
    def server(url: str) -> Any:
        return Between(url)

    def refuse(self, code: str) -> Callable[..., Any]:
        """Give the fault that answers `slow`, `expired`, `unknown`, `forbidden` or `broken`."""
        raise NotImplementedError


class Amazon(Vendor):
    sending, receiving, settling = "SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch"
    target = "ministack"
    codes = {  # noqa: RUF012 (of the test)
        "slow": (400, "ThrottlingException"),
        "expired": (403, "ExpiredTokenException"),
        "unknown": (403, "UnrecognizedClientException"),
        "forbidden": (403, "AccessDeniedException"),
        "broken": (500, "InternalFailure"),
    }

    def refuse(self, code: str) -> Callable[..., Any]:
        status, text = self.codes[code]
        body = json.dumps({"__type": f"com.amazonaws.sqs#{text}", "message": "on purpose"}).encode()
        return lambda request, passed: Answer(status, body, {"Content-Type": "application/x-amz-json-1.0"})


class Google(Vendor):
    sending, receiving, settling = "Publish", "Pull", "Acknowledge"
    target = "pubsub-emulator"
    telling = 4.0
    codes = {  # noqa: RUF012 (of the test)
        "slow": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "expired": grpc.StatusCode.UNAUTHENTICATED,
        "unknown": grpc.StatusCode.UNAUTHENTICATED,
        "forbidden": grpc.StatusCode.PERMISSION_DENIED,
        "broken": grpc.StatusCode.INTERNAL,
    }

    @staticmethod
    def server(url: str) -> Any:
        return GrpcBetween(url)

    def refuse(self, code: str) -> Callable[..., Any]:
        def fault(request: bytes, passed: Any) -> Any:
            raise Refusal(self.codes[code])

        return fault


class Microsoft(Vendor):
    sending, receiving, settling = "POST messages", "GET messages", "DELETE messages"
    target = "azurite"
    codes = {  # noqa: RUF012 (of the test)
        "slow": (503, "ServerBusy"),
        "expired": (403, "AuthenticationFailed"),
        "unknown": (403, "AuthenticationFailed"),
        "forbidden": (403, "AuthorizationPermissionMismatch"),
        "broken": (500, "InternalError"),
    }

    def refuse(self, code: str) -> Callable[..., Any]:
        status, text = self.codes[code]
        body = f'<?xml version="1.0"?><Error><Code>{text}</Code><Message>on purpose</Message></Error>'.encode()
        return lambda request, passed: Answer(
            status, body, {"x-ms-error-code": text, "Content-Type": "application/xml"}
        )


VENDORS: dict[str, type[Vendor]] = {"sqs": Amazon, "pubsub": Google, "azqueue": Microsoft}


@contextlib.contextmanager
def opened(vendor: Vendor, name: str, **how: Any) -> Iterator[Queue[bytes]]:
    """Open a queue through the server between, and make sure of it before anything goes wrong."""
    with open_queue(vendor.between.url, name=name, create="if_missing", **{"timeout": PATIENCE, **how}) as queue:
        queue.check()
        vendor.between.calls.clear()
        yield queue


def received(queue: Queue[bytes], count: int) -> list[bytes]:
    """Receive and acknowledge until there are so many different bodies; give all, as they came."""
    found: list[bytes] = []
    deadline = time.monotonic() + PATIENCE
    while len(set(found)) < count:
        messages = persistently(lambda: queue.receive(10, wait=5))
        found += [message.body for message in messages]
        # Where that took longer than the lease they come again.
        with contextlib.suppress(PortableError):
            queue.ack_many(messages)
        assert time.monotonic() < deadline, f"{len(set(found))} of {count} came"
    return found
