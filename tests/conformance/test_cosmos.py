"""Cosmos DB on a server of its protocol, by the suite of collections, in both faces.

Where that server differs from the service, `contrib_services/cosmosdb-server/files/missing.js` says so, and cites the
documentation.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest

from portable import open_collection
from portable.document_places import place_of
from portable.documents import Create
from portable.errors import AlreadyExists, ConfigError, LimitExceeded, ResourceNotFound
from portable.testing.aio.collection import CollectionSuite as AsyncCollectionSuite
from portable.testing.collection import CollectionSuite
from portable_azure.cosmos_documents import item_id, partition_of
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


# The client is a synchronous one: this face is the bridge's, which other targets prove each time.
@pytest.mark.thorough
class TestCosmosCollectionAsync(_Cosmos, AsyncCollectionSuite):
    pass


@pytest.fixture
def url() -> str:
    return target("cosmosdb-server")


def test_ids_can_be_read_back_where_they_fit_and_are_never_the_same() -> None:
    keys = [
        "a",
        "A",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a b",
        "a ",
        "a~2Fb",
        "a%2Fb",
        "ä",
        "",
        ".",
        "x" * 250,
        "x" * 251,
        "ä" * 42,
    ]
    ids = [item_id(key) for key in keys]
    assert ids[:3] == ["k.a", "k.A", "k.a~2Fb"]
    assert len(set(ids)) == len(ids)
    assert all(len(one) <= 255 and one.isascii() and not set(one) & set("/\\?#% ") for one in ids)
    readable = {key: one for key, one in zip(keys, ids, strict=True) if one.startswith("k.")}
    assert {key: unquote(one[2:].replace("~", "%")) for key, one in readable.items()} == {key: key for key in readable}
    assert set(keys) - set(readable) == {"x" * 251, "ä" * 42}


def test_partitions_are_never_the_same_and_fit() -> None:
    partitions = ["", "a", "layout", "h", "x" * 1000, "x" * 1001, "x" * 2048, "ä" * 600]
    values = [partition_of((partition, "k")) for partition in partitions]
    assert len({*values, "layout"}) == len(values) + 1
    assert all(len(value.encode()) <= 1001 for value in values)
    ids = [("a", "b"), ("a\0", ""), ("", "a"), ("ab", ""), ("a", "ä")]
    assert sorted(ids) == sorted(ids, key=place_of)


def test_what_an_index_cannot_hold_whole_is_refused(url: str) -> None:
    with open_collection(url, name="long", create="if_missing", indexes=["title"]) as books:
        with pytest.raises(LimitExceeded, match="title"):
            books.put({"id": "1", "title": "x" * 512})
        books.put({"id": "1", "title": "x" * 500, "text": "x" * 100_000})
        assert [one.key for one in books.where("title", "prefix", "xx")] == ["1"]


@pytest.mark.parametrize(("character", "times"), [('"', 700_000), ("ä", 400_000), ("🦊", 200_000)])
def test_what_is_too_large_for_a_request_is_refused_before_it_is_sent(url: str, character: str, times: int) -> None:
    with open_collection(url, name="large", create="if_missing") as books:
        with pytest.raises(LimitExceeded, match="bucket"):
            books.put({"id": character, "text": character * times})
        books.put({"id": character, "text": character * 100_000})
        assert books.get(character).data["text"] == character * 100_000


def test_a_missing_container_names_the_command(url: str) -> None:
    with open_collection(url, name="nowhere") as books, pytest.raises(ResourceNotFound, match="resources create"):
        books.get("1")


def test_a_container_that_goes_is_missed(url: str) -> None:
    with open_collection(url, name="gone", create="if_missing") as books:
        books.put({"id": "1"})
        books.native.client_connection.DeleteContainer("dbs/portable/colls/gone")
        with pytest.raises(ResourceNotFound):
            books.put({"id": "1"})
        with pytest.raises(ResourceNotFound):
            books.transact([Create({"id": "1"})])


def test_another_key_is_a_mistake(url: str) -> None:
    with open_collection(url, name="keyed", create="if_missing") as books:
        books.put({"id": "1"})
    with open_collection(url, name="keyed", key="isbn", create="if_missing") as books, pytest.raises(ConfigError):
        books.put({"isbn": "1"})


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("&consistency=session", "", "consistency is Session"),
        ("cG9ydGFibGU%3D", "no-base64", "Base64"),
        ("https://127.0.0.1", "https://192.0.2.1", "emulator on this machine"),
        ("account_key=", "database=a%2Fb&account_key=", "database="),
        ("account_key=cG9ydGFibGU%3D", "account=acme&credentials.sas_token=sig", "sas_token"),
    ],
)
def test_bindings_that_are_wrong(url: str, old: str, new: str, told: str) -> None:
    assert old in url
    with pytest.raises(ConfigError, match=told), open_collection(url.replace(old, new), name="wrong") as books:
        books.get("1")


def test_many_that_make_a_container_at_once_keep_each_others_indexes(url: str) -> None:
    fields = ["a", "b", "c", "d"]

    def opened(field: str) -> None:
        with open_collection(url, name="raced", create="if_missing", indexes=[field]) as books:
            books.put({"id": field, field: 1})

    with ThreadPoolExecutor(len(fields)) as pool:
        list(pool.map(opened, fields))
    with open_collection(url, name="raced", create="if_missing", indexes=fields) as books:
        assert [[one.key for one in books.where(field, "==", 1)] for field in fields] == [[field] for field in fields]


def test_threads_share_a_client(url: str) -> None:
    with open_collection(url, name="shared", create="if_missing", indexes=["n"]) as books:

        def work(worker: int) -> list[Any]:
            for i in range(6):
                books.put({"id": f"{worker}-{i}", "n": worker})
                assert books.where("n", "==", worker).count() == i + 1
            return [one.data["n"] for one in books.where("n", "==", worker)]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == [[worker] * 6 for worker in range(8)]
            creates = [functools.partial(books.create, {"id": "one"}) for _ in range(8)]
            results = [pool.submit(create).exception() for create in creates]
        assert sum(result is None for result in results) == 1
        assert sum(isinstance(result, AlreadyExists) for result in results) == 7


def test_a_new_index_changes_no_revision(url: str) -> None:
    with open_collection(url, name="grown", create="if_missing") as books:
        seen = books.put({"id": "1", "n": 1})
    with open_collection(url, name="grown", create="if_missing", indexes=["n"]) as books:
        assert [one.revision for one in books.where("n", "==", 1)] == [seen.revision]
        books.put({"id": "1", "n": 2}, if_revision=seen.revision)
