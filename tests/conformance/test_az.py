"""Blob Storage on Azurite, by the suite of buckets: in both faces, and by the vendor's client alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from azure.storage.blob import ContainerSasPermissions, ContentSettings, generate_container_sas

from portable import open_bucket
from portable.errors import (
    ConfigError,
    IntegrityError,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from portable.objects import Condition, ObjectHeaders, Part
from portable.testing.aio.bucket import BucketSuite as AsyncBucketSuite
from portable.testing.bucket import BucketSuite
from portable.testing.bucket_cases import HOSTILE_KEYS
from portable_azure.blob_names import BlobNames
from tests.targets import target

BY_SDK = {"engine": "azure-storage-blob"}
SECRET = "c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWU="  # noqa: S105 (of the test)

# A thousand objects by the vendor's client on a busy machine.
pytestmark = pytest.mark.timeout(300)


class _Azurite:
    url: ClassVar[str]
    _open_ones: list[Any]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("azurite", "bucket")

    @pytest.fixture(autouse=True)
    def _cleaned(self, _lifetime: None) -> Any:
        yield
        # The emulator keeps them in memory.
        drivers = [getattr(bucket._driver, "_driver", bucket._driver) for bucket in self._open_ones]
        for driver in {driver._binding.name: driver for driver in drivers if driver._names is not None}.values():
            driver.native.delete_container(driver._binding.name)


class TestBlobStorage(_Azurite, BucketSuite):
    pass


class TestBlobStorageAsync(_Azurite, AsyncBucketSuite):
    pass


class TestBlobStorageBySdk(_Azurite, BucketSuite):
    options = BY_SDK


@pytest.fixture
def url() -> str:
    return target("azurite", "bucket")


@pytest.fixture(params=["obstore", "azure-storage-blob"])
def bucket(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    name = f"own-{uuid.uuid4().hex[:12]}"
    with open_bucket(url, name=name, create="if_missing", engine=request.param) as bucket:
        bucket.check()
        yield bucket
        bucket.native.delete_container(name)


def test_what_others_wrote_is_read_as_it_is(bucket: Any) -> None:
    container = bucket.native.get_container_client(bucket._driver._binding.name)
    for key in ("plain.txt", "emoji/🏔", "ends./with-a-dot"):
        settings = ContentSettings(content_type="application/octet-stream")
        container.upload_blob(key, key.encode(), metadata={"Author": "somebody"}, content_settings=settings)
        assert bucket.get(key) == key.encode()
        head = bucket.head(key)
        assert (head.content_type, head.metadata, head.checksum) == (
            "application/octet-stream",
            {"author": "somebody"},
            None,
        )
    bucket.put("emoji/🏔", b"ours")
    assert bucket.get("emoji/🏔") == b"ours"
    assert [item.key for item in bucket.list()] == ["emoji/🏔", "ends./with-a-dot", "plain.txt"]
    bucket.delete_many(["emoji/🏔", "plain.txt"])
    bucket.delete("ends./with-a-dot")
    assert list(container.list_blob_names()) == []


def test_what_is_damaged_is_not_handed_out(bucket: Any) -> None:
    bucket.put("key", b"bytes")
    blob = bucket.native.get_blob_client(bucket._driver._binding.name, "key")
    blob.set_blob_metadata({"portable_crc32": "00000000"})
    with pytest.raises(IntegrityError, match="CRC-32"):
        bucket.get("key")
    blob.set_blob_metadata({})
    blob.set_http_headers(ContentSettings(content_md5=bytearray(16)))
    with pytest.raises(IntegrityError, match="MD5"):
        bucket.get("key")


def test_metadata_that_no_identifier_names_stands_in_one_that_is(bucket: Any) -> None:
    bucket.put("key", b"", metadata={"plain_name": "1", "with-dash": "é"})
    found = bucket.native.get_blob_client(bucket._driver._binding.name, "key").get_blob_properties().metadata
    assert found == {"plain_name": "1", "portable_metadata": '{"with-dash":"\\u00e9"}', "portable_crc32": "00000000"}


def test_parts_keep_to_conditions_and_stay_until_they_are_an_object(bucket: Any) -> None:
    driver, headers = bucket._driver, ObjectHeaders(metadata={"a": "b"})
    upload = driver.begin_upload("key", headers, timeout=30)
    parts = [driver.write_part("key", upload, number, (number - 1) * 3, b"abc", timeout=30) for number in (2, 1)][::-1]
    old = bucket.put("other", b"old")
    for condition in (Condition(etag=old.etag), Condition(etag="0x8D00")):
        with pytest.raises(PreconditionFailed):
            driver.commit_upload("key", upload, parts, headers, condition, timeout=30)
    assert driver.kept_parts("key", upload, parts, timeout=30) == parts
    info = driver.commit_upload("key", upload, parts, headers, Condition(absent=True), timeout=30)
    assert (bucket.get("key"), info.checksum) == (b"abcabc", bucket.head("key").checksum)
    with pytest.raises(NotFound):
        driver.kept_parts("key", upload, parts, timeout=30)


def test_parts_that_the_service_dropped_are_to_be_uploaded_again(bucket: Any) -> None:
    driver, headers = bucket._driver, ObjectHeaders()
    upload = driver.begin_upload("key", headers, timeout=30)
    part = driver.write_part("key", upload, 1, 0, b"abc", timeout=30)
    gone = Part(2, 3, 3, part.token)
    assert driver.kept_parts("key", upload, [part, gone], timeout=30) == [part]
    with pytest.raises(Unavailable, match="upload it again"):
        driver.commit_upload("key", upload, [part, gone], headers, None, timeout=30)
    assert not bucket.exists("key")


def test_a_cursor_is_one_of_ours(bucket: Any) -> None:
    bucket.put("a", b"")
    for cursor in ("YQ==", "YQ==.YQ==", "a.b.c", "YQ==.YQ==.é"):
        with pytest.raises(InvalidArgument):
            bucket.list_page(cursor=cursor)


@pytest.mark.parametrize("engine", ["obstore", "azure-storage-blob"])
def test_a_sas_token_is_enough_for_all_but_signing(url: str, bucket: Any, engine: str) -> None:
    driver = bucket._driver
    token = generate_container_sas(
        driver._blobs.clients.account,
        driver._binding.name,
        account_key=driver._blobs.clients.account_key,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True, create=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    head, _, rest = url.partition("account_key=")
    bare = head + rest.partition("&")[2]
    with open_bucket(bare, name=driver._binding.name, credentials={"sas_token": token}, engine=engine) as other:
        other.put("key", b"bytes", if_absent=True)
        assert other.get("key") == b"bytes"
        assert [item.key for item in other.list()] == ["key"]
        with pytest.raises(Unsupported, match="SAS token"):
            other.sign("key")
        other.delete("key")


@pytest.mark.parametrize("engine", ["obstore", "azure-storage-blob"])
def test_a_wrong_key_is_told_without_it(url: str, engine: str) -> None:
    head, _, rest = url.partition("account_key=")
    wrong = f"{head}account_key={quote(SECRET)}&{rest.partition('&')[2]}"
    with open_bucket(wrong, name="any", engine=engine) as bucket, pytest.raises(Unauthenticated) as caught:
        bucket.put("key", b"")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(bucket)


def test_a_missing_container_names_the_command(url: str, bucket: Any) -> None:
    with open_bucket(url, name="nowhere") as other, pytest.raises(ResourceNotFound, match="portable resources create"):
        other.put("key", b"")
    bucket.put("key", b"")
    bucket.native.delete_container(bucket._driver._binding.name)
    with pytest.raises(ResourceNotFound):
        bucket.get("key")
    with pytest.raises(ResourceNotFound):
        bucket.put("key", b"")
    bucket.native.create_container(bucket._driver._binding.name)


def test_a_service_that_is_not_there_is_unavailable() -> None:
    url = f"az://any?account=nobody&account_key={quote(SECRET)}&endpoint=http://127.0.0.1:9/nobody"
    with open_bucket(url, retries=0, timeout="5s") as bucket, pytest.raises(Unavailable):
        bucket.put("key", b"")


@pytest.mark.parametrize(
    "url",
    ["az://any", "az://acme/any?account=acme", "az://acme/any?endpoint=acme.example", "az://acme/any?engine=boto3"],
)
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises(ConfigError):
        open_bucket(url)


def test_no_two_keys_have_one_name() -> None:
    assert len({BlobNames.name(key) for key in HOSTILE_KEYS}) == len(HOSTILE_KEYS)
    for key in ("a", "a//b", "/a", "photos/2024/a.jpg", "日本/ｶﾅ", "a%2Fb", " a "):
        assert BlobNames.name(key) == key
