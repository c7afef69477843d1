"""The pytest plugin: marks of the conformance suites, the matrix of a run, and fixtures for tests of applications."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path

import pytest

from portable import testing
from portable.testing.fixtures import (
    _portable_profile,
    _portable_running_clock,
    portable_aio_cloud,
    portable_clock,
    portable_cloud,
    portable_config,
    portable_faults,
)

__all__ = [
    "_portable_profile",
    "_portable_running_clock",
    "portable_aio_cloud",
    "portable_clock",
    "portable_cloud",
    "portable_config",
    "portable_faults",
    "pytest_addoption",
    "pytest_configure",
]

# The asserts of the suites then say what was compared.
_modules = (f"{testing.__name__}.{module.name}" for module in pkgutil.iter_modules(testing.__path__))
pytest.register_assert_rewrite(*(name for name in _modules if name not in sys.modules))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("portable")
    group.addoption(
        "--portable-matrix",
        metavar="FILE",
        type=Path,
        help="write the support matrix of the conformance suites that ran, as Markdown",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks that the suites use, and follow the run where its matrix is asked for."""
    config.addinivalue_line("markers", "portable_needs(*features): runs only where the driver declares these")
    config.addinivalue_line("markers", "portable_lacks(*features): runs only where the driver declares none of these")
    target = config.getoption("--portable-matrix")
    if target is not None:
        from portable.testing.matrix import Collector

        config.pluginmanager.register(Collector(Path(config.invocation_params.dir, target)), "portable-matrix")
