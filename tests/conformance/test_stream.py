"""The embedded streams, by their suite, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.capabilities import StreamCapabilities
from portable.registry import Adapter, register
from portable.testing.aio.stream import StreamSuite as AsyncStreamSuite
from portable.testing.stream import StreamSuite
from portable_embedded.memory_stream import MemoryStream


class UngroupedStream(MemoryStream):
    """Like the services that keep no consumer groups: no news of records either, and small batches."""

    capabilities = StreamCapabilities(durability="none", groups=False, max_batch=7)
    arrivals = None  # type: ignore[assignment]  # the protocol allows it


register(Adapter(schemes={"ungrouped": {"stream": f"{__name__}:UngroupedStream"}}, extra="embedded"))


class _SqliteFile:
    # What survives a power cut is tested with the store; syncing every commit would only make these slow.
    options: ClassVar = {"durability": "process"}

    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.url = f"sqlite:{tmp_path_factory.mktemp('stream') / 'app.db'}"


class TestMemoryStream(StreamSuite):
    url = "memory:conformance"


class TestMemoryStreamAsync(AsyncStreamSuite):
    url = "memory:conformance"


class TestSqliteStream(_SqliteFile, StreamSuite):
    pass


class TestSqliteStreamAsync(_SqliteFile, AsyncStreamSuite):
    pass


class TestUngroupedStream(StreamSuite):
    """Groups kept in a collection."""

    url = "ungrouped:conformance"


class TestUngroupedStreamAsync(AsyncStreamSuite):
    """Groups kept in a collection."""

    url = "ungrouped:conformance"
