"""The suites of one kind against one URL, for `portable conformance`: pytest is given this very file.

What to run comes by the environment, so that no secret of a URL is seen in a list of processes.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__all__ = ["KIND", "URL", "suite"]

URL = "PORTABLE_CONFORMANCE_URL"
"""The variable that holds the URL."""
KIND = "PORTABLE_CONFORMANCE_KIND"
"""The variable that holds the kind."""

_MODULES = {"subscription": "topic"}
"""Where a kind's suite is, if not in the module of its name."""


def suite(kind: str, face: str) -> Any:
    """Give the suite of a kind.

    Args:
        kind: the kind.
        face: `"portable.testing"` or `"portable.testing.aio"`.
    """
    module = importlib.import_module(f"{face}.{_MODULES.get(kind, kind)}")
    return getattr(module, f"{kind.capitalize()}Suite")


if URL in os.environ:
    _kind = os.environ[KIND]
    _where = {"url": os.environ[URL], "__module__": __name__}
    TestSync = type("TestSync", (suite(_kind, "portable.testing"),), _where)
    TestAio = type("TestAio", (suite(_kind, "portable.testing.aio"),), _where)
