"""Secrets of AWS Secrets Manager, for references.

Vendor page: docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html.
"""

from __future__ import annotations

import re

import msgspec
from botocore.config import Config

from portable.errors import ConfigError, PortableError, ResourceNotFound
from portable.secret_names import take_apart
from portable_aws.options import AwsCredentials
from portable_aws.service_errors import FAILURES, translated
from portable_aws.sessions import opened

__all__ = ["read"]

_ARN = re.compile(r"arn:[a-z-]+:secretsmanager:([a-z0-9-]+):[0-9]{12}:secret:.+")
_VERSION_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_PATIENCE = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})


class SecretOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`${aws-secret:NAME}`, or `${aws-secret:ARN}`.

    Attributes:
        region: where the secret is; left out, what its ARN says, else the region of the AWS configuration.
        version: a staging label or the id of a version; left out, the current one.
        profile: a profile of the AWS config files.
        endpoint: the URL of a server that is not Amazon's public one.
    """

    region: str | None = None
    version: str | None = None
    profile: str | None = None
    endpoint: str | None = None


def read(written: str) -> str:
    """Read a secret.

    Args:
        written: what the reference says: a name or an ARN, and options.

    Raises:
        PortableError: what is wrong with the reference, or what the service reports.
    """
    name, options = take_apart(written, SecretOptions)
    arn = _ARN.fullmatch(name)
    which = {}
    if options.version is not None:
        which["VersionId" if _VERSION_ID.fullmatch(options.version) else "VersionStage"] = options.version
    try:
        session = opened(AwsCredentials(profile=options.profile), options.region or (arn and arn[1]))
        client = session.client("secretsmanager", endpoint_url=options.endpoint, config=_PATIENCE)
        try:
            found = client.get_secret_value(SecretId=name, **which)
        finally:
            client.close()
    except FAILURES as error:
        raise _said(error) from error
    if "SecretString" in found:
        return str(found["SecretString"])
    try:
        return bytes(found["SecretBinary"]).decode()
    except UnicodeDecodeError:
        pass
    raise ConfigError("the secret is bytes, and no UTF-8 text")


def _said(error: BaseException) -> PortableError:
    ours = translated(error)
    ours.maybe_applied = False
    if isinstance(ours, ResourceNotFound):
        ours.message = "there is no such secret, or no such version of it, in this region"
    return ours
