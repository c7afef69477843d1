"""Queues in Azure Queue Storage.

https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any

from azure.core import exceptions as theirs
from azure.storage.queue import QueueClient, QueueMessage

from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.errors import Closed, ConfigError, PortableError, ResourceNotFound
from portable.messages import Delivery, Outgoing, QueueStats
from portable.wire import dead_letter_name
from portable_azure.attempts import Attempts
from portable_azure.envelopes import LARGEST, packed, unpacked
from portable_azure.errors import translated, translating
from portable_azure.options import StorageQueueOptions, account_url, credential
from portable_azure.transports import pooled

__all__ = ["StorageQueue"]

WEEK = 7 * 24 * 3600.0
SHORTEST_PAUSE = 0.05
"""Seconds between the first two times that a waiting receive asks."""


class Receipt:
    """What settles a delivery: extending it gives it a new one."""

    __slots__ = ("lock", "value")

    def __init__(self, value: str) -> None:
        self.lock = threading.Lock()
        self.value = value


def _give_back(driver: StorageQueue, deliveries: Any) -> None:
    driver.nack(deliveries, delay=0.0, timeout=driver.usual)


class StorageQueue:
    """Satisfies `portable.drivers.WaitingQueueDriver`."""

    Options = StorageQueueOptions
    capabilities = QueueCapabilities(
        durability="power",
        exclusive_lease=True,
        exact_count=True,
        delay=True,
        nack_delay=True,
        lease_per_receive=True,
        purge=True,
        peek=True,
        max_body_bytes=LARGEST,
        max_batch=1,
        max_receive=32,
        max_delay=WEEK,
        max_visibility=WEEK,
    )
    # The service cannot wait, and tells nobody of news: `wait_receive` asks again and again.
    arrivals = None
    buries = False
    # One call a message: a large batch goes by many calls at once.
    send_concurrency = 32

    def __init__(self, binding: Binding[StorageQueueOptions]) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self._binding = binding
        self._url = account_url(binding, "queue")
        self._longest_pause = max(SHORTEST_PAUSE, binding.options.longest_pause)
        self._client: QueueClient | None = None
        self._ended = threading.Event()
        self.usual = float(contract.timeout)

    @property
    def native(self) -> QueueClient:
        """The queue's client."""
        return self._queue

    def open(self) -> None:
        """Connect, and find the queue, or make it where the binding says so."""
        missing = self.plan()
        if missing and self._binding.create:
            self.create()
        elif missing:
            raise ResourceNotFound(
                f"the account has no {missing[0].what} {missing[0].name!r}; make it with `portable resources create`"
            )

    def close(self) -> None:
        """Let go of the connections; whoever waits hears of it."""
        self._ended.set()
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Ask for the queue; with `write`, send what nobody can receive before it has expired."""
        with translating():
            self._queue.get_queue_properties(**_within(timeout))
            if write:
                self._queue.send_message("check", visibility_timeout=1, time_to_live=2, **_within(timeout))

    def plan(self) -> list[Change]:
        """Say what would be made."""
        if self._client is None:
            self._client = self._made(self._binding.name)
        return [
            Change("create", what, name)
            for what, name in self._names()
            if not self._exists(self._queue if name == self._binding.name else self._made(name))
        ]

    def create(self) -> None:
        """Make the queue and its dead-letter queue."""
        for _, name in self._names():
            with translating(), self._made(name) as client:
                try:
                    client.create_queue(**_within(self.usual))
                except theirs.ResourceExistsError as error:
                    if getattr(error, "error_code", None) != "QueueAlreadyExists":
                        raise

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Send each message by itself."""
        answers: list[str | PortableError] = []
        for message in messages:
            delay = math.ceil(message.delay) or None
            try:
                sent = self._queue.send_message(
                    packed(message.body, message.attributes),
                    visibility_timeout=delay,
                    time_to_live=-1,
                    **_within(timeout),
                )
            except theirs.AzureError as error:
                answers.append(translated(error))
            else:
                answers.append(str(sent.id))
        return answers

    @undone_by(_give_back)
    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is ready, in one step."""
        with translating():
            pages = self._queue.receive_messages(
                messages_per_page=max_messages, visibility_timeout=_whole(visibility), **_within(timeout)
            ).by_page()
            found = list(next(pages, ()))
        return [_delivery(message, Receipt(str(message.pop_receipt))) for message in found]

    @undone_by(_give_back)
    def wait_receive(self, max_messages: int, *, visibility: float, wait: float, timeout: float) -> list[Delivery]:
        """Lease what is ready; when nothing is, ask again, ever less often."""
        deadline, pause = monotonic() + wait, SHORTEST_PAUSE
        while True:
            found = self.receive(max_messages, visibility=visibility, timeout=timeout - wait)
            left = deadline - monotonic()
            if found or left <= 0:
                return found
            if self._ended.wait(min(pause, left)):
                raise Closed("the queue was closed meanwhile")
            pause = min(2 * pause, self._longest_pause)

    def next_due(self, *, timeout: float) -> float | None:
        """Say when a message can be received; nobody asks, for there are no arrivals."""
        return 0.0 if self.peek(1, timeout=timeout) else None

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Remove messages."""
        return [self._settled(one, lambda one: self._delete(one, timeout)) for one in deliveries]

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back."""
        for delivery in deliveries:
            self._settled(delivery, lambda one: self._hide(one, delay, timeout))

    def extend(self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float) -> list[PortableError | None]:
        """Hold messages for longer; each has a new receipt from then on."""
        return [self._settled(one, lambda one: self._hide(one, seconds, timeout)) for one in deliveries]

    def stats(self, *, timeout: float) -> QueueStats:
        """Give the service's own estimate, which has the leased and the delayed in it."""
        with translating():
            return QueueStats(ready=self._queue.get_queue_properties(**_within(timeout)).approximate_message_count)

    def purge(self, *, timeout: float) -> None:
        """Remove every message."""
        with translating():
            self._queue.clear_messages(**_within(timeout))

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Look at what would be received."""
        with translating():
            found = self._queue.peek_messages(max_messages=min(max_messages, 32), **_within(timeout))
        return [_delivery(message, None) for message in found]

    def _delete(self, delivery: Delivery, timeout: float) -> None:
        # Not repeated: once it is gone, a second attempt could not be told from a lost lease.
        self._queue.delete_message(delivery.id, delivery.receipt.value, retry_total=0, **_within(timeout))

    def _hide(self, delivery: Delivery, seconds: float, timeout: float) -> None:
        receipt: Receipt = delivery.receipt
        hidden = self._queue.update_message(
            delivery.id, receipt.value, visibility_timeout=math.ceil(seconds), retry_total=0, **_within(timeout)
        )
        receipt.value = str(hidden.pop_receipt)

    def _settled(self, delivery: Delivery, settle: Any) -> PortableError | None:
        try:
            with delivery.receipt.lock:
                settle(delivery)
        except theirs.AzureError as error:
            return translated(error)
        return None

    @property
    def _queue(self) -> QueueClient:
        if self._client is None:
            raise Closed("the connection is not open; use the resource first")
        return self._client

    def _made(self, name: str) -> QueueClient:
        found = credential(self._binding)
        if self._url.startswith("http:") and hasattr(found, "get_token"):
            raise ConfigError(
                "a token is sent by https: alone, and the endpoint is http:; set account_key or sas_token"
            )
        return QueueClient(
            self._url,
            name,
            credential=found,
            transport=pooled(),
            retry_policy=Attempts(self._contract.retries),
        )

    def _names(self) -> list[tuple[str, str]]:
        names = [("queue", self._binding.name)]
        if self._contract.dead_letter is None and self._contract.max_deliveries < NEVER:
            names.append(("dead-letter queue", dead_letter_name(self._binding.name)))
        return names

    def _exists(self, client: QueueClient) -> bool:
        try:
            client.get_queue_properties(**_within(self.usual))
        except theirs.ResourceNotFoundError:
            return False
        except theirs.AzureError as error:
            raise translated(error) from error
        return True


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _within(timeout: float) -> dict[str, Any]:
    """Bound a call: the service counts in whole seconds, the client does not."""
    return {"timeout": _whole(timeout), "connection_timeout": timeout, "read_timeout": timeout}


def _delivery(message: QueueMessage, receipt: Receipt | None) -> Delivery:
    body, attributes = unpacked(str(message.content))
    sent = message.inserted_on
    return Delivery(
        id=str(message.id),
        receipt=receipt,
        body=body,
        attributes=attributes,
        count=(message.dequeue_count or 0) if receipt is not None else 0,
        sent_at=sent.timestamp() if sent is not None else 0.0,
    )
