"""The clients of one bucket: the vendor's, with one tuned transport, and the stores of `obstore`."""

from __future__ import annotations

import threading
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import urlsplit

from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import Request
from google.cloud.storage import Bucket, Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from portable.bindings import Binding
from portable.errors import ConfigError, Unsupported
from portable_gcp.errors import translating
from portable_gcp.options import BucketOptions, bucket_project, service_credentials
from portable_objectstore.stores import Stores, is_usable

__all__ = ["GcsClients", "within"]

_CONNECT_WITHIN = 10.0
_POOL = 64
_PUBLIC = "https://storage.googleapis.com"


class GcsClients:
    """Makes clients when they are first needed; safe with threads."""

    def __init__(self, binding: Binding[BucketOptions]) -> None:
        """Make nothing yet.

        Raises:
            ConfigError: the endpoint is no URL.
        """
        options = binding.options
        self._binding = binding
        self._usual = float(binding.contract.timeout)
        self._retries = binding.contract.retries
        self._lock = threading.RLock()
        self._made: Client | None = None
        self.endpoint = None if options.endpoint is None else options.endpoint.rstrip("/")
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.netloc:
                raise ConfigError("endpoint= takes a URL: https://… or, for an emulator, http://HOST:PORT")
        self._is_emulator = self.endpoint is not None and self.endpoint.startswith("http:")

    @property
    def client(self) -> Client:
        """The vendor's client."""
        with self._lock:
            if self._made is None:
                self._made = self._client()
            return self._made

    @property
    def address(self) -> str:
        """The URL of the service."""
        return self.endpoint or _PUBLIC

    @property
    def bucket(self) -> Bucket:
        """The vendor's bucket."""
        return self.client.bucket(self._binding.name)

    def repeating(self, timeout: float) -> Any:
        """Say how calls that may be repeated are."""
        return DEFAULT_RETRY.with_timeout(timeout) if self._retries else None

    def signer(self) -> dict[str, Any]:
        """Give what signs: a key at hand, or the service's own account by the IAM API.

        Raises:
            Unsupported: the credentials are nobody's who can sign.
        """
        given = service_credentials(self._binding)
        found: Any = given if given is not None else self.client._credentials  # noqa: SLF001 (it has no other name)
        if callable(getattr(found, "sign_bytes", None)) and getattr(found, "signer_email", None):
            return {"credentials": found}
        email = getattr(found, "service_account_email", None)
        if not email:
            raise Unsupported(
                "these credentials cannot sign requests; set credentials = { key_file = … } or { impersonate = … }"
            )
        with translating():
            if not found.valid:
                found.refresh(Request())
        # The metadata server tells the name only when it was asked for a token.
        return {"service_account_email": found.service_account_email, "access_token": found.token}

    def stores(self) -> Stores | None:
        """Give the stores of `obstore`, where they serve this bucket in this process."""
        if self._binding.options.engine == "google-cloud-storage" or not is_usable():
            return None
        return Stores(self._store, usual=self._usual, retries=self._retries)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def _client(self) -> Client:
        how: dict[str, Any] = {"client_options": {"api_endpoint": self.endpoint}}
        if self._is_emulator:
            how["credentials"] = AnonymousCredentials()
        else:
            how["credentials"] = service_credentials(self._binding)
        how["project"] = bucket_project(self._binding) or getattr(how["credentials"], "project_id", None)
        with translating():
            client = Client(**how)
            # Its own keeps ten connections, and drops all that more threads than that open.
            session: Any = client._http  # noqa: SLF001 (the client has no other way to it)
            session.mount("https://", HTTPAdapter(pool_maxsize=_POOL))
            session.mount("http://", HTTPAdapter(pool_maxsize=_POOL))
        return client

    def _store(self, timeout: float, retries: int) -> Any:
        from obstore.store import GCSStore  # noqa: PLC0415 (where it is not installed, nobody gets here)

        return GCSStore(
            self._binding.name,
            config={} if self.endpoint is None else {"base_url": self.endpoint},
            client_options={
                "allow_http": self._is_emulator,
                "timeout": timedelta(seconds=timeout),
                "connect_timeout": timedelta(seconds=min(timeout, _CONNECT_WITHIN)),
                # Else the service unpacks what is stored as gzip.
                "default_headers": {"accept-encoding": "gzip"},
            },
            # No attempt starts in the second half, so that the last one still ends within the time.
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=timeout / 2)},
            credential_provider=self._provide,  # type: ignore[arg-type]  # a callable, as its protocol says
        )

    def _provide(self) -> dict[str, Any]:
        if self._is_emulator:
            # What needs no token takes any; without one, obstore would look for a metadata server.
            return {"token": "none", "expires_at": None}
        found: Any = self.client._credentials  # noqa: SLF001 (it has no other name)
        with self._lock:
            if not found.valid:
                found.refresh(Request())
            expiry = found.expiry
        return {"token": found.token, "expires_at": None if expiry is None else expiry.replace(tzinfo=UTC)}


def within(timeout: float) -> tuple[float, float]:
    """Bound one request: connecting, and waiting for bytes."""
    return min(timeout, _CONNECT_WITHIN), timeout
