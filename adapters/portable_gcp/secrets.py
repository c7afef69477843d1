"""Secrets of Google Cloud's Secret Manager, for references.

Vendor page: cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import google.auth
import google_crc32c
import msgspec
from google.auth.credentials import AnonymousCredentials
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceRestTransport

from portable.errors import ConfigError, IntegrityError, ResourceNotFound
from portable.secret_names import take_apart
from portable_gcp.errors import translating
from portable_gcp.options import Credentials, chosen_credentials

__all__ = ["read"]

_FULL = re.compile(r"projects/[^/]+(?:/locations/([^/]+))?/secrets/[^/]+(/versions/[^/]+)?")
_SHORT = re.compile(r"(?:([^/]+)/)?([A-Za-z0-9_-]{1,255})")
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_PATIENCE = 20.0


class SecretOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`${gcp-secret:PROJECT/NAME}`, `${gcp-secret:NAME}` of the credentials' project, or the full resource name.

    Attributes:
        version: a number or an alias; left out, the latest.
        impersonate: a service account that the default credentials may act as.
        endpoint: where the service is when that is not its public address; one with `http:` is an emulator, which is
            spoken to in clear and without credentials.
    """

    version: str | None = None
    impersonate: str | None = None
    endpoint: str | None = None


def read(written: str) -> str:
    """Read a secret.

    Args:
        written: what the reference says: a name, and options.

    Raises:
        PortableError: what is wrong with the reference, or what the service reports.
    """
    name, options = take_apart(written, SecretOptions)
    endpoint = urlsplit(options.endpoint or "")
    if options.endpoint is not None and (endpoint.scheme not in {"http", "https"} or not endpoint.netloc):
        raise ConfigError("endpoint= takes a URL: https://… or, for an emulator, http://HOST:PORT")
    with translating():
        credentials, project = _credentials(options, is_emulator=endpoint.scheme == "http")
    resource, location = _resource(name, options.version, project)
    host = endpoint.netloc or f"secretmanager.{f'{location}.rep.' if location else ''}googleapis.com"
    try:
        with translating():
            payload = _accessed(resource, host, credentials, endpoint.scheme or "https")
    except ResourceNotFound as error:
        error.message = "the project has no such secret, or no such version of it"
        raise
    data = bytes(payload.data)
    if payload.data_crc32c and google_crc32c.value(data) != payload.data_crc32c:
        raise IntegrityError("the secret came damaged: its CRC-32C is another")
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise ConfigError("the secret is bytes, and no UTF-8 text")


def _credentials(options: SecretOptions, *, is_emulator: bool) -> tuple[Any, str | None]:
    if is_emulator:
        return AnonymousCredentials(), None
    found, project = google.auth.default(scopes=_SCOPES)
    if options.impersonate is not None:
        found = chosen_credentials(Credentials(impersonate=options.impersonate))
    return found, project


def _resource(name: str, version: str | None, project: str | None) -> tuple[str, str | None]:
    if full := _FULL.fullmatch(name):
        if full[2] and version:
            raise ConfigError("the version stands twice; keep one")
        return (name if full[2] else f"{name}/versions/{version or 'latest'}"), full[1]
    short = _SHORT.fullmatch(name)
    if short is None:
        raise ConfigError("a secret is written PROJECT/NAME, or projects/PROJECT/secrets/NAME")
    if not (project := short[1] or project):
        raise ConfigError("the credentials name no project; write PROJECT/NAME")
    return f"projects/{project}/secrets/{short[2]}/versions/{version or 'latest'}", None


def _accessed(resource: str, host: str, credentials: Any, scheme: str) -> Any:
    # By REST: a process that forks later must have opened no gRPC.
    transport = SecretManagerServiceRestTransport(host=host, credentials=credentials, url_scheme=scheme)
    try:
        client = SecretManagerServiceClient(transport=transport)
        return client.access_secret_version(name=resource, timeout=_PATIENCE).payload
    finally:
        transport.close()
