"""`connect()` and `Cloud`: every resource of one profile, by name."""

from __future__ import annotations

import contextlib
import functools
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from portable import forks
from portable.aio._concurrency import Host, gather
from portable.bindings import Binding, Shared
from portable.checks import CheckResult
from portable.config import Bound, Config, Profile, read_options
from portable.errors import Closed, ConfigError, PortableError
from portable.hooks import Hook
from portable.registry import provider

if TYPE_CHECKING:
    from portable.aio.bucket import Bucket
    from portable.aio.cache import Cache
    from portable.aio.collection import Collection
    from portable.aio.database import Database
    from portable.aio.queue import Queue, Subscription
    from portable.aio.resource import Resource
    from portable.aio.stream import Stream
    from portable.aio.topic import Topic

__all__ = [
    "Cloud",
    "connect",
    "open_bucket",
    "open_cache",
    "open_collection",
    "open_database",
    "open_queue",
    "open_stream",
    "open_subscription",
    "open_topic",
]

T = TypeVar("T")

KINDS = {
    "bucket": "portable.aio.bucket:Bucket",
    "queue": "portable.aio.queue:Queue",
    "subscription": "portable.aio.queue:Subscription",
    "topic": "portable.aio.topic:Topic",
    "stream": "portable.aio.stream:Stream",
    "cache": "portable.aio.cache:Cache",
    "collection": "portable.aio.collection:Collection",
    "database": "portable.aio.database:Database",
}
"""Where the portable type of each kind is; a kind that nobody uses is not imported."""


def portable_type(kind: str) -> type[Resource[Any]]:
    """Import the portable type of a kind."""
    module, _, name = KINDS[kind].partition(":")
    found: type[Resource[Any]] = getattr(importlib.import_module(module), name)
    return found


