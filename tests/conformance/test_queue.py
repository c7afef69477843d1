"""The embedded queues, by their suite, in both faces."""

from __future__ import annotations

from time import monotonic
from typing import Any, ClassVar

import pytest

from portable.bindings import Binding
from portable.capabilities import QueueCapabilities
from portable.messages import Delivery
from portable.registry import Adapter, register
from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.queue import QueueSuite
from portable_embedded.memory_queue import MemoryQueue
from tests.conformance.leases import LEASE


class PlainQueue(MemoryQueue):
    """Like the services that can the least: no extras, small batches, waiting and dead letters left to others."""

    blocking = True
    capabilities = QueueCapabilities(durability="none", exclusive_lease=True, max_batch=3, max_receive=4)
    arrivals = None  # type: ignore[assignment]  # the protocol allows it
    send_concurrency = 4

    def __init__(self, binding: Binding[Any]) -> None:
        super().__init__(binding)
        self.buries = False
        self._max_deliveries = 1 << 62

    def wait_receive(self, max_messages: int, *, visibility: float, wait: float, timeout: float) -> list[Delivery]:
        deadline = monotonic() + wait
        news = self._backlog.news
        while True:
            version = news.version()
            messages = self.receive(max_messages, visibility=visibility, timeout=timeout)
            left = deadline - monotonic()
            if messages or left <= 0:
                return messages
            due = self.next_due(timeout=timeout)
            news.wait(version, left if due is None else min(left, due))


register(Adapter(schemes={"plain": {"queue": f"{__name__}:PlainQueue"}}, extra="embedded"))


class _SqliteFile:
    # What survives a power cut is tested with the store; syncing every commit would only make these slow.
    options: ClassVar = {"durability": "process"}
    lease = LEASE

    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.url = f"sqlite:{tmp_path_factory.mktemp('queue') / 'app.db'}"


class TestMemoryQueue(QueueSuite):
    url = "memory:conformance"
    lease = LEASE


class TestMemoryQueueAsync(AsyncQueueSuite):
    url = "memory:conformance"
    lease = LEASE


class TestSqliteQueue(_SqliteFile, QueueSuite):
    pass


class TestSqliteQueueAsync(_SqliteFile, AsyncQueueSuite):
    pass


class TestPlainQueue(QueueSuite):
    url = "plain:conformance"
    lease = LEASE


class TestPlainQueueAsync(AsyncQueueSuite):
    url = "plain:conformance"
    lease = LEASE
