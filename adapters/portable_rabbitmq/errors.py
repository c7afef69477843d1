"""What RabbitMQ and pika report, as errors of ours."""

from __future__ import annotations

import ssl

from pika import exceptions as theirs
from pika.adapters.utils import connection_workflow

from portable.errors import (
    Closed,
    ConfigError,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)

__all__ = ["translated"]

NOT_ALLOWED = 530

# What the server gives as the reason for closing a channel or a connection, by its code and words that are in it; the
# first that fits counts.
_REASONS: tuple[tuple[int, str, type[PortableError], str], ...] = (
    (404, "is down or inaccessible", Unavailable, "the server's node that has the queue is down: {text}"),
    (404, "process is stopped", Unavailable, "the queue is being started or stopped: {text}"),
    (404, "", ResourceNotFound, "{text}; make it with `portable resources create`"),
    (403, "", PermissionDenied, "the server does not allow it: {text}"),
    (
        406,
        "larger than configured max size",
        LimitExceeded,
        "{text}; raise the server's max_message_size, or send less",
    ),
    (406, "larger than max size", LimitExceeded, "{text}; raise the server's max_message_size, or send less"),
    (406, "inequivalent", ConfigError, "it exists otherwise than it is needed here: {text}"),
    (406, "acknowledgement", Unavailable, "a message was held for too long: {text}"),
    (405, "", Unavailable, "the server keeps it for another connection: {text}"),
    (506, "", Unavailable, "the server lacks what it takes: {text}"),
    (541, "", Unavailable, "the server failed: {text}"),
    (320, "", Unavailable, "the server closed the connection: {text}"),
    (NOT_ALLOWED, "not found", ResourceNotFound, "{text}; vhost= names another"),
    (NOT_ALLOWED, "", PermissionDenied, "the server does not allow it: {text}"),
)


def translated(error: BaseException, *, sent: bool) -> PortableError:
    """Give the error of ours for one of theirs, which becomes its cause.

    Args:
        error: what pika raised, or gave as the reason for the end of a channel or connection.
        sent: whether something was on its way, of which nobody knows what became.
    """
    if isinstance(error, PortableError):
        return error
    cause = _innermost(error)
    ours = _translated(cause)
    ours.maybe_applied = sent and isinstance(ours, Unavailable)
    ours.__cause__ = cause
    return ours


def _innermost(error: BaseException) -> BaseException:
    """Give what is at the bottom of the errors that pika wraps when it connects."""
    if isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed) and error.exceptions:
        return _innermost(error.exceptions[-1])
    if isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
        return _innermost(error.exception)
    return error


def _translated(cause: BaseException) -> PortableError:
    if isinstance(cause, (theirs.ConnectionClosedByClient, theirs.ChannelClosedByClient)):
        return Closed("the resource was closed")
    if isinstance(cause, (theirs.ConnectionClosed, theirs.ChannelClosed)):
        return _reasoned(cause.reply_code, cause.reply_text)
    # What pika thinks probable is so where the server said it; else the server just went away while it was asked.
    said = "ConnectionClosedByBroker" in str(cause)
    if isinstance(cause, theirs.ProbableAccessDeniedError) and said:
        return _reasoned(NOT_ALLOWED, str(cause))
    if isinstance(cause, theirs.AuthenticationError) or (
        isinstance(cause, theirs.ProbableAuthenticationError) and said
    ):
        return Unauthenticated("the server does not know this user and password; set them in the URL as user:password@")
    return _unreached(cause)


def _unreached(cause: BaseException) -> PortableError:
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f"the server's certificate is not trusted: {cause.verify_message}; ca= names another authority"
        return Unavailable(reason, retryable=False)
    if isinstance(cause, theirs.IncompatibleProtocolError):
        return Unavailable(f"what answers there speaks no AMQP 0-9-1, or does not yet: {cause}")
    text = str(cause) or type(cause).__name__
    if isinstance(cause, (theirs.AMQPConnectionError, theirs.ChannelWrongStateError, OSError)):
        return Unavailable(f"the server cannot be reached: {text}")
    return PortableError(f"RabbitMQ cannot do it: {text}")


def _reasoned(code: int, text: str) -> PortableError:
    for known, words, ours, meaning in _REASONS:
        if code == known and words in text:
            return ours(meaning.format(text=text))
    return PortableError(f"the server refused: {code} {text}")
