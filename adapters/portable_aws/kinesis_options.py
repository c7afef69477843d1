"""What the URL of a stream in Kinesis may say."""

from __future__ import annotations

import re

from portable.errors import ConfigError
from portable.quantities import Duration
from portable_aws.regional import RegionalOptions

__all__ = ["KinesisOptions", "stream_name"]

# https://docs.aws.amazon.com/kinesis/latest/APIReference/API_CreateStream.html
_STREAM = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


class KinesisOptions(RegionalOptions, frozen=True, kw_only=True):
    """`kinesis://clicks?region=eu-west-1`, or `kinesis://123456789012/clicks?region=eu-west-1` of another account.

    Attributes:
        account: the account whose stream it is, where the URL does not say.
        session_timeout: after so long without a sign of life a consumer's partitions go to others, such as `10s`.
        checkpoint_endpoint: the URL of the DynamoDB that keeps the groups of a stream which names no `checkpoint`;
            left out, `endpoint`, and without that Amazon's.
    """

    account: str | None = None
    session_timeout: Duration = Duration(10)
    checkpoint_endpoint: str | None = None


def stream_name(name: str) -> str:
    """Give the name that a stream has at Kinesis.

    Raises:
        ConfigError: Kinesis takes no such name.
    """
    if not _STREAM.fullmatch(name):
        raise ConfigError(f"Kinesis takes no stream {name!r}: a name is 1 to 128 letters, digits, ., - and _")
    return name
