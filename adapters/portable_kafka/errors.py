"""What Kafka and its clients report, as errors of ours: by the protocol's codes, and librdkafka's own below zero."""

from __future__ import annotations

from portable.errors import (
    DeadlineExceeded,
    IntegrityError,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

__all__ = [
    "AUTHENTICATION",
    "GONE",
    "OUT_OF_RANGE",
    "PASSING",
    "REBALANCING",
    "TLS",
    "TOPIC_EXISTS",
    "UNKNOWN_TOPIC",
    "meaning",
]

AUTHENTICATION = frozenset({-169, 58})
TLS = frozenset({-181})
TOPIC_EXISTS = 36
UNKNOWN_TOPIC = frozenset({3, -188, -190, 100})
OUT_OF_RANGE = frozenset({1, -140})
REBALANCING = frozenset({22, 27})
PASSING = frozenset({5, 6, 9, 13, 14, 15, 16, 51, 56, 74, 75, 78, 88, -180, -195})
"""A question may be asked again a moment later: partitions and groups are about to find a broker."""

GONE = frozenset({22, 25, 82, 110, 113, -142})
"""The consumer is no member of its group any more."""

_UNKNOWN = "the cluster does not know these credentials: a wrong user, password or token, or one that is over"
_TLS = (
    "TLS did not come about: the server's certificate has expired, names another host or is of no authority that ca= "
    "names, or the server does not know this client's certificate=: {text}"
)
_DENIED = "the cluster's ACLs forbid it: {text}"
_AWAY = "the cluster cannot be reached, or not answer: {text}"

_MEANINGS: dict[int, tuple[type[PortableError], str]] = {
    **dict.fromkeys((*AUTHENTICATION, 33, 34), (Unauthenticated, _UNKNOWN)),
    **dict.fromkeys(TLS, (Unavailable, _TLS)),
    **dict.fromkeys((29, 30, 31, 53), (PermissionDenied, _DENIED)),
    **dict.fromkeys(
        UNKNOWN_TOPIC,
        (ResourceNotFound, "the cluster has not got it: {text}; make it with `portable resources create`"),
    ),
    **dict.fromkeys((10, 18), (LimitExceeded, "it is larger than the cluster takes: {text}; see max_message_bytes=")),
    **dict.fromkeys((17, 24, 37, 38, 40, 44), (InvalidArgument, "the cluster refuses it: {text}")),
    **dict.fromkeys(
        GONE, (LeaseLost, "this consumer's partitions went to others, because it gave no sign of life: {text}")
    ),
    **dict.fromkeys((89,), (Throttled, "the cluster asks to slow down: {text}")),
    **dict.fromkeys((35, 43, -165), (Unsupported, "the cluster is too old, or restricted: {text}")),
    **dict.fromkeys((2, -199), (IntegrityError, "a message is damaged: {text}")),
    **dict.fromkeys(
        (47, 90, -144), (Unavailable, "the transaction took longer than the cluster allows, and was undone: {text}")
    ),
    **dict.fromkeys((7, -185, -192, -166), (DeadlineExceeded, "the cluster did not answer in time: {text}")),
    **dict.fromkeys(
        (5, 6, 8, 9, 13, 14, 15, 16, 19, 20, 27, 41, 51, 56, 74, 75, 78, 88, -187, -195, -193, -180, -184),
        (Unavailable, _AWAY),
    ),
}

_UNSENT = frozenset({-184, -187, -193, 5, 6, 14, 15, 16, 19, 41})
"""With these nothing was done, for sure."""


def meaning(code: int, text: str) -> PortableError:
    """Give the error of ours for a code of theirs; the caller makes theirs its cause."""
    ours, words = _MEANINGS.get(code, (PortableError, "the cluster refused: {text}"))
    maybe_applied = ours in {DeadlineExceeded, Unavailable} and code not in _UNSENT
    error = ours(words.format(text=text), maybe_applied=maybe_applied)
    if code in TLS:
        error.retryable = False
    return error
