"""DynamoDB on Amazon's own DynamoDB Local, by the suite of collections, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable import open_collection
from portable.errors import ConfigError, LimitExceeded, ResourceNotFound
from portable.testing.aio.collection import CollectionSuite as AsyncCollectionSuite
from portable.testing.collection import CollectionSuite
from tests.targets import target


class _DynamoDb:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("dynamodb-local")


# An index of a table that is there takes DynamoDB Local a minute or two on a busy machine.
@pytest.mark.timeout(600)
class TestDynamoDbCollection(_DynamoDb, CollectionSuite):
    pass


@pytest.mark.timeout(600)
class TestDynamoDbCollectionAsync(_DynamoDb, AsyncCollectionSuite):
    @pytest.mark.thorough  # with some hundred tables, DynamoDB Local takes minutes to add an index to one
    async def test_a_new_index_has_the_old_documents(self) -> None:
        await super().test_a_new_index_has_the_old_documents()


@pytest.fixture
def url() -> str:
    return target("dynamodb-local")


def test_what_an_index_cannot_hold_whole_is_refused(url: str) -> None:
    with open_collection(url, name="long", create="if_missing", indexes=["title"]) as books:
        with pytest.raises(LimitExceeded, match="title"):
            books.put({"id": "1", "title": "x" * 1000})
        books.put({"id": "1", "title": "x" * 900, "text": "x" * 100_000})
        with pytest.raises(LimitExceeded):
            books.put({"id": "2", "text": "x" * 500_000})
        assert [one.key for one in books.where("title", "prefix", "xx")] == ["1"]


def test_a_missing_table_names_the_command(url: str) -> None:
    with open_collection(url, name="nowhere") as books, pytest.raises(ResourceNotFound, match="resources create"):
        books.get("1")


def test_the_table_says_who_made_it_and_removes_what_has_expired(url: str) -> None:
    with open_collection(url, name="tagged", create="if_missing", ttl="until") as books:
        books.put({"id": "1"})
        found = books.native.describe_time_to_live(TableName="tagged")["TimeToLiveDescription"]
        assert (found["TimeToLiveStatus"], found["AttributeName"]) == ("ENABLED", "ttl")


def test_another_key_is_a_mistake(url: str) -> None:
    with open_collection(url, name="keyed", create="if_missing") as books:
        books.put({"id": "1"})
    with open_collection(url, name="keyed", key="isbn", create="if_missing") as books, pytest.raises(ConfigError):
        books.put({"isbn": "1"})


def test_credentials_that_make_no_sense() -> None:
    for options in ("access_key_id=a", "secret_access_key=s3cr3t"):
        with pytest.raises(ConfigError) as caught:
            open_collection(f"dynamodb://books?region=eu-west-1&{options}")
        assert "s3cr3t" not in str(caught.value)
