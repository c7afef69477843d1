"""The embedded collections, by their suite, in both faces; and one that declares nothing beyond the guarantees."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.capabilities import CollectionCapabilities
from portable.registry import Adapter, register
from portable.testing.aio.collection import CollectionSuite as AsyncCollectionSuite
from portable.testing.collection import CollectionSuite
from portable_embedded.memory_collection import MemoryCollection


class _SqliteFile:
    # What survives a power cut is tested with the store; syncing every commit would only make these slow.
    options: ClassVar = {"durability": "process"}

    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.url = f"sqlite:{tmp_path_factory.mktemp('collection') / 'app.db'}"


class TestMemoryCollection(CollectionSuite):
    url = "memory:conformance"


class TestMemoryCollectionAsync(AsyncCollectionSuite):
    url = "memory:conformance"


class TestSqliteCollection(_SqliteFile, CollectionSuite):
    pass


class TestSqliteCollectionAsync(_SqliteFile, AsyncCollectionSuite):
    pass


class NarrowCollection(MemoryCollection):
    """Declares no feature, so that the negative cases run."""

    capabilities = CollectionCapabilities(durability="none", max_batch=7)


register(Adapter(schemes={"narrow": {"collection": f"{__name__}:NarrowCollection"}}, extra="testing"))


class TestNarrowCollection(CollectionSuite):
    url = "narrow:conformance"
