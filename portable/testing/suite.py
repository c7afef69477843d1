# Generated from portable/testing/aio/suite.py by tools/generate_sync.py; change that file, not this one.
"""What the suites of all kinds stand on: a fresh resource for each test, opened from a URL, and closed after it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import pytest

from portable import cloud
from portable.resource import Resource

__all__ = ["Suite", "lacks", "needs"]

F = TypeVar("F", bound=Callable[..., Any])


def needs(*features: str) -> Callable[[F], F]:
    """Mark a case that runs only where the driver declares these capabilities."""
    return pytest.mark.portable_needs(*features)


def lacks(*features: str) -> Callable[[F], F]:
    """Mark a case that runs only where the driver declares none of these capabilities: the negative case."""
    return pytest.mark.portable_lacks(*features)


@pytest.mark.anyio
class Suite:
    """The cases of one kind; derive a class whose name starts with `Test` and give it a `url`.

    Attributes:
        kind: which kind's suite it is.
        url: where to run; every case makes resources of its own there, with fresh names.
        options: keys of the binding that every resource is opened with.
    """

    kind: ClassVar[str]
    url: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio."""
        return "asyncio"

    @pytest.fixture(autouse=True)
    def _lifetime(self, request: pytest.FixtureRequest, anyio_backend: str) -> Iterator[None]:  # noqa: ARG002 (makes anyio run it)
        self._open_ones: list[Resource[Any]] = []
        self._unique = uuid.uuid4().hex[:12]
        self._skip_undeclared(request)
        yield
        for resource in reversed(self._open_ones):
            resource.close()

    def _skip_undeclared(self, request: pytest.FixtureRequest) -> None:
        capabilities = self.open("capabilities").capabilities
        for mark in request.node.iter_markers("portable_needs"):
            for feature in mark.args:
                if not getattr(capabilities, feature):
                    pytest.skip(f"the driver does not declare {feature}")
        for mark in request.node.iter_markers("portable_lacks"):
            for feature in mark.args:
                if getattr(capabilities, feature):
                    pytest.skip(f"the driver declares {feature}; its positive cases run")

    def open(self, name: str = "main", *, kind: str | None = None, type: Any = None, **contract: Any) -> Any:
        """Open a resource of this suite's kind (or another's) at the suite's URL; one name is one resource per test.

        Opened again under the same name it is another handle on the same resource, as another process would have it.

        Args:
            name: which of this test's resources.
            kind: another kind, such as the topic of a subscription.
            type: the type of bodies, values, records or documents.
            contract: keys of the contract.
        """
        how: dict[str, Any] = {"type": type} if type is not None else {}
        opener = getattr(cloud, f"open_{kind or self.kind}")
        resource = opener(
            self.url, name=self.physical(name), **how, **{"create": "if_missing", **self.options, **contract}
        )
        self._open_ones.append(resource)
        return resource

    def physical(self, name: str) -> str:
        """Give the physical name that `open` uses for a name of this test."""
        return f"t{self._unique}-{name}"
