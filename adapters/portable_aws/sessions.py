"""Sessions of boto3 with the credentials that a binding names."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.session

from portable_aws.clients import assume, models
from portable_aws.options import AwsCredentials

__all__ = ["opened"]


def opened(identity: AwsCredentials, region: str | None) -> Any:
    """Open a session; it reads config files, and asks nobody.

    Args:
        identity: where credentials come from.
        region: the region, or None for that of the AWS configuration.

    Raises:
        Unauthenticated: there are no credentials to assume a role with.
    """
    core = botocore.session.Session()
    core.register_component("data_loader", models())
    session = boto3.Session(
        botocore_session=core,
        aws_access_key_id=identity.access_key_id,
        aws_secret_access_key=identity.secret_access_key,
        aws_session_token=identity.session_token,
        profile_name=identity.profile,
        region_name=region,
    )
    if identity.role_arn is not None:
        assume(session, identity)
    return session
