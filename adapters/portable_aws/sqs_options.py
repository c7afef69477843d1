"""What the URL of a queue in SQS, or of a topic in SNS, may say, and what it is called there."""

from __future__ import annotations

import re
from typing import Any

from portable.bindings import Binding
from portable.errors import ConfigError
from portable_aws.regional import RegionalOptions

__all__ = ["SnsOptions", "SqsOptions", "account", "fifo_name", "queue_name"]

_ACCOUNT = re.compile(r"[0-9]{12}")
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
_QUEUE = re.compile(r"[A-Za-z0-9_-]+(?:\.fifo)?")
_LONGEST_QUEUE = 80
_DEAD_FIFO = ".fifo-dead"


class SqsOptions(RegionalOptions, frozen=True, kw_only=True):
    """`sqs://jobs?region=eu-west-1`, or `sqs://123456789012/jobs?region=eu-west-1` for a queue of another account.

    Attributes:
        account: the account whose queue it is, where the URL does not say.
    """

    account: str | None = None


class SnsOptions(RegionalOptions, frozen=True, kw_only=True):
    """`sns://events?region=eu-west-1`, or `sns://123456789012/events?region=eu-west-1`.

    Attributes:
        account: the account whose topic it is, where the URL does not say; left out, that of the credentials.
        fifo: whether it is a FIFO topic, which ordered subscriptions need; its name then ends in `.fifo`.
    """

    account: str | None = None
    fifo: bool = False


def account(binding: Binding[Any]) -> str | None:
    """Give the account that the URL or its option names.

    Raises:
        ConfigError: both do, or it is none.
    """
    # A lone authority is the name.
    named = binding.url.host if binding.url.path.strip("/") else None
    given = binding.options.account
    if named and given:
        raise ConfigError(f"write {binding.url.scheme}://ACCOUNT/NAME, or the account as account=, but not both")
    found = named or given
    if found and not _ACCOUNT.fullmatch(found):
        raise ConfigError(f"the account {found!r} is none: it has 12 digits")
    return found or None


def fifo_name(name: str) -> str:
    """Give the name that a FIFO queue or topic has."""
    return name if name.endswith(".fifo") else f"{name}.fifo"


def queue_name(name: str, *, ordered: bool) -> str:
    """Give the name that a queue has at SQS.

    Raises:
        ConfigError: SQS takes no such name.
    """
    if name.endswith(_DEAD_FIFO):
        # Dead letters of an ordered queue are in a standard one.
        name = name.removesuffix(_DEAD_FIFO) + "-dead"
    if ordered:
        name = fifo_name(name)
    elif name.endswith(".fifo"):
        raise ConfigError(f"the queue {name!r} is a FIFO queue; set ordered = true")
    if len(name) > _LONGEST_QUEUE or not _QUEUE.fullmatch(name):
        raise ConfigError(
            f"SQS takes no queue {name!r}: a name is 1 to {_LONGEST_QUEUE} letters, digits, - and _, .fifo included"
        )
    return name
