"""What `cloud.check()` and `portable doctor` say of each resource."""

from __future__ import annotations

import msgspec

from portable.errors import PortableError

__all__ = ["CheckResult"]


class CheckResult(msgspec.Struct, frozen=True):
    """What the probe of one resource found.

    Attributes:
        resource: its name in the config.
        kind: `"bucket"`, `"queue"` …
        ok: whether it is reachable, allowed, and has what the contract asks for.
        error: what is wrong, or None.
        seconds: how long the probe took.
        url: where it is, without secrets; empty where the binding itself is wrong.
    """

    resource: str
    kind: str
    ok: bool
    error: PortableError | None = None
    seconds: float = 0.0
    url: str = ""
