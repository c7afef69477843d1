"""The clients of one container: the vendor's, and the stores of `obstore`, with the same credentials."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.credentials import AzureSasCredential
from azure.storage.blob import BlobServiceClient, ContainerClient, ExponentialRetry

from portable.bindings import Binding
from portable_azure.errors import translating
from portable_azure.options import BlobOptions, account, account_url, credential
from portable_objectstore.stores import Stores, is_usable

__all__ = ["BlobClients", "within"]

_CONNECT_WITHIN = 10.0
_SCOPE = "https://storage.azure.com/.default"
_MIB = 1024 * 1024
# A delegation key is used for as long, and asked for anew when a signature would outlive it.
_DELEGATED = timedelta(days=7)
_SKEW = timedelta(minutes=5)


class BlobClients:
    """Makes clients when they are first needed; safe with threads."""

    def __init__(self, binding: Binding[BlobOptions]) -> None:
        """Make nothing yet."""
        self._binding = binding
        self.account = account(binding)
        self.url = account_url(binding, "blob")
        self._usual = float(binding.contract.timeout)
        self._retries = binding.contract.retries
        self._lock = threading.RLock()
        self._service: BlobServiceClient | None = None
        self._credential: Any = None
        self._delegated: tuple[Any, datetime] | None = None

    @property
    def service(self) -> BlobServiceClient:
        """The client of the account."""
        with self._lock:
            if self._service is None:
                self._service = BlobServiceClient(
                    self.url,
                    credential=self.credential,
                    retry_policy=ExponentialRetry(initial_backoff=0, increment_base=2, retry_total=self._retries),
                    # What is put in one go goes in one request: its callers cut what is large.
                    max_single_put_size=5000 * _MIB,
                )
            return self._service

    @property
    def container(self) -> ContainerClient:
        """The client of the container."""
        return self.service.get_container_client(self._binding.name)

    @property
    def credential(self) -> Any:
        """What the vendor's clients take."""
        with self._lock:
            if self._credential is None:
                self._credential = credential(self._binding)
            return self._credential

    @property
    def account_key(self) -> str | None:
        """The key of the account, where that is the credential."""
        found = self.credential
        return found["account_key"] if isinstance(found, dict) else None

    @property
    def is_identity(self) -> bool:
        """Whether the credential is somebody's identity at Entra ID."""
        return not isinstance(self.credential, (dict, AzureSasCredential))

    def delegated(self, until: datetime, *, timeout: float) -> Any:
        """Give a key that signs in the name of an identity, good at least until then."""
        with self._lock:
            if self._delegated is None or self._delegated[1] < until:
                now = datetime.now(UTC)
                with translating():
                    key = self.service.get_user_delegation_key(now - _SKEW, now + _DELEGATED, **within(timeout))
                self._delegated = (key, now + _DELEGATED)
            return self._delegated[0]

    def stores(self) -> Stores | None:
        """Give the stores of `obstore`, where they serve this container in this process."""
        if self._binding.options.engine == "azure-storage-blob" or not is_usable():
            return None
        return Stores(self._store, usual=self._usual, retries=self._retries)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            service, self._service = self._service, None
            found, self._credential = self._credential, None
        for each in (service, found):
            close = getattr(each, "close", None)
            if close is not None:
                close()

    def _store(self, timeout: float, retries: int) -> Any:
        from obstore.store import AzureStore  # noqa: PLC0415 (where it is not installed, nobody gets here)

        settings: dict[str, Any] = {"account_name": self.account, "endpoint": self.url}
        how: dict[str, Any] = {}
        found = self.credential
        if isinstance(found, dict):
            settings["account_key"] = found["account_key"]
        elif isinstance(found, AzureSasCredential):
            settings["sas_key"] = found.signature
        else:
            how["credential_provider"] = self._provider(found)
        return AzureStore(
            self._binding.name,
            config=settings,  # type: ignore[arg-type]  # made of its keys
            client_options={
                "allow_http": self.url.startswith("http:"),
                "timeout": timedelta(seconds=timeout),
                "connect_timeout": timedelta(seconds=min(timeout, _CONNECT_WITHIN)),
            },
            # No attempt starts in the second half, so that the last one still ends within the time.
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=timeout / 2)},
            **how,
        )

    @staticmethod
    def _provider(found: Any) -> Callable[[], dict[str, Any]]:
        def provide() -> dict[str, Any]:
            token = found.get_token(_SCOPE)
            return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}

        return provide


def within(timeout: float, *, once: bool = False) -> dict[str, Any]:
    """Bound a call: the service counts in whole seconds, the client does not; `once`: it is not repeated."""
    bounds: dict[str, Any] = {
        "timeout": max(1, math.ceil(timeout)),
        "connection_timeout": min(timeout, _CONNECT_WITHIN),
        "read_timeout": timeout,
    }
    return {**bounds, "retry_total": 0} if once else bounds
