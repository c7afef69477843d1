"""What `portable resources plan` shows: the difference between the contract and what is there."""

from __future__ import annotations

import msgspec

__all__ = ["Change"]


class Change(msgspec.Struct, frozen=True):
    """One thing that `create` would do.

    Attributes:
        action: `"create"` or `"change"`, or `"differs"` for what cannot be changed in place.
        what: the thing, such as `"queue"`, `"table"`, `"index"`, `"dead-letter queue"`.
        name: its physical name.
        detail: from what to what, in words.
    """

    action: str
    what: str
    name: str
    detail: str = ""
