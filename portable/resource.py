# Generated from portable/aio/resource.py by tools/generate_sync.py; change that file, not this one.
"""What every resource has: a name, a URL, capabilities, the vendor's own client, `check` and `close`."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from portable._concurrency import Host, Lock, limit
from portable.bindings import Binding
from portable.capabilities import Capabilities
from portable.deadlines import check_timeout
from portable.drivers import Driver
from portable.errors import Closed, PortableError, Unsupported
from portable.hooks import Hook

__all__ = ["Resource"]

D = TypeVar("D", bound=Driver)


class Resource(Generic[D]):
    """One resource of a cloud: opened by its first operation, closed by `close` or with its cloud.

    It is safe with threads, and after a fork the child opens it anew.
    """

    kind: ClassVar[str]
    needs_cloud: ClassVar[bool] = False

    def __init__(
        self,
        binding: Binding[Any],
        make: Callable[[], D],
        *,
        host: Host,
        hooks: tuple[Hook, ...] = (),
        strict: bool = False,
        limits: tuple[str, ...] = (),
    ) -> None:
        """Bind the portable type to a driver; `Cloud` calls this.

        Args:
            binding: what the config says.
            make: makes the driver, without any I/O.
            host: the threads that serve the driver, and this resource's parallel calls.
            hooks: what stands around every operation.
            strict: whether capabilities that the contract does not declare are refused.
            limits: the clouds whose limits this resource keeps to.
        """
        self._binding = binding
        self._make = make
        self._host = host
        self._hooks = hooks
        self._limits = limits
        self._provider = binding.url.scheme
        self._timeout = float(binding.contract.timeout)
        self._driver = make()
        self._instant = not getattr(self._driver, "blocking", True)
        self._opened = False
        self._closed = False
        self._opening = Lock()
        self._cloud: Any = None
        self._owned: Any = None
        declared = {name for name in self.capabilities.features() if getattr(self.capabilities, name)}
        self._features = frozenset(declared.intersection(binding.contract.needs) if strict else declared)
        self._undeclared = frozenset(declared - self._features)

    @property
    def name(self) -> str:
        """The resource's name in the config."""
        return self._binding.resource

    @property
    def url(self) -> str:
        """Where it is, without secrets."""
        return str(self._binding.url)

    @property
    def capabilities(self) -> Capabilities:
        """What the driver can do: features, as booleans, and limits, as numbers."""
        return self._driver.capabilities

    @property
    def native(self) -> Any:
        """The vendor's own client, for what the neutral API does not have."""
        return self._driver.native

    def check(self, *, write: bool = False, timeout: float = 2.0) -> None:
        """Probe the backend: it is reachable, we are authorised, and it has what the contract asks for.

        Like every use it makes what is missing, where the binding may.

        Args:
            write: also prove that writing is allowed, and leave nothing behind.
            timeout: seconds.

        Raises:
            PortableError: what is wrong.
        """
        try:
            check_timeout(timeout)
            with limit(timeout):
                if not self._opened:
                    self._open()
                self._driver.check(write=write, timeout=timeout)
        except PortableError as error:
            raise self._placed(error, "check")  # noqa: B904 (the same error, which keeps its cause)

    def close(self) -> None:
        """Close it; closing twice is no error. Operations raise `Closed` from then on."""
        if not self._closed:
            self._closed = True
            self._opened = False
            try:
                self._driver.close()
            finally:
                if self._owned is not None:
                    self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Show the kind, the name and where it is, without secrets."""
        return f"<{type(self).__name__} {self.name!r} {self.url}>"

    def _owning(self, cloud: Any) -> Self:
        """Close the cloud that was made for this one resource when the resource is closed."""
        self._owned = cloud
        return self

    def _open(self) -> None:
        with self._opening:
            self._refuse_if_closed()
            if not self._opened:
                self._driver.open()
                try:
                    self._refuse_if_closed()
                except Closed:
                    # Closed meanwhile, so that nobody else closes what was opened just now.
                    self._driver.close()
                    raise
                self._opened = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise Closed(f"the {self.kind} is closed; get a new one from an open cloud")

    def _forked(self) -> Any:
        """Start anew in a forked child; gives the parent's driver, which must neither be used nor finalised here."""
        abandoned = self._driver
        self._opening = Lock()
        self._opened = False
        self._driver = self._make()
        return abandoned

    def _placed(self, error: PortableError, operation: str) -> PortableError:
        """Say in an error where it happened, unless it says so already."""
        if error.resource is None:
            error.resource, error.operation, error.provider = self.name, operation, self._provider
        return error

    def _require(self, feature: str, what: str) -> None:
        """Refuse what is not declared, before anything is sent."""
        if feature in self._features:
            return
        if feature in self._undeclared:
            raise Unsupported(
                f"{what} needs the capability {feature!r}, which the contract does not declare; "
                f'add needs = ["{feature}"] to [resources.{self.name}] (guard.needs is "strict")'
            )
        raise Unsupported(f"{what} needs the capability {feature!r}, which {self._provider}: does not have")
