"""Everything that can go wrong, as one tree.

Each error also inherits the builtin that fits, so that code which knows nothing of `portable` can catch it::

    PortableError
    ├── ConfigError (ValueError)              the config file, a URL, an option, a reference
    ├── NotFound (LookupError)                the key, object, message or document is not there
    │   └── ResourceNotFound                  the bucket, queue, table … itself is not there
    ├── AlreadyExists                         `if_absent` or `create` met something
    ├── PreconditionFailed                    `if_match` or `if_revision` did not hold
    │   └── LeaseLost                         a late `ack` or `extend`, a lock that ran out
    ├── InvalidArgument (ValueError)          an argument that no backend would take
    │   └── LimitExceeded                     larger, longer or more than this backend takes
    ├── Unauthenticated                       no credentials, or wrong ones
    ├── PermissionDenied (PermissionError)    known, but not allowed
    ├── Unsupported (NotImplementedError)     a capability that is lacking or not declared
    ├── Throttled                             asked to slow down
    ├── Unavailable (ConnectionError)         not reachable, or not able to answer
    ├── DeadlineExceeded (TimeoutError)       the `timeout` ran out
    ├── BatchError                            part of a batch failed; `.result` says which part
    ├── IntegrityError                        what came back is not what was stored
    └── Closed                                the resource or its cloud is closed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portable.batches import BatchResult

__all__ = [
    "AlreadyExists",
    "BatchError",
    "Closed",
    "ConfigError",
    "DeadlineExceeded",
    "IntegrityError",
    "InvalidArgument",
    "LeaseLost",
    "LimitExceeded",
    "NotFound",
    "PermissionDenied",
    "PortableError",
    "PreconditionFailed",
    "ResourceNotFound",
    "Throttled",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
]


class PortableError(Exception):
    """The root of every error that `portable` raises.

    Attributes:
        resource: the name of the resource in the config, or None outside of one.
        operation: the method that failed, such as `"put"`.
        provider: the URL scheme of the binding, such as `"s3"`.
        retryable: whether the same call may succeed later, unchanged.
        maybe_applied: the answer was lost, so the call may have happened.

    The vendor's own exception, where there is one, is `__cause__`.
    """

    retryable: bool = False

    def __init__(
        self,
        message: str = "",
        *,
        resource: str | None = None,
        operation: str | None = None,
        provider: str | None = None,
        retryable: bool | None = None,
        maybe_applied: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.resource = resource
        self.operation = operation
        self.provider = provider
        if retryable is not None:
            self.retryable = retryable
        self.maybe_applied = maybe_applied

    def __str__(self) -> str:
        """Say where it happened and what, in one line: ``photos (s3) get: no object 'a.jpg'``."""
        where = self.resource or ""
        if self.provider:
            where = f"{where} ({self.provider})" if where else self.provider
        if self.operation:
            where = f"{where} {self.operation}".strip()
        return f"{where}: {self.message}" if where else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Let errors cross process borders (worker pools pickle them) with all they carry."""
        return (_rebuilt, (type(self), self.args, self.__dict__.copy()))


def _rebuilt(kind: type[PortableError], args: tuple[Any, ...], state: dict[str, Any]) -> PortableError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(PortableError, ValueError):
    """The config file, a URL, an option, a reference or a declared need is wrong; the message says where."""


class NotFound(PortableError, LookupError):
    """The key, object, message or document is not there."""


class ResourceNotFound(NotFound):
    """The bucket, queue, topic, stream, table or database itself is not there."""


class AlreadyExists(PortableError):
    """`if_absent` or `create` met something that is there already."""


class PreconditionFailed(PortableError):
    """`if_match` or `if_revision` did not hold, a missing target included."""


class LeaseLost(PreconditionFailed):
    """The lease of a message or lock ran out before `ack`, `extend` or release reached the backend."""


class InvalidArgument(PortableError, ValueError):
    """An argument that no backend would take; nothing was sent."""


class LimitExceeded(InvalidArgument):
    """Larger, longer or more than the backend, or a cloud named in `guard.limits`, takes; nothing was sent."""


class Unauthenticated(PortableError):
    """No credentials, or credentials that the backend does not know."""


class PermissionDenied(PortableError, PermissionError):
    """The credentials are known, but not allowed to do this."""


class Unsupported(PortableError, NotImplementedError):
    """A capability that the backend lacks, or that the contract does not declare under strict needs."""


class Throttled(PortableError):
    """The backend asked to slow down, and the retries were used up."""

    retryable = True


class Unavailable(PortableError, ConnectionError):
    """The backend was not reachable, or not able to answer."""

    retryable = True


class DeadlineExceeded(PortableError, TimeoutError):
    """The `timeout` ran out; `maybe_applied` says whether the call may have happened all the same."""

    retryable = True


class BatchError(PortableError):
    """Part of a batch failed. `result` holds, in input order, each value or its error.

    Attributes:
        result: the whole `BatchResult`; `result.failed` maps the index of each failure to its error.
    """

    def __init__(self, message: str = "", *, result: BatchResult[Any], **context: Any) -> None:
        super().__init__(message, **context)
        self.result = result


class IntegrityError(PortableError):
    """What came back is not what was stored: a checksum did not match, or stored data is damaged."""


class Closed(PortableError):
    """The resource or its cloud was closed, or a fork left it unusable in this process."""
