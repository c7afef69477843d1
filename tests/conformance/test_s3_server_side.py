"""What only S3 has: copies in parts, other programs' objects, encryption, virtual hosts, both engines on one bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from portable import open_bucket
from portable.errors import ConfigError, IntegrityError, LimitExceeded, NotFound, PreconditionFailed
from portable.objects import Prefix
from tests.targets import target

MIB = 1024 * 1024


@pytest.fixture
def url() -> str:
    return target("seaweedfs", "bucket")


@pytest.fixture
def bucket(url: str) -> Iterator[Any]:
    with open_bucket(url, name=f"t{os.urandom(6).hex()}", create="if_missing") as opened:
        opened.check(timeout=60)
        yield opened


def test_a_large_object_is_copied_in_parts(bucket: Any) -> None:
    data = os.urandom(11 * MIB)
    bucket.put("a.bin", data, content_type="text/plain", metadata={"a": "é"})
    bucket._driver._s3.whole_copy_bytes, bucket._driver._s3.copy_part_bytes = 6 * MIB, 5 * MIB
    copied = bucket.copy("a.bin", "b.bin")
    assert copied.etag.endswith("-3")
    head = bucket.head("b.bin")
    assert (head.size, head.content_type, head.metadata) == (len(data), "text/plain", {"a": "é"})
    assert bucket.get("b.bin") == data
    with pytest.raises(NotFound):
        bucket.copy("missing.bin", "c.bin")
    assert bucket.native.list_multipart_uploads(Bucket=bucket._driver._binding.name).get("Uploads", []) == []


def test_both_engines_see_one_bucket(url: str, bucket: Any) -> None:
    name = bucket._driver._binding.name
    with open_bucket(url, name=name, engine="boto3") as other:
        keys = ["a.txt", "b", "../c", "d//e.txt", "f/" * 400, "g" * 1024]
        for number, key in enumerate(keys):
            writer, reader = (bucket, other) if number % 2 else (other, bucket)
            info = writer.put(key, key.encode(), content_type="text/plain", metadata={"name": key[:20]})
            assert reader.get(key) == key.encode()
            head = reader.head(key)
            assert (head.etag, head.content_type, head.metadata) == (info.etag, "text/plain", {"name": key[:20]})
            with pytest.raises(PreconditionFailed):
                reader.put(key, b"", if_match="other")
        assert [item.key for item in bucket.list()] == [item.key for item in other.list()] == sorted(keys)


def test_objects_of_other_programs_are_read_as_they_are(bucket: Any) -> None:
    client, name = bucket.native, bucket._driver._binding.name
    client.put_object(Bucket=name, Key="docs/README", Body=b"theirs", Metadata={"A": "b"})
    client.put_object(Bucket=name, Key="docs/a.txt", Body=b"theirs", ContentType="text/plain")
    assert bucket.get("docs/README", offset=2) == b"eirs"
    assert bucket.head("docs/README").metadata == {"a": "b"}
    assert [item.key for item in bucket.list("docs/")] == ["docs/README", "docs/a.txt"]
    assert [*bucket.list(delimiter="/")] == [Prefix("docs/")]
    bucket.put("docs/README", b"ours")
    assert bucket.get("docs/README") == b"ours"
    assert [(item.key, item.size) for item in bucket.list("docs/R")] == [("docs/README", 4)]
    bucket.delete("docs/README")
    assert not bucket.exists("docs/README")
    # What is deleted is the object, never the folder.
    bucket.delete("docs")
    assert bucket.get("docs/a.txt") == b"theirs"


@pytest.mark.parametrize("engine", ["obstore", "boto3"])
def test_damage_is_found(url: str, bucket: Any, engine: str) -> None:
    with open_bucket(url, name=bucket._driver._binding.name, engine=engine) as reading:
        reading.put("a.bin", b"right")
        driver: Any = reading._driver
        calls = driver._s3.calls if engine == "boto3" else driver._reads
        get = calls.get

        def damaged(*args: Any, **keywords: Any) -> Any:
            return msgspec.structs.replace(get(*args, **keywords), data=b"wrong")

        calls.get = damaged
        with pytest.raises(IntegrityError):
            reading.get("a.bin")


def test_what_s3_does_not_sign_is_refused(bucket: Any) -> None:
    with pytest.raises(LimitExceeded, match="7 days"):
        bucket.sign("a.txt", expires=8 * 86400)


def test_signed_requests_name_the_public_endpoint(url: str, bucket: Any) -> None:
    with open_bucket(url, name=bucket._driver._binding.name, public_endpoint="https://objects.example.com") as public:
        assert urlsplit(public.sign("a.txt").url).netloc == "objects.example.com"


def test_a_virtual_host_names_the_bucket() -> None:
    keys = {"access_key_id": "a", "secret_access_key": "b"}
    with open_bucket("s3://acme-photos?region=eu-west-1", **keys) as bucket:
        parts = urlsplit(_signed(bucket))
        assert parts.netloc == "acme-photos.s3.eu-west-1.amazonaws.com"
    with open_bucket("s3://acme.photos?region=eu-west-1", **keys) as bucket:
        assert urlsplit(_signed(bucket)).path.startswith("/acme.photos/")


def _signed(bucket: Any) -> str:
    """Sign without asking Amazon for the bucket."""
    return str(
        bucket._driver._s3.calls.signed("get_object", {"Bucket": bucket._driver._binding.name, "Key": "a.txt"}, 60)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"kms_key_id": "k"},
        {"access_key_id": "a"},
        {"access_key_id": "a", "secret_access_key": "b", "credentials": {"profile": "p"}},
        {"engine": "fast"},
        {"encryption": "rot13"},
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        open_bucket("s3://acme-photos?region=eu-west-1", **options)


@pytest.mark.parametrize("engine", ["obstore", "boto3"])
@pytest.mark.parametrize(
    "options", [{"encryption": "AES256"}, {"encryption": "aws:kms", "kms_key_id": "alias/acme"}], ids=["s3", "kms"]
)
def test_encryption_is_asked_for(engine: str, options: dict[str, str]) -> None:
    url, name = target("ministack", "bucket"), f"t{os.urandom(6).hex()}"
    with open_bucket(url, name=name, engine=engine, create="if_missing", **options) as bucket:
        bucket.put("small", b"1")
        bucket.put("large", bytes(9 * MIB))
        bucket.put("parts", (bytes(MIB) for _ in range(11)))
        bucket.copy("small", "copy")
        driver: Any = bucket._driver
        driver._s3.whole_copy_bytes, driver._s3.copy_part_bytes = 6 * MIB, 5 * MIB
        bucket.copy("large", "copied in parts")
        for key in ("small", "large", "parts", "copy", "copied in parts"):
            head = bucket.native.head_object(Bucket=name, Key=key)
            assert head["ServerSideEncryption"] == options["encryption"], key
            if "kms_key_id" in options:
                assert head["SSEKMSKeyId"].endswith(options["kms_key_id"]), key
            assert len(bucket.get(key)) == head["ContentLength"]
        signed = bucket.sign("small", method="PUT")
        assert signed.headers["x-amz-server-side-encryption"] == options["encryption"]
        assert signed.headers.get("x-amz-server-side-encryption-aws-kms-key-id") == options.get("kms_key_id")
