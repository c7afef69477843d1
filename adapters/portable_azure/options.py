"""What the URL of an Azure service may say, and the credentials that come of it."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError

__all__ = [
    "AzureOptions",
    "BlobOptions",
    "CosmosOptions",
    "Credentials",
    "StorageQueueOptions",
    "account",
    "account_url",
    "credential",
    "token_credential",
]


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """In place of `DefaultAzureCredential`: one of an account key, a SAS, a service principal, or a managed identity.

    Attributes:
        account_key: a key of the storage account, in Base64.
        sas_token: a shared access signature, without the question mark.
        tenant_id: of a service principal, with `client_id` and `client_secret`.
        client_id: of a service principal; alone, of a user-assigned managed identity.
        client_secret: of a service principal.
        authority: where an identity signs in, in a cloud that is not the public one (`https://login.chinacloudapi.cn`).
    """

    account_key: str | None = None
    sas_token: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    authority: str | None = None

    def __repr__(self) -> str:
        """Name what is set, and no value."""
        return f"Credentials({', '.join(name for name in self.__struct_fields__ if getattr(self, name) is not None)})"


class AzureOptions(Options, frozen=True, kw_only=True):
    """What every Azure service takes.

    Attributes:
        account: the name of the account, where the URL has a name alone.
        endpoint: the service's URL where it is not the account's public one: a private endpoint, another cloud, or an
            emulator (`http://127.0.0.1:10001/devstoreaccount1`).
        credentials: in place of Azure's default chain.
        account_key: the same as `credentials = { account_key = … }`, for URLs.
    """

    account: str | None = None
    endpoint: str | None = None
    credentials: Credentials | None = None
    account_key: str | None = None


class BlobOptions(AzureOptions, frozen=True, kw_only=True):
    """`az://ACCOUNT/container-name`, or `az://container-name?account=ACCOUNT`.

    Attributes:
        public_endpoint: the URL that signed requests name, where others reach the service by another one.
        engine: `obstore` serves what it can, beside azure-storage-blob; `azure-storage-blob` serves all; `auto` is
            obstore where it is installed.
    """

    public_endpoint: str | None = None
    engine: Literal["auto", "obstore", "azure-storage-blob"] = "auto"


class StorageQueueOptions(AzureOptions, frozen=True, kw_only=True):
    """`azqueue://ACCOUNT/queue-name`, or `azqueue://queue-name?account=ACCOUNT`.

    Attributes:
        longest_pause: how many seconds a waiting receive lets pass at most before it asks again, which it does ever
            less often: the service cannot wait, and each time it is asked is billed.
    """

    longest_pause: float = 1.0


class CosmosOptions(AzureOptions, frozen=True, kw_only=True):
    """`cosmos://ACCOUNT/container`, or `cosmos://container?account=ACCOUNT`; `endpoint=` can stand for the account.

    Attributes:
        database: the database that the container is in.
        consistency: `account` wants an account whose consistency is strong (or bounded staleness, which in the region
            that takes the writes is the same); `session` makes do with one where a process sees its own writes at
            once, and those of others after a while.
        verify: whether the server's certificate is looked at; only an emulator on this machine may do without.
    """

    database: str = "portable"
    consistency: Literal["account", "session"] = "account"
    verify: bool = True


def account(binding: Binding[AzureOptions]) -> str:
    """Give the account that the URL or its option names.

    Raises:
        ConfigError: neither does, or both do.
    """
    # A lone authority is the name.
    named = binding.url.host if binding.url.path.strip("/") else None
    given = binding.options.account
    if bool(named) == bool(given):
        raise ConfigError(f"write {binding.url.scheme}://ACCOUNT/NAME, or the account as account=, but not both")
    return str(named or given)


def account_url(binding: Binding[AzureOptions], service: Literal["blob", "queue"]) -> str:
    """Give the URL of the account's service.

    Raises:
        ConfigError: the binding names no account, or the endpoint is no URL.
    """
    named, endpoint = account(binding), binding.options.endpoint
    if endpoint is None:
        return f"https://{named}.{service}.core.windows.net"
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        raise ConfigError("endpoint= takes a URL, such as https://acme.queue.core.windows.net")
    return endpoint


def credential(binding: Binding[AzureOptions]) -> Any:
    """Give what the vendor's clients take as credential.

    Raises:
        ConfigError: more than one kind of credentials is given, or half of one.
    """
    options = binding.options
    given = options.credentials or Credentials()
    if options.account_key is not None:
        if given != Credentials():
            raise ConfigError("account_key and credentials are both set; keep one")
        given = Credentials(account_key=options.account_key)
    principal = (given.tenant_id, given.client_secret)
    kinds = [given.account_key, given.sas_token, given.client_id if not any(principal) else principal]
    if sum(kind is not None for kind in kinds) > 1:
        raise ConfigError("the credentials are of several kinds; keep account_key, sas_token or those of an identity")
    if given.account_key is not None:
        named = binding.options.account or binding.url.host
        return {"account_name": named, "account_key": given.account_key}
    if given.sas_token is not None:
        from azure.core.credentials import AzureSasCredential  # noqa: PLC0415 (only the one that is used)

        return AzureSasCredential(given.sas_token)
    return token_credential(given)


def token_credential(given: Credentials) -> Any:
    """Give what makes tokens of Entra ID.

    Raises:
        ConfigError: there are credentials of another kind, or half of a service principal.
    """
    if given.account_key is not None or given.sas_token is not None:
        raise ConfigError("account_key and sas_token are for storage; this wants an identity")
    from azure import identity  # noqa: PLC0415 (it takes as long to import as everything else)

    where: dict[str, Any] = {}
    if given.authority is not None:
        # It is not looked up at the public cloud, which may not know it.
        where = {"authority": given.authority, "disable_instance_discovery": True}
    if given.tenant_id is not None or given.client_secret is not None:
        if given.tenant_id is None or given.client_id is None or given.client_secret is None:
            raise ConfigError("a service principal has tenant_id, client_id and client_secret; one is missing")
        return identity.ClientSecretCredential(given.tenant_id, given.client_id, given.client_secret, **where)
    if given.client_id is not None:
        return identity.ManagedIdentityCredential(client_id=given.client_id)
    return identity.DefaultAzureCredential(**where)
