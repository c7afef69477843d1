"""Azure Blob Storage on Azurite, against azure-storage-blob and obstore."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.object_stores import THREADS, measured, moved, options_of
from benchmarks.sampling import Figure, Plan

__all__ = ["measure"]


class Azure:
    """azure-storage-blob."""

    group = "az"
    module = "benchmarks.az"
    service = "azurite"
    sdk = "azure-storage-blob"
    obstore_writes = True

    @staticmethod
    def client(url: str, name: str) -> Any:
        """Give the client."""
        from azure.storage.blob import ContainerClient
        from requests import Session
        from requests.adapters import HTTPAdapter

        options = options_of(url)
        credential = {"account_name": options["account"], "account_key": options["account_key"]}
        session = Session()
        session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
        return ContainerClient(options["endpoint"], name, credential=credential, session=session)

    @staticmethod
    def put(client: Any, name: str, key: str, data: bytes) -> object:  # noqa: ARG004 (the client has it)
        """Write an object."""
        return client.upload_blob(key, data, overwrite=True)

    @staticmethod
    def get(client: Any, name: str, key: str) -> bytes:  # noqa: ARG004 (the same)
        """Read an object."""
        data: bytes = client.download_blob(key).readall()
        return data

    @staticmethod
    def upload(client: Any, name: str, key: str, source: Path) -> object:  # noqa: ARG004 (the same)
        """Write a file in blocks at once."""
        with source.open("rb") as file:
            return client.upload_blob(key, file, overwrite=True, max_concurrency=4)

    @staticmethod
    def download(client: Any, name: str, key: str, target: Path) -> object:  # noqa: ARG004 (the same)
        """Read a file in ranges at once."""
        with target.open("wb") as file:
            return client.download_blob(key, max_concurrency=4).readinto(file)

    @staticmethod
    def store(url: str, name: str) -> Any:
        """Give the store."""
        from obstore.store import AzureStore

        options = options_of(url)
        return AzureStore(
            name,
            config={
                "account_name": options["account"],
                "account_key": options["account_key"],
                "endpoint": options["endpoint"],
            },
            client_options={"allow_http": True, "timeout": timedelta(minutes=10)},
        )


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    return measured(Azure(), plan, folder)


if __name__ == "__main__":
    moved(Azure())
