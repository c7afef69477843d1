"""Logins by Entra ID: at Azure's databases, and at caches of Azure Managed Redis.

Vendor pages: learn.microsoft.com/azure/postgresql/flexible-server/security-entra-configure,
learn.microsoft.com/azure/redis/entra-for-authentication.
"""

from __future__ import annotations

from typing import Any

from azure.core.exceptions import AzureError

from portable.errors import ConfigError, Unauthenticated
from portable.identities import Login, Logins, Sought, credentials
from portable_azure.errors import translated, translating
from portable_azure.options import Credentials, token_credential

__all__ = ["logins"]

_SCOPES = {
    "postgresql": "https://ossrdbms-aad.database.windows.net/.default",
    "mysql": "https://ossrdbms-aad.database.windows.net/.default",
    "mssql": "https://database.windows.net/.default",
    "redis": "https://redis.azure.com/.default",
}


def logins(sought: Sought) -> Logins:
    """Give what makes logins: Entra's token, which azure-identity keeps until it is about to end.

    Raises:
        ConfigError: it is no server at which Entra logs in, or something is missing.
    """
    scope = _SCOPES.get(sought.protocol)
    if scope is None:
        raise ConfigError(f"auth=entra does not serve {sought.protocol}:")
    if sought.region is not None:
        raise ConfigError("auth=entra needs no region=")
    identity = token_credential(credentials(sought, Credentials))
    if sought.protocol == "redis":
        return _redis(identity, scope, sought.username)
    # SQL Server reads the name in the token.
    username = sought.username or ("" if sought.protocol == "mssql" else None)
    if username is None:
        raise ConfigError("auth=entra needs the user in the URL: user@host")

    def login() -> Login:
        with translating():
            return Login(username, identity.get_token(scope).token)

    return login


def _redis(identity: Any, scope: str, username: str | None) -> Logins:
    from redis.auth.err import RequestTokenErr  # noqa: PLC0415 (databases do without)
    from redis_entraid.identity_provider import DefaultAzureCredentialProvider  # noqa: PLC0415 (the same)

    # Its own provider of credentials has a thread that renews tokens, and that nobody ends.
    provider = DefaultAzureCredentialProvider(identity, (scope,))

    def login() -> Login:
        try:
            token = provider.request_token()
        except RequestTokenErr as error:
            cause = error.args[0] if error.args else error
            if isinstance(cause, AzureError):
                raise translated(cause) from error
            raise
        name = username or token.try_get("oid")
        if not name:
            raise Unauthenticated("the token names nobody by an object id; write the user into the URL")
        return Login(name, token.get_value(), token.get_expires_at_ms() / 1000)

    return login
