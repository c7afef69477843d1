"""The clients of one bucket: boto3's, and the stores of `obstore`, with the same credentials."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config

from portable.bindings import Binding
from portable.errors import ConfigError, Unauthenticated
from portable_aws.options import S3Options
from portable_aws.sessions import opened
from portable_objectstore.stores import Stores, is_usable, rung

__all__ = ["Clients"]

_CONNECT_WITHIN = 10.0
# obstore asks for credentials that end within five minutes anew; boto3 keeps the real ones fresh.
_KEPT = timedelta(minutes=6)


class Clients:
    """Makes clients when they are first needed; safe with threads."""

    def __init__(self, binding: Binding[S3Options]) -> None:
        """Make nothing yet."""
        self._options = binding.options
        self._bucket = binding.name
        self._usual = float(binding.contract.timeout)
        self._retries = binding.contract.retries
        self._identity = binding.options.identity()
        self._lock = threading.RLock()
        self._session: Any = None
        self._made: dict[tuple[float, bool], Any] = {}
        self._public: Any = None

    @property
    def by_path(self) -> bool:
        """Whether the bucket stands in the path."""
        options = self._options
        if options.addressing != "auto":
            return options.addressing == "path"
        return options.endpoint is not None or "." in self._bucket

    @property
    def usual(self) -> Any:
        """The client for calls of the usual time limit."""
        return self.within(self._usual)

    def within(self, timeout: float, *, once: bool = False) -> Any:
        """Give the client of boto3 for calls of at most so many seconds; `once`: one that repeats nothing."""
        key = (timeout if timeout == self._usual else rung(timeout, self._usual), once)
        client = self._made.get(key)
        if client is None:
            with self._lock:
                if key not in self._made:
                    self._made[key] = self._client(key[0], 0 if once else self._retries, self._options.endpoint)
                client = self._made[key]
        return client

    def signing(self) -> Any:
        """Give the client whose signed requests others can reach."""
        if self._options.public_endpoint is None:
            return self.usual
        with self._lock:
            if self._public is None:
                self._public = self._client(self._usual, 0, self._options.public_endpoint)
            return self._public

    def stores(self) -> Stores | None:
        """Give the stores of `obstore`, where they serve this bucket in this process."""
        wanted = self._options.engine
        if wanted == "boto3" or not is_usable():
            return None
        return Stores(self._store, usual=self._usual, retries=self._retries)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            clients = [*self._made.values(), self._public]
            self._made.clear()
            self._public = None
        for client in clients:
            if client is not None:
                client.close()

    def _opened(self) -> Any:
        if self._session is None:
            self._session = opened(self._identity, self._options.region)
        return self._session

    def _client(self, timeout: float, retries: int, endpoint: str | None) -> Any:
        # Attempts of less than a second are worth nothing, and all of them share the time.
        attempts = 1 + min(retries, int(timeout))
        each = timeout / attempts
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if self.by_path else "virtual"},
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=min(each, _CONNECT_WITHIN),
            read_timeout=each,
            max_pool_connections=64,
            # The driver sends and checks CRC-32 itself, in headers: a trailer is more than many servers understand.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            tcp_keepalive=True,
        )
        session = self._opened()
        region = self._options.region or session.region_name
        if region is None and endpoint is not None:
            region = "us-east-1"
        if region is None:
            raise ConfigError("no region is set; write region= into the URL")
        return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)

    def _store(self, timeout: float, retries: int) -> Any:
        from obstore.store import S3Store  # noqa: PLC0415 (where it is not installed, nobody gets here)

        client = self.usual
        endpoint = client.meta.endpoint_url
        virtual = not self.by_path
        if virtual:
            parts = urlsplit(endpoint)
            endpoint = f"{parts.scheme}://{self._bucket}.{parts.netloc}"
        settings: dict[str, Any] = {
            # Both, so that no variable of the environment leads this bucket elsewhere.
            "endpoint": endpoint,
            "aws_endpoint_url_s3": endpoint,
            "region": client.meta.region_name,
            "virtual_hosted_style_request": virtual,
            "disable_bulk_delete": True,
            "skip_signature": False,
            "unsigned_payload": False,
        }
        if self._options.encryption is not None:
            settings["server_side_encryption"] = self._options.encryption
        if self._options.kms_key_id is not None:
            settings["sse_kms_key_id"] = self._options.kms_key_id
        return S3Store(
            self._bucket,
            config=settings,  # type: ignore[arg-type]  # made of its keys
            client_options={
                "allow_http": endpoint.startswith("http:"),
                "timeout": timedelta(seconds=timeout),
                "connect_timeout": timedelta(seconds=min(timeout, _CONNECT_WITHIN)),
            },
            # No attempt starts in the second half, so that the last one still ends within the time.
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=timeout / 2)},
            credential_provider=self._provider(),  # type: ignore[arg-type]  # a callable, as its protocol says
        )

    def _provider(self) -> Callable[[], dict[str, Any]]:
        credentials = self._opened().get_credentials()
        if credentials is None:
            raise Unauthenticated("there are no credentials: the chain of boto3 finds none")

        def provide() -> dict[str, Any]:
            frozen = credentials.get_frozen_credentials()
            lasting = self._identity.access_key_id is not None and self._identity.role_arn is None
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": None if lasting else datetime.now(UTC) + _KEPT,
            }

        return provide
