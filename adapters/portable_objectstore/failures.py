"""What went wrong at an object store, in neutral terms, and the error of ours that it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from portable.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PortableError,
    PreconditionFailed,
    Throttled,
    Unauthenticated,
    Unavailable,
)

__all__ = ["Broken", "FailedError", "Failure", "Meaning", "translated"]

Broken = Literal["", "connect", "timeout", "cut"]
"""How a request failed below HTTP: nothing was sent, no answer came in time, or the connection broke; `""` else."""

Meaning = tuple[type[PortableError], str]
"""An error of ours and what it says; `{text}` stands for what the server said."""

_SERVER_FAULTS = 500
_BY_STATUS: dict[int, Meaning] = {
    400: (InvalidArgument, "the server refused the request: {text}"),
    401: (Unauthenticated, "the server does not accept these credentials: {text}"),
    403: (PermissionDenied, "the server forbids it: {text}"),
    404: (NotFound, "there is no such object"),
    409: (AlreadyExists, "there is an object already, or one is being written: {text}"),
    412: (PreconditionFailed, "the object is missing or not of this version any more"),
    416: (InvalidArgument, "the object has no such range: {text}"),
    429: (Throttled, "the server asks to slow down: {text}"),
    503: (Throttled, "the server asks to slow down: {text}"),
}
_CODE = re.compile(r"<Code>([^<]{1,200})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,400})</Message>")


class Failure(msgspec.Struct, frozen=True):
    """One failed request.

    Attributes:
        status: the HTTP status, or 0 where no answer came.
        code: the vendor's word for it, or `""`.
        text: what the server said, in one line.
        broken: how it failed below HTTP.
    """

    status: int = 0
    code: str = ""
    text: str = ""
    broken: Broken = ""

    @property
    def is_unsettled(self) -> bool:
        """Whether the server may have done what it was asked for."""
        return self.broken in {"timeout", "cut"} or (self.status >= _SERVER_FAULTS and self.status != 503)

    @classmethod
    def of_answer(cls, status: int, body: str) -> Failure:
        """Read an answer whose body is the XML that the clouds send."""
        code, message = _CODE.search(body), _MESSAGE.search(body)
        return cls(status, code[1] if code else "", message[1] if message else f"status {status}")


class FailedError(Exception):
    """A request failed; the client's own exception is the cause."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


def translated(failure: Failure, meanings: Mapping[str, Meaning]) -> PortableError:
    """Give the error of ours for a failure.

    Args:
        failure: what happened.
        meanings: what the vendor's codes mean; what is not there goes by its status.
    """
    if failure.broken:
        if failure.broken == "timeout":
            return DeadlineExceeded("the server did not answer in time", maybe_applied=True)
        sent = failure.broken == "cut"
        return Unavailable(f"the server cannot be reached, or broke off: {failure.text}", maybe_applied=sent)
    meaning = meanings.get(failure.code) or _BY_STATUS.get(failure.status)
    if meaning is not None:
        kind, words = meaning
        return kind(words.format(text=failure.text or failure.code))
    if failure.status >= _SERVER_FAULTS:
        return Unavailable(f"the server failed: {failure.text}", maybe_applied=True)
    return PortableError(f"the server refused: {failure.code or failure.status} {failure.text}".rstrip())
