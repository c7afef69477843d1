"""Google Cloud Storage on fake-gcs-server, against google-cloud-storage, and obstore where the server takes it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.object_stores import MIB, THREADS, measured, moved, options_of
from benchmarks.sampling import Figure, Plan

__all__ = ["measure"]


class Google:
    """google-cloud-storage."""

    group = "gs"
    module = "benchmarks.gs"
    service = "fake-gcs-server"
    sdk = "google-cloud-storage"
    # It knows no writes of the XML API, which obstore makes.
    obstore_writes = False

    @staticmethod
    def client(url: str, name: str) -> Any:  # noqa: ARG004 (the client is for all buckets)
        """Give the client."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client
        from requests.adapters import HTTPAdapter

        options = options_of(url)
        client = Client(
            project=options["project"],
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # it has no types
            client_options={"api_endpoint": options["endpoint"]},
        )
        client._http.mount("http://", HTTPAdapter(pool_maxsize=THREADS))  # noqa: SLF001 (it has no other way to it)
        return client

    @staticmethod
    def put(client: Any, name: str, key: str, data: bytes) -> object:
        """Write an object."""
        return client.bucket(name).blob(key).upload_from_string(data)

    @staticmethod
    def get(client: Any, name: str, key: str) -> bytes:
        """Read an object."""
        data: bytes = client.bucket(name).blob(key).download_as_bytes()
        return data

    @staticmethod
    def upload(client: Any, name: str, key: str, source: Path) -> object:
        """Write a file; in one stream, because parts at once are the XML API's."""
        return client.bucket(name).blob(key).upload_from_filename(str(source))

    @staticmethod
    def download(client: Any, name: str, key: str, target: Path) -> object:
        """Read a file in ranges at once."""
        from google.cloud.storage import transfer_manager

        return transfer_manager.download_chunks_concurrently(
            client.bucket(name).blob(key),
            str(target),
            chunk_size=8 * MIB,
            worker_type=transfer_manager.THREAD,
            max_workers=4,
        )

    @staticmethod
    def store(url: str, name: str) -> Any:
        """Give the store."""
        from obstore.store import GCSStore

        return GCSStore(
            name,
            config={"base_url": options_of(url)["endpoint"]},
            client_options={"allow_http": True, "timeout": timedelta(minutes=10)},
            credential_provider=lambda: {"token": "none", "expires_at": None},  # type: ignore[arg-type]  # a callable
        )


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    return measured(Google(), plan, folder)


if __name__ == "__main__":
    moved(Google())
