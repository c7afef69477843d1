"""S3 on SeaweedFS, against boto3 and obstore."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.object_stores import measured, moved, options_of
from benchmarks.sampling import Figure, Plan

__all__ = ["measure"]


class S3:
    """boto3."""

    group = "s3"
    module = "benchmarks.s3"
    service = "seaweedfs"
    sdk = "boto3"
    obstore_writes = True

    @staticmethod
    def client(url: str, name: str) -> Any:  # noqa: ARG004 (boto3's is for all buckets)
        """Give the client."""
        import boto3
        from botocore.config import Config

        options = options_of(url)
        return boto3.client(
            "s3",
            endpoint_url=options["endpoint"],
            region_name=options["region"],
            aws_access_key_id=options["access_key_id"],
            aws_secret_access_key=options["secret_access_key"],
            config=Config(max_pool_connections=64),
        )

    @staticmethod
    def put(client: Any, name: str, key: str, data: bytes) -> object:
        """Write an object."""
        return client.put_object(Bucket=name, Key=key, Body=data)

    @staticmethod
    def get(client: Any, name: str, key: str) -> bytes:
        """Read an object."""
        data: bytes = client.get_object(Bucket=name, Key=key)["Body"].read()
        return data

    @staticmethod
    def upload(client: Any, name: str, key: str, source: Path) -> object:
        """Write a file in parts at once."""
        return client.upload_file(str(source), name, key)

    @staticmethod
    def download(client: Any, name: str, key: str, target: Path) -> object:
        """Read a file in parts at once."""
        return client.download_file(name, key, str(target))

    @staticmethod
    def store(url: str, name: str) -> Any:
        """Give the store."""
        from obstore.store import S3Store

        options = options_of(url)
        return S3Store(
            name,
            config={field: options[field] for field in ("endpoint", "region", "access_key_id", "secret_access_key")},  # type: ignore[arg-type]  # its keys
            client_options={"allow_http": True, "timeout": timedelta(minutes=10)},
        )


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    return measured(S3(), plan, folder)


if __name__ == "__main__":
    moved(S3())
