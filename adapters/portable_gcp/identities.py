"""Logins by IAM: at databases of Cloud SQL, at caches of Memorystore, and at Managed Service for Apache Kafka.

Vendor pages: cloud.google.com/sql/docs/postgres/iam-logins, cloud.google.com/memorystore/docs/cluster/about-iam-auth.
"""

from __future__ import annotations

import calendar
import functools
import threading
import time
from typing import Any

import google.auth
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from portable.errors import ConfigError, Unauthenticated
from portable.identities import Login, Logins, Sought, credentials
from portable_gcp.errors import translated
from portable_gcp.kafka_tokens import kafka_token
from portable_gcp.options import Credentials, chosen_credentials

__all__ = ["logins"]

_SCOPES = {
    "postgresql": "https://www.googleapis.com/auth/sqlservice.login",
    "mysql": "https://www.googleapis.com/auth/sqlservice.login",
    "redis": "https://www.googleapis.com/auth/cloud-platform",
    "kafka": "https://www.googleapis.com/auth/cloud-platform",
}
_PATIENCE = 20


def logins(sought: Sought) -> Logins:
    """Give what makes logins: the credentials' own token, made anew before it ends.

    Raises:
        ConfigError: it is no server for which IAM makes logins, or something is missing.
    """
    scope = _SCOPES.get(sought.protocol)
    if scope is None:
        raise ConfigError(f"auth=gcp-iam does not serve {sought.protocol}:")
    if sought.region is not None:
        raise ConfigError("auth=gcp-iam needs no region=")
    if sought.protocol == "kafka":
        return functools.partial(_kafka, _Source(credentials(sought, Credentials), scope), sought.username)
    # Memorystore knows whom a token names.
    username = sought.username or ("default" if sought.protocol == "redis" else None)
    if username is None:
        raise ConfigError("auth=gcp-iam needs the user in the URL: user@host")
    given = credentials(sought, Credentials)
    return functools.partial(_Source(given, scope).login, username)


def _kafka(source: _Source, username: str | None) -> Login:
    login = source.login(username or "")
    principal = username or source.email
    if not principal:
        raise Unauthenticated(
            "the credentials name nobody; write the principal's email address into the URL: user@host"
        )
    return Login(principal, kafka_token(login.password, principal, login.ends), login.ends)


class _Source:
    """One identity's tokens; safe with threads."""

    def __init__(self, given: Credentials, scope: str) -> None:
        self._given = given
        self._scope = scope
        self._lock = threading.Lock()
        self._credentials: Any = None

    @property
    def email(self) -> str | None:
        """Whom the credentials name, where they name a service account; known once there was a login."""
        found: str | None = getattr(self._credentials, "service_account_email", None)
        return found

    def login(self, username: str) -> Login:
        """Give a login, whose token is good for minutes at least."""
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._opened()
                found = self._credentials
                if not found.valid:
                    _refresh(found)
                token, expiry = str(found.token), found.expiry
        except GoogleAuthError as error:
            raise translated(error) from error
        # It is in UTC, and does not say so.
        ends = time.time() if expiry is None else calendar.timegm(expiry.utctimetuple())
        return Login(username, token, ends)

    def _opened(self) -> Any:
        chosen = chosen_credentials(self._given, (self._scope,))
        return chosen if chosen is not None else google.auth.default(scopes=[self._scope])[0]


def _refresh(found: Any) -> None:
    request = Request()
    try:
        found.refresh(functools.partial(request, timeout=_PATIENCE))
    finally:
        request.session.close()
