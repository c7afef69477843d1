"""Sessions of boto3 with the credentials that a binding names."""

from __future__ import annotations

import functools
from typing import Any

import boto3
import botocore.session
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.loaders import Loader

from portable.errors import Unauthenticated
from portable_aws.options import AwsCredentials

__all__ = ["opened"]


@functools.cache
def _models() -> Loader:
    """Read the descriptions of the services once a process: they are the most of what a first client costs."""
    return Loader()


def opened(identity: AwsCredentials, region: str | None) -> Any:
    """Open a session; it reads config files, and asks nobody.

    Args:
        identity: where credentials come from.
        region: the region, or None for that of the AWS configuration.

    Raises:
        Unauthenticated: there are no credentials to assume a role with.
    """
    core = botocore.session.Session()
    core.register_component("data_loader", _models())
    session = boto3.Session(
        botocore_session=core,
        aws_access_key_id=identity.access_key_id,
        aws_secret_access_key=identity.secret_access_key,
        aws_session_token=identity.session_token,
        profile_name=identity.profile,
        region_name=region,
    )
    if identity.role_arn is not None:
        _assume(session, identity)
    return session


def _assume(session: Any, identity: AwsCredentials) -> None:
    """Let a session work as a role, renewed before it ends."""
    core = session._session  # noqa: SLF001 (boto3 has no other way to its core, whose credentials are replaced)
    source = core.get_credentials()
    if source is None:
        raise Unauthenticated("there are no credentials to assume the role with")
    arguments = {"RoleSessionName": identity.role_session_name, "ExternalId": identity.external_id}
    fetcher = AssumeRoleCredentialFetcher(
        core.create_client,
        source,
        identity.role_arn,
        extra_args={name: value for name, value in arguments.items() if value is not None},
    )
    core._credentials = DeferredRefreshableCredentials(  # noqa: SLF001 (the same)
        refresh_using=fetcher.fetch_credentials, method="assume-role"
    )
