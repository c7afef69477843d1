# Generated from portable/aio/topic.py by tools/generate_sync.py; change that file, not this one.
"""Topics: messages of which every subscription gets its own copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from portable import telemetry
from portable._concurrency import long_operation, operation
from portable.batches import BatchResult
from portable.batching import send_in_batches
from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.composing import BodyCodec, Composer
from portable.deadlines import Deadline
from portable.drivers import TopicDriver
from portable.errors import InvalidArgument, PortableError
from portable.messages import Outgoing
from portable.resource import Resource

if TYPE_CHECKING:
    from portable.limits import Guard

__all__ = ["Topic"]

T = TypeVar("T")


class Topic(Resource[TopicDriver], Generic[T]):
    """A topic. Bodies are bytes, or JSON of the type that it was opened with.

    Every subscription gets its own copy of each message that is published after the subscription was made, as long as
    the subscription's filter is met: attributes that must be equal.
    """

    kind: ClassVar[str] = "topic"

    def __init__(self, binding: Binding[Any], make: Callable[[], TopicDriver], *, type: Any = None, **how: Any) -> None:
        """Bind the topic to a driver; `Cloud` calls this.

        Args:
            binding: what the config says.
            make: makes the driver, without any I/O.
            type: what bodies are; bytes when left out.
            how: as for every resource.
        """
        super().__init__(binding, make, **how)
        self._traced = any(isinstance(hook, telemetry.Telemetry) for hook in self._hooks)
        self._composer = Composer(
            BodyCodec(type),
            self._require,
            ordered=None,
            guard=self._make_guard(),
            max_bytes=self.capabilities.max_body_bytes,
            max_delay=None,
            resource=self.name,
        )

    @property
    def capabilities(self) -> TopicCapabilities:
        """What the driver can do: features, as booleans, and limits, as numbers."""
        return self._driver.capabilities

    @operation
    def publish(
        self,
        body: T | bytes | str,
        *,
        attributes: Mapping[str, str] | None = None,
        ordering_key: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Publish one message; once this returns, every subscription has its copy for good.

        Args:
            body: bytes or str (sent as UTF-8); with a `type`, a value of it.
            attributes: names to values, any UTF-8; names that start with `portable-` are reserved.
            ordering_key: an ordered subscription delivers the messages of one key in order, one at a time (`ordered`
                capability).
            timeout: seconds.

        Returns:
            The message's id.

        Raises:
            InvalidArgument: an argument that no backend would take.
            LimitExceeded: it is larger than the backend, or a cloud named in `guard.limits`, takes.
            Unsupported: an `ordering_key`, which is lacking or not declared.
        """
        outgoing = self._composer.compose(body, self._traceable(attributes), 0.0, ordering_key, None)
        (answer,) = self._driver.publish([outgoing], timeout=self._timeout if timeout is None else timeout)
        if isinstance(answer, str):
            return answer
        raise answer

    @long_operation
    def publish_many(
        self, messages: Iterable[Any], *, return_errors: bool = False, timeout: float | None = None
    ) -> BatchResult[str]:
        """Publish any number of messages: in order within an ordering key, side by side across keys.

        Args:
            messages: bodies, or `Outgoing` for those that need more (without `delay` and `dedup_id`).
            return_errors: return failures in the result instead of raising them.
            timeout: seconds for the whole batch; the contract's `timeout` for each call to the backend, when left out.

        Returns:
            Each message's id, or its error, in input order. After a failure the rest of that ordering key is not sent.

        Raises:
            BatchError: some were not published; `.result` says which, why, and what was.
        """
        limit = Deadline(timeout, self._timeout)

        def publish(chunk: list[Outgoing]) -> list[str | PortableError]:
            return self._driver.publish(chunk, timeout=limit.left())

        return send_in_batches(
            messages,
            self._composer,
            publish,
            special=self._checked,
            max_batch=self.capabilities.max_batch,
            concurrency=self._driver.send_concurrency,
            host=self._host,
            return_errors=return_errors,
        )

    def _checked(self, entry: Any) -> Outgoing:
        if not isinstance(entry, Outgoing):
            entry = Outgoing(entry)
        if entry.delay or entry.dedup_id is not None:
            raise InvalidArgument("a topic takes no delay and no dedup_id; leave them out, or send to a queue")
        return self._composer.outgoing(
            msgspec.structs.replace(entry, attributes=self._traceable(entry.attributes)) if self._traced else entry
        )

    def _traceable(self, attributes: Mapping[str, str] | None) -> Mapping[str, str] | None:
        return telemetry.injected(attributes) if self._traced else attributes

    def _make_guard(self) -> Guard | None:
        if not self._limits:
            return None
        from portable.limits import guard  # noqa: PLC0415 (the table is read only where limits are guarded)

        return guard(self._limits, self.kind)
