"""Secrets of Azure Key Vault, for references.

Vendor page: learn.microsoft.com/rest/api/keyvault/secrets/get-secret/get-secret.
"""

from __future__ import annotations

import contextlib
import re
from urllib.parse import urlsplit

import msgspec
from azure.keyvault.secrets import SecretClient

from portable.errors import ConfigError, ResourceNotFound
from portable.secret_names import take_apart
from portable_azure.errors import translating
from portable_azure.options import Credentials, token_credential

__all__ = ["read"]

_SHORT = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9])/([0-9A-Za-z-]{1,127})")
_PATH = re.compile(r"/secrets/([0-9A-Za-z-]{1,127})(?:/([0-9A-Za-z]+))?/?")


class SecretOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`${azure-secret:VAULT/NAME}`, or the secret's identifier: `${azure-secret:https://…/secrets/NAME}`.

    Attributes:
        version: the id of a version; left out, the latest.
        client_id: of a user-assigned managed identity, in place of Azure's default chain.
        authority: where to sign in, in a cloud that is not the public one.
    """

    version: str | None = None
    client_id: str | None = None
    authority: str | None = None


def read(written: str) -> str:
    """Read a secret.

    Args:
        written: what the reference says: a vault and a name, and options.

    Raises:
        PortableError: what is wrong with the reference, or what the service reports.
    """
    name, options = take_apart(written, SecretOptions)
    vault, secret, version = _place(name)
    if version and options.version:
        raise ConfigError("the version stands twice; keep one")
    credential = token_credential(Credentials(client_id=options.client_id, authority=options.authority))
    client = SecretClient(vault, credential, connection_timeout=5, read_timeout=10, retry_total=2)
    try:
        with contextlib.closing(client), contextlib.closing(credential), translating():
            value = client.get_secret(secret, version or options.version).value
    except ResourceNotFound as error:
        error.message = "the vault has no such secret, or no such version of it"
        raise
    return value or ""


def _place(name: str) -> tuple[str, str, str | None]:
    if short := _SHORT.fullmatch(name):
        return f"https://{short[1]}.vault.azure.net", short[2], None
    parts = urlsplit(name)
    path = _PATH.fullmatch(parts.path)
    if parts.scheme != "https" or path is None:
        raise ConfigError("a secret is written VAULT/NAME, or https://VAULT.vault.azure.net/secrets/NAME")
    return f"https://{parts.netloc}", path[1], path[2]
