"""Cosmos DB on a server of its protocol, by the suite of collections, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.testing.aio.collection import CollectionSuite as AsyncCollectionSuite
from portable.testing.collection import CollectionSuite
from tests.targets import target

# The server has a certificate of its own making.
pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")


class _Cosmos:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("cosmosdb-server")


class TestCosmosCollection(_Cosmos, CollectionSuite):
    pass


class TestCosmosCollectionAsync(_Cosmos, AsyncCollectionSuite):
    pass