class Cloud:
    """Every resource of one profile.

    Resources are opened by their first operation, cached by name, and closed with the cloud. It is safe with threads;
    after a fork the child opens its clients anew.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        hooks: tuple[Hook, ...] = (),
        clock: Callable[[], float] = time.time,
        on_clock_moved: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """Take the resources from a profile; `connect` calls this.

        Args:
            profile: one profile of a config.
            hooks: what stands around every operation.
            clock: the wall clock, in seconds since the epoch; tests move it.
            on_clock_moved: registers a callback for each time a test moves the clock.
        """
        self._profile = profile
        self._hooks = hooks
        self._clock = clock
        self._on_clock_moved = on_clock_moved
        self._host = Host()
        self._shared = Shared()
        self._resources: dict[tuple[str, str, object], Resource[Any]] = {}
        self._closed = False
        forks.watch(self)

    @property
    def profile(self) -> str:
        """The name of the profile in force."""
        return self._profile.name

    def bucket(self, name: str) -> Bucket:
        """Give the bucket of that name.

        Raises:
            ConfigError: no such bucket is declared, or its binding or needs are wrong.
        """
        found: Bucket = self._resource("bucket", name)
        return found

    @overload
    def queue(self, name: str) -> Queue[bytes]: ...
    @overload
    def queue(self, name: str, *, type: type[T]) -> Queue[T]: ...
    def queue(self, name: str, *, type: Any = None) -> Queue[Any]:
        """Give the queue of that name, whose bodies are bytes, or JSON of `type`.

        Raises:
            ConfigError: no such queue is declared, or its binding or needs are wrong.
        """
        found: Queue[Any] = self._resource("queue", name, type=type)
        return found

    @overload
    def topic(self, name: str) -> Topic[bytes]: ...
    @overload
    def topic(self, name: str, *, type: type[T]) -> Topic[T]: ...
    def topic(self, name: str, *, type: Any = None) -> Topic[Any]:
        """Give the topic of that name, whose bodies are bytes, or JSON of `type`.

        Raises:
            ConfigError: no such topic is declared, or its binding or needs are wrong.
        """
        found: Topic[Any] = self._resource("topic", name, type=type)
        return found

    @overload
    def subscription(self, name: str, *, topic: str | None = None) -> Subscription[bytes]: ...
    @overload
    def subscription(self, name: str, *, topic: str | None = None, type: type[T]) -> Subscription[T]: ...
    def subscription(self, name: str, *, topic: str | None = None, type: Any = None) -> Subscription[Any]:
        """Give the subscription of that name: a queue fed by a topic.

        Args:
            name: its name.
            topic: the topic that feeds it, where there is no config that says so.
            type: what bodies are decoded to; bytes when left out.

        Raises:
            ConfigError: no such subscription is declared, its topic is not known, or its binding or needs are wrong.
        """
        found: Subscription[Any] = self._resource(
            "subscription", name, type=type, contract={"topic": topic} if topic else {}
        )
        fed_by: str = found._binding.contract.topic  # type: ignore[attr-defined]  # noqa: SLF001 (a SubscriptionContract)
        if topic not in {None, fed_by}:
            raise ConfigError(f"the subscription {name!r} is fed by {fed_by!r}, not by {topic!r}", resource=name)
        return found

    @overload
    def stream(self, name: str) -> Stream[bytes]: ...
    @overload
    def stream(self, name: str, *, type: type[T]) -> Stream[T]: ...
    def stream(self, name: str, *, type: Any = None) -> Stream[Any]:
        """Give the stream of that name, whose records are bytes, or JSON of `type`.

        Raises:
            ConfigError: no such stream is declared, or its binding or needs are wrong.
        """
        found: Stream[Any] = self._resource("stream", name, type=type)
        return found

    @overload
    def cache(self, name: str) -> Cache[Any]: ...
    @overload
    def cache(self, name: str, *, type: type[T]) -> Cache[T]: ...
    def cache(self, name: str, *, type: Any = None) -> Cache[Any]:
        """Give the cache of that name, whose values are JSON values and bytes, or of `type`.

        Raises:
            ConfigError: no such cache is declared, or its binding or needs are wrong.
        """
        found: Cache[Any] = self._resource("cache", name, type=type)
        return found

    @overload
    def collection(self, name: str) -> Collection[dict[str, Any]]: ...
    @overload
    def collection(self, name: str, *, type: type[T]) -> Collection[T]: ...
    def collection(self, name: str, *, type: Any = None) -> Collection[Any]:
        """Give the collection of that name, whose documents are dicts, or values of `type`.

        Raises:
            ConfigError: no such collection is declared, or its binding or needs are wrong.
        """
        found: Collection[Any] = self._resource("collection", name, type=type)
        return found

    def database(self, name: str) -> Database:
        """Give the database of that name.

        Raises:
            ConfigError: no such database is declared, or its binding or needs are wrong.
        """
        found: Database = self._resource("database", name)
        return found

    def resources(self) -> list[Resource[Any]]:
        """Give every resource that the config declares, without opening any."""
        return [self._resource(kind, name) for name, kind in self._profile.declared().items()]

    async def check(self, timeout: float = 2.0, *, write: bool = False) -> list[CheckResult]:
        """Probe every resource side by side: reachable, authorised, and with what the contract asks for.

        Args:
            timeout: seconds for each.
            write: also prove that writing is allowed, and leave nothing behind.

        Returns:
            One result a resource, in the order of the config; nothing is raised for what a probe found.
        """

        async def probe(name: str, kind: str) -> CheckResult:
            started = time.monotonic()
            try:
                resource = self._resource(kind, name)
                await resource.check(write=write, timeout=timeout)
            except PortableError as error:
                return CheckResult(name, kind, ok=False, error=error, seconds=time.monotonic() - started)
            return CheckResult(name, kind, ok=True, seconds=time.monotonic() - started, url=resource.url)

        probes = [functools.partial(probe, name, kind) for name, kind in self._profile.declared().items()]
        return await gather(probes, concurrency=16, host=self._host)

    async def close(self) -> None:
        """Close every resource and stop every thread, whatever fails on the way; closing twice is no error."""
        self._closed = True
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._host.close)
            stack.callback(self._shared.close)
            for resource in list(self._resources.values()):
                stack.push_async_callback(resource.close)
            self._resources.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        """Show the profile."""
        return f"<Cloud profile {self.profile!r}>"

    def _resource(self, kind: str, name: str, *, contract: dict[str, Any] | None = None, **how: Any) -> Any:
        if self._closed:
            raise Closed("the cloud is closed; connect again")
        kept = (kind, name, how.get("type"))
        # `dict.get` and `setdefault` are atomic: two threads that meet here get the same resource.
        found = self._resources.get(kept)
        if found is None:
            bound = self._profile.bound(name, kind, contract or {})
            found = self._resources.setdefault(kept, self._bind(bound, **how))
            if self._closed:
                # It may have come too late for `close` to see it.
                raise Closed("the cloud is closed; connect again")
        return found

    def _bind(self, bound: Bound, **how: Any) -> Resource[Any]:
        driver_class = provider(bound.url.scheme, bound.kind).load()
        binding = self._binding(bound, driver_class)

        def make() -> Any:
            return self._host.face(driver_class(binding))

        resource = portable_type(bound.kind)(
            binding, make, host=self._host, hooks=self._hooks, strict=bound.strict, limits=bound.limits, **how
        )
        self._profile.check_needs(bound, resource.capabilities)
        if resource.needs_cloud:
            resource._cloud = self  # noqa: SLF001 (the one place that makes resources)
        return resource

    def _binding(self, bound: Bound, driver_class: Any) -> Binding[Any]:
        topic: Binding[Any] | None = None
        subscriptions: tuple[Binding[Any], ...] = ()
        if bound.kind == "subscription":
            topic = self._neighbour(self._profile.bound(bound.contract.topic, "topic"))  # type: ignore[attr-defined]  # a SubscriptionContract
        elif bound.kind == "topic":
            subscriptions = tuple(self._neighbour(one) for one in self._profile.subscriptions(bound.resource))
        return Binding(
            resource=bound.resource,
            kind=bound.kind,
            name=bound.physical,
            url=bound.url,
            options=read_options(bound, driver_class.Options),
            contract=bound.contract,
            create=bound.create,
            shared=self._shared,
            topic=topic,
            subscriptions=subscriptions,
            clock=self._clock,
            on_clock_moved=self._on_clock_moved,
        )

    def _neighbour(self, bound: Bound) -> Binding[Any]:
        driver_class = provider(bound.url.scheme, bound.kind).load()
        return Binding(
            resource=bound.resource,
            kind=bound.kind,
            name=bound.physical,
            url=bound.url,
            options=read_options(bound, driver_class.Options),
            contract=bound.contract,
            create=bound.create,
            shared=self._shared,
            clock=self._clock,
            on_clock_moved=self._on_clock_moved,
        )

    def _after_fork_in_child(self) -> list[Any]:
        self._host.forget()
        self._shared.forget()
        return [resource._forked() for resource in self._resources.values()]  # noqa: SLF001 (our own half)


def connect(config: str | Path | Config | None = None, *, profile: str | None = None) -> Cloud:
    """Open a profile of the config file; nothing is connected before a resource's first use.

    Args:
        config: a path to a `portable.toml`, a `Config`, or None: `$PORTABLE_CONFIG`, else the nearest `portable.toml`
            from the working directory upwards, else (with none of the `PORTABLE_…` variables set) the embedded
            default under `.portable/`, for any name.
        profile: the profile's name, or None: `$PORTABLE_PROFILE`, else the file's `default_profile`.

    Raises:
        ConfigError: the file is missing or wrong; the message names file, path and nearest right spelling.
    """
    return Cloud(Profile.load(config, profile=profile), hooks=_default_hooks())


def _default_hooks() -> tuple[Hook, ...]:
    from portable.telemetry import hooks  # noqa: PLC0415 (looks for OpenTelemetry only when a cloud is made)

    return hooks()


def _open(kind: str, url: str, options: dict[str, Any], **how: Any) -> Any:
    cloud = Cloud(Profile.single(kind, url, options), hooks=_default_hooks())
    (name,) = cloud._profile.declared()  # noqa: SLF001 (our own cloud, made for this one resource)
    return cloud._resource(kind, name, **how)._owning(cloud)  # noqa: SLF001 (the same)


def open_bucket(url: str, **options: Any) -> Bucket:
    """Open a bucket without a config file.

    Args:
        url: the binding, such as `"file:photos"` or `"memory:"`.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Bucket = _open("bucket", url, options)
    return found


