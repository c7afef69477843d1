"""The embedded queues, by their suite, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest
from portable.testing.queue import QueueSuite

from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite


class _SqliteFile:
    # What survives a power cut is tested with the store; syncing every commit would only make these slow.
    options: ClassVar = {"durability": "process"}

    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.url = f"sqlite:{tmp_path_factory.mktemp('queue') / 'app.db'}"


class TestMemoryQueue(QueueSuite):
    url = "memory:conformance"


class TestMemoryQueueAsync(AsyncQueueSuite):
    url = "memory:conformance"


class TestSqliteQueue(_SqliteFile, QueueSuite):
    pass


class TestSqliteQueueAsync(_SqliteFile, AsyncQueueSuite):
    pass
