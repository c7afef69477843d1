"""What the URL of a bucket on S3 may say."""

from __future__ import annotations

from typing import Literal

import msgspec

from portable.drivers import Options
from portable.errors import ConfigError

__all__ = ["AwsCredentials", "S3Options"]


class AwsCredentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where credentials come from, instead of the default chain of boto3.

    Attributes:
        profile: a profile of the AWS config files.
        access_key_id: an access key.
        secret_access_key: its secret.
        session_token: what goes with a key that is only valid for a time.
        role_arn: the role to assume with these credentials, or with those of the chain.
        role_session_name: what the assumed session is called.
        external_id: what the role's owner asks of those who assume it.
    """

    profile: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    role_arn: str | None = None
    role_session_name: str = "portable"
    external_id: str | None = None

    def __repr__(self) -> str:
        """Name what is set, and no value."""
        given = [field.name for field in msgspec.structs.fields(self) if getattr(self, field.name) != field.default]
        return f"AwsCredentials({', '.join(given)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Show the same where `rich` prints, which would list every value."""
        return [("text", repr(self))]


class S3Options(Options, frozen=True, kw_only=True):
    """`s3://bucket-name?region=eu-west-1`, or `s3://?endpoint=http://host:port&region=…` for another server.

    Attributes:
        region: where the bucket is; left out, that of the AWS configuration.
        endpoint: the URL of a server that is not Amazon's.
        public_endpoint: the URL that signed requests name, where others reach the server by another one.
        addressing: whether the bucket stands in the host's name (`virtual`) or in the path (`path`); `auto` is
            virtual at Amazon, and path at an endpoint or where the name has dots.
        access_key_id: an access key, as in `credentials`.
        secret_access_key: its secret.
        session_token: what goes with a key that is only valid for a time.
        credentials: where credentials come from, instead of the default chain of boto3.
        engine: `obstore` serves what it can, beside boto3; `boto3` serves all; `auto` is obstore where it is installed.
        keys: how keys become names: `native`, as they are; `folders`, for servers that keep objects as files in
            folders, such as SeaweedFS; `auto` asks the server.
        checksums: whether CRC-32 is sent and read; turn it off for servers that refuse it.
        encryption: how Amazon encrypts what is written, instead of the bucket's default.
        kms_key_id: the key, for `aws:kms`.
    """

    region: str | None = None
    endpoint: str | None = None
    public_endpoint: str | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    credentials: AwsCredentials | None = None
    engine: Literal["auto", "obstore", "boto3"] = "auto"
    keys: Literal["auto", "native", "folders"] = "auto"
    checksums: bool = True
    encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = None

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
        if self.kms_key_id is not None and self.encryption != "aws:kms":
            raise ConfigError("kms_key_id goes with encryption=aws:kms")
        return found
