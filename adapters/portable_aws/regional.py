"""Clients of boto3 for the services of one region, with the same credentials as buckets have."""

from __future__ import annotations

import threading
from typing import Any

from botocore.config import Config

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import Closed, ConfigError
from portable_aws.attempts import Attempts
from portable_aws.options import AwsCredentials
from portable_aws.sessions import opened

__all__ = ["Regional", "RegionalOptions"]

_CONNECT_WITHIN = 10.0


class RegionalOptions(Options, frozen=True, kw_only=True):
    """What every service takes that is reached in a region.

    Attributes:
        region: where the resource is; left out, that of the AWS configuration.
        endpoint: the URL of a server that is not Amazon's.
        access_key_id: an access key, as in `credentials`.
        secret_access_key: its secret.
        session_token: what goes with a key that is only valid for a time.
        credentials: where credentials come from, instead of the default chain of boto3.
    """

    region: str | None = None
    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    credentials: AwsCredentials | None = None

    def identity(self) -> AwsCredentials:
        """Give the credentials that are set, wherever they stand.

        Raises:
            ConfigError: half of a key is missing, or they are set twice.
        """
        own = {name: getattr(self, name) for name in ("access_key_id", "secret_access_key", "session_token")}
        given = {name: value for name, value in own.items() if value is not None}
        if given and self.credentials is not None:
            raise ConfigError(f"{', '.join(given)} and credentials exclude each other; keep credentials")
        found = self.credentials or AwsCredentials(**given)
        if (found.access_key_id is None) != (found.secret_access_key is None):
            raise ConfigError("access_key_id and secret_access_key go together; one of them is missing")
        return found


class Regional:
    """The clients of one resource, each made when it is first needed; safe with threads."""

    def __init__(self, binding: Binding[Any]) -> None:
        self._options: RegionalOptions = binding.options
        self._usual = float(binding.contract.timeout)
        self._retries = binding.contract.retries
        self._identity = self._options.identity()
        self._lock = threading.RLock()
        self._session: Any = None
        self._made: dict[str, Any] = {}
        self._closed = False

    def client(self, service: str, *, waits: float = 0.0, repeats: bool = True, refused: bool = False) -> Any:
        """Give a client.

        Args:
            service: the service's name at boto3.
            waits: seconds that the service itself waits before it answers.
            repeats: whether a failed call is repeated.
            refused: whether, where it is not, a call is that was refused in passing and surely not carried out.
        """
        key = f"{service} {waits:g} {repeats} {refused}"
        found = self._made.get(key)
        if found is not None:
            return found
        with self._lock:
            if self._closed:
                raise Closed("the resource is closed")
            if key not in self._made:
                self._made[key] = self._client(service, waits, self._retries if repeats else 0, refused=refused)
            return self._made[key]

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._closed = True
            clients, self._made = list(self._made.values()), {}
        for client in clients:
            client.close()

    def _client(self, service: str, waits: float, retries: int, *, refused: bool) -> Any:
        # Attempts of less than a second are worth nothing, and all of them share the time.
        attempts = 1 + min(retries, int(self._usual))
        each = self._usual / attempts
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=min(each, _CONNECT_WITHIN),
            read_timeout=each + waits,
            max_pool_connections=64,
            tcp_keepalive=True,
        )
        session = self._opened()
        region = self._options.region or session.region_name
        if region is None and self._options.endpoint is not None:
            region = "us-east-1"
        if region is None:
            raise ConfigError("no region is set; write region= into the URL")
        client = session.client(service, endpoint_url=self._options.endpoint, region_name=region, config=config)
        repeats = self._retries if refused else retries
        client.meta.events.register("needs-retry", Attempts(retries=repeats, within=self._usual, refused=refused))
        return client

    def _opened(self) -> Any:
        if self._session is None:
            self._session = opened(self._identity, self._options.region)
        return self._session