@overload
def open_queue(url: str, *, type: type[T], **options: Any) -> Queue[T]: ...
@overload
def open_queue(url: str, *, type: None = None, **options: Any) -> Queue[bytes]: ...
def open_queue(url: str, *, type: Any = None, **options: Any) -> Queue[Any]:
    """Open a queue without a config file: `open_queue("sqlite:jobs.db", visibility_timeout="2s")`.

    Args:
        url: the binding.
        type: what bodies are; bytes when left out.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Queue[Any] = _open("queue", url, options, type=type)
    return found


@overload
def open_topic(url: str, *, type: type[T], **options: Any) -> Topic[T]: ...
@overload
def open_topic(url: str, *, type: None = None, **options: Any) -> Topic[bytes]: ...
def open_topic(url: str, *, type: Any = None, **options: Any) -> Topic[Any]:
    """Open a topic without a config file.

    Args:
        url: the binding.
        type: what bodies are; bytes when left out.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Topic[Any] = _open("topic", url, options, type=type)
    return found


@overload
def open_subscription(url: str, *, topic: str, type: type[T], **options: Any) -> Subscription[T]: ...
@overload
def open_subscription(url: str, *, topic: str, type: None = None, **options: Any) -> Subscription[bytes]: ...
def open_subscription(url: str, *, topic: str, type: Any = None, **options: Any) -> Subscription[Any]:
    """Open a subscription without a config file.

    Args:
        url: the binding; the topic's own where both are at one backend.
        topic: the name of the topic that feeds it.
        type: what bodies are decoded to; bytes when left out.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Subscription[Any] = _open("subscription", url, {**options, "topic": topic}, type=type)
    return found


@overload
def open_stream(url: str, *, type: type[T], **options: Any) -> Stream[T]: ...
@overload
def open_stream(url: str, *, type: None = None, **options: Any) -> Stream[bytes]: ...
def open_stream(url: str, *, type: Any = None, **options: Any) -> Stream[Any]:
    """Open a stream without a config file.

    Args:
        url: the binding.
        type: what records are; bytes when left out.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Stream[Any] = _open("stream", url, options, type=type)
    return found


