"""What the URL of a Google Cloud service may say, and the credentials and channels that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError

__all__ = [
    "BucketOptions",
    "Credentials",
    "FirestoreOptions",
    "GcpOptions",
    "PubSubOptions",
    "bucket_project",
    "chosen_credentials",
    "client_arguments",
    "project",
    "service_credentials",
]

_EVERYTHING = "https://www.googleapis.com/auth/cloud-platform"


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """In place of Application Default Credentials.

    Attributes:
        key_file: the JSON key of a service account.
        impersonate: a service account that the default credentials may act as.
    """

    key_file: Path | None = None
    impersonate: str | None = None


class GcpOptions(Options, frozen=True, kw_only=True):
    """What every Google Cloud service takes.

    Attributes:
        project: the project's id, where the URL has a name alone.
        endpoint: where the service is when that is not its public address; one with `http:` is an emulator, which is
            spoken to in clear and without credentials (`http://127.0.0.1:8085`).
        credentials: in place of Application Default Credentials.
    """

    project: str | None = None
    endpoint: str | None = None
    credentials: Credentials | None = None


class PubSubOptions(GcpOptions, frozen=True, kw_only=True):
    """`pubsub://PROJECT/name`, or `pubsub://name?project=PROJECT`."""


class BucketOptions(GcpOptions, frozen=True, kw_only=True):
    """`gs://bucket-name`, or `gs://PROJECT/bucket-name`; the project is needed to make a bucket alone.

    Attributes:
        location: where a bucket is made, such as `europe-west6`; left out, the service's own choice.
        public_endpoint: the URL that signed requests name, where others reach the service by another one.
        engine: `obstore` reads what it can, beside google-cloud-storage; `google-cloud-storage` serves all; `auto` is
            obstore where it is installed.
    """

    location: str | None = None
    public_endpoint: str | None = None
    engine: Literal["auto", "obstore", "google-cloud-storage"] = "auto"


class FirestoreOptions(GcpOptions, frozen=True, kw_only=True):
    """`firestore://PROJECT/collection`, or `firestore://collection?project=PROJECT`.

    Attributes:
        database: the id of the database.
    """

    database: str = "(default)"


def project(binding: Binding[GcpOptions]) -> str:
    """Give the project that the URL or its option names.

    Raises:
        ConfigError: neither does, or both do.
    """
    # A lone authority is the name.
    named = binding.url.host if binding.url.path.strip("/") else None
    given = binding.options.project
    if bool(named) == bool(given):
        raise ConfigError(f"write {binding.url.scheme}://PROJECT/NAME, or the project as project=, but not both")
    return str(named or given)


def bucket_project(binding: Binding[GcpOptions]) -> str | None:
    """Give the project that the URL of a bucket or its option names; a bucket's name is its own in all the world.

    Raises:
        ConfigError: both do.
    """
    if binding.options.project is None and not binding.url.path.strip("/"):
        return None
    return project(binding)


def client_arguments(binding: Binding[GcpOptions], transport: Any) -> dict[str, Any]:
    """Give what a client of the vendor's is made with.

    Args:
        binding: the resource's.
        transport: the client's gRPC transport class, for an emulator.

    Raises:
        ConfigError: the endpoint is no URL.
    """
    endpoint = binding.options.endpoint
    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ConfigError("endpoint= takes a URL: https://… or, for an emulator, http://HOST:PORT")
        if parts.scheme == "http":
            import grpc  # noqa: PLC0415 (an emulator alone needs it here)

            return {"transport": transport(channel=grpc.insecure_channel(parts.netloc))}
        return {"client_options": {"api_endpoint": parts.netloc}, **_credentials(binding)}
    return _credentials(binding)


def service_credentials(binding: Binding[GcpOptions]) -> Any:
    """Give the credentials that the binding sets, or None for those of the environment."""
    return chosen_credentials(binding.options.credentials or Credentials())


def chosen_credentials(given: Credentials, scopes: tuple[str, ...] = (_EVERYTHING,)) -> Any:
    """Give the credentials of the vendor's own kind, or None for those of the environment.

    Raises:
        ConfigError: the key file cannot be read, or is none.
    """
    found: Any = None
    if given.key_file is not None:
        from google.oauth2 import service_account  # noqa: PLC0415 (only what is used)

        try:
            found = service_account.Credentials.from_service_account_file(str(given.key_file), scopes=scopes)
        except OSError as error:
            raise ConfigError(f"the key file {given.key_file} cannot be read: {error.strerror}") from error
        except ValueError:
            # What the vendor says of it may quote it.
            raise ConfigError(f"the key file {given.key_file} is no JSON key of a service account") from None
    if given.impersonate is not None:
        import google.auth  # noqa: PLC0415 (only what is used)
        from google.auth import impersonated_credentials  # noqa: PLC0415 (the same)

        source = found if found is not None else google.auth.default(scopes=[_EVERYTHING])[0]
        found = impersonated_credentials.Credentials(source, given.impersonate, list(scopes))
    return found


def _credentials(binding: Binding[GcpOptions]) -> dict[str, Any]:
    found = service_credentials(binding)
    return {} if found is None else {"credentials": found}
