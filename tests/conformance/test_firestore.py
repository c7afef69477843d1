"""Firestore on Google's own emulator, by the suite of collections, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable import open_collection
from portable.document_places import place_of
from portable.errors import ConfigError, LimitExceeded, ResourceNotFound
from portable.testing.aio.collection import CollectionSuite as AsyncCollectionSuite
from portable.testing.collection import CollectionSuite
from portable_gcp.firestore_documents import document_id
from tests.targets import target


class _Firestore:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("firestore-emulator")


class TestFirestoreCollection(_Firestore, CollectionSuite):
    pass


class TestFirestoreCollectionAsync(_Firestore, AsyncCollectionSuite):
    pass


@pytest.fixture
def url() -> str:
    return target("firestore-emulator")


def test_ids_are_readable_where_they_fit_and_never_the_same() -> None:
    ids = [("", "a"), ("a", ""), ("", "a/b"), ("", "a,b"), ("a", "b"), ("", "."), ("", "__x__"), ("", "ä" * 500)]
    names = [document_id(one) for one in ids]
    assert names[:5] == [",a", "a,", ",a%2Fb", ",a%2Cb", "a,b"]
    assert len(set(names)) == len(ids)
    assert all(len(name) <= 1500 and "/" not in name for name in names)
    assert sorted(ids) == sorted(ids, key=place_of)


def test_what_an_index_cannot_hold_whole_is_refused(url: str) -> None:
    with open_collection(url, name="long", create="if_missing", indexes=["title"]) as books:
        with pytest.raises(LimitExceeded, match="title"):
            books.put({"id": "1", "title": "x" * 1500})
        books.put({"id": "1", "title": "x" * 1400, "text": "x" * 100_000})
        assert [one.key for one in books.where("title", "prefix", "xx")] == ["1"]


def test_a_missing_collection_names_the_command(url: str) -> None:
    with open_collection(url, name="nowhere") as books, pytest.raises(ResourceNotFound, match="resources create"):
        books.get("1")


def test_another_key_is_a_mistake(url: str) -> None:
    with open_collection(url, name="keyed", create="if_missing") as books:
        books.put({"id": "1"})
    with open_collection(url, name="keyed", key="isbn", create="if_missing") as books, pytest.raises(ConfigError):
        books.put({"isbn": "1"})