@overload
def open_cache(url: str, *, type: type[T], **options: Any) -> Cache[T]: ...
@overload
def open_cache(url: str, *, type: None = None, **options: Any) -> Cache[Any]: ...
def open_cache(url: str, *, type: Any = None, **options: Any) -> Cache[Any]:
    """Open a cache without a config file.

    Args:
        url: the binding.
        type: what values are; JSON values and bytes when left out.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Cache[Any] = _open("cache", url, options, type=type)
    return found


@overload
def open_collection(url: str, *, type: type[T], **options: Any) -> Collection[T]: ...
@overload
def open_collection(url: str, *, type: None = None, **options: Any) -> Collection[dict[str, Any]]: ...
def open_collection(url: str, *, type: Any = None, **options: Any) -> Collection[Any]:
    """Open a collection without a config file: `open_collection("memory:", key="id", indexes=["email"])`.

    Args:
        url: the binding.
        type: what documents are; dicts when left out.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Collection[Any] = _open("collection", url, options, type=type)
    return found


def open_database(url: str, **options: Any) -> Database:
    """Open a database without a config file.

    Args:
        url: the binding.
        options: `name=` and any key of the contract or the binding.

    Raises:
        ConfigError: the URL or an option is wrong.
    """
    found: Database = _open("database", url, options)
    return found
