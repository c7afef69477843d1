"""Queues in Amazon SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.errors import Closed, ConfigError, InvalidArgument, PortableError, ResourceNotFound
from portable.messages import Delivery, Outgoing, QueueStats
from portable_aws.regional import Regional
from portable_aws.service_errors import FAILURES, translated, translating
from portable_aws.sqs_batches import BATCH, send_all, settle_all
from portable_aws.sqs_messages import Entry, packed, unpacked
from portable_aws.sqs_options import SqsOptions, account
from portable_aws.sqs_setup import QueueSetup

__all__ = ["SqsQueue"]

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MOST_BYTES = 1024 * 1024
LONGEST_DELAY = 900.0
LONGEST_LEASE = 12 * 3600.0

LARGEST = 780_000
"""Bytes of a body that fit whatever they are, with room for what attributes cost beside their text."""

LONGEST_POLL = 20
"""Seconds that SQS waits for a message."""

PAUSE = 0.25
"""Seconds between two looks when less is left than SQS can wait for."""

_STANDARD = QueueCapabilities(
    delay=True,
    nack_delay=True,
    lease_per_receive=True,
    # Of a queue whose contract says so, which is another one at SQS.
    ordered=True,
    max_body_bytes=LARGEST,
    max_batch=BATCH,
    max_receive=BATCH,
    max_delay=LONGEST_DELAY,
    max_visibility=LONGEST_LEASE,
)
_FIFO = msgspec.structs.replace(_STANDARD, delay=False, dedup=True, max_delay=None)


def _give_back(driver: SqsQueue, deliveries: Any) -> None:
    driver.nack(deliveries, delay=0.0, timeout=0.0)


class SqsQueue:
    """Satisfies `portable.drivers.WaitingQueueDriver`."""

    Options: type[msgspec.Struct] = SqsOptions
    # The service itself is waited on.
    arrivals = None
    buries = False
    send_concurrency = 8

    def __init__(self, binding: Binding[Any]) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self._binding = binding
        self._fifo = self._contract.ordered
        self.capabilities = _FIFO if self._fifo else _STANDARD
        if float(contract.visibility_timeout) > LONGEST_LEASE:
            raise ConfigError(
                f"visibility_timeout is {float(contract.visibility_timeout):g} s; SQS holds a message for at most "
                f"{LONGEST_LEASE:g} s"
            )
        self._regional = Regional(binding)
        self._setup = QueueSetup(self._regional, self._contract, binding.name, account(binding))
        self._found: str | None = None
        self._ended = threading.Event()

    @property
    def native(self) -> Any:
        """boto3's client of SQS."""
        return self._client

    def open(self) -> None:
        """Connect, and find the queue, or make it where the binding says so."""
        if self._binding.create:
            if self.plan():
                self.create()
        else:
            self._require()
        self._found = self._setup.url()

    def close(self) -> None:
        """Let go of the connections; whoever waits hears of it."""
        self._ended.set()
        self._regional.close()

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (the client bounds its calls)
        """Ask for the queue; with `write`, send a batch of nothing, which SQS refuses only to those who may send."""
        with translating():
            self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        if write:
            try:
                self._client.send_message_batch(QueueUrl=self._url, Entries=[])
            except FAILURES as error:
                found = translated(error)
                if not isinstance(found, InvalidArgument):
                    raise found from error

    def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        with translating():
            return self._setup.plan()

    def create(self) -> None:
        """Make the queue and its dead-letter queue, or bring them to what is declared."""
        with translating():
            self._setup.create()

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:  # noqa: ARG002 (the client bounds its calls)
        """Send messages, each for itself, together."""
        keys = [one.ordering_key if self._fifo else None for one in messages]

        def call(batch: list[tuple[str, Entry]]) -> Any:
            entries = [entry.fields(id_, "MessageBody") for id_, entry in batch]
            for (id_, _), fields in zip(batch, entries, strict=True):
                if messages[int(id_)].delay:
                    fields["DelaySeconds"] = math.ceil(messages[int(id_)].delay)
            return self._client.send_message_batch(QueueUrl=self._url, Entries=entries)

        return send_all([self._packed(one) for one in messages], keys, call, most_bytes=MOST_BYTES)

    @undone_by(_give_back)
    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:  # noqa: ARG002 (the client bounds its calls)
        """Lease what is at hand."""
        return self._receive(max_messages, visibility, 0)

    @undone_by(_give_back)
    def wait_receive(self, max_messages: int, *, visibility: float, wait: float, timeout: float) -> list[Delivery]:  # noqa: ARG002 (the same)
        """Lease what is ready; when nothing is, the service waits for the first."""
        deadline = monotonic() + wait
        while True:
            left = deadline - monotonic()
            # Whole seconds are all that SQS can wait for.
            poll = max(0, min(LONGEST_POLL, int(left + 0.1)))
            found = self._receive(max_messages, visibility, poll)
            left = deadline - monotonic()
            if found or left <= 0:
                return found
            if self._ended.wait(0.0 if poll else min(PAUSE, left)):
                raise Closed("the queue was closed meanwhile")

    def next_due(self, *, timeout: float) -> float | None:  # noqa: ARG002 (the protocol's signature)
        """Say when a message can be received; nobody asks, for there are no arrivals."""
        return None

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:  # noqa: ARG002 (the client bounds its calls)
        """Remove messages."""
        return settle_all(
            [one.receipt for one in deliveries],
            lambda entries: self._client.delete_message_batch(QueueUrl=self._url, Entries=entries),
        )

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:  # noqa: ARG002 (the same)
        """Give messages back."""
        for answer in self._hide(deliveries, math.ceil(min(delay, LONGEST_LEASE))):
            if answer is not None and answer.retryable:
                raise answer

    def extend(self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float) -> list[PortableError | None]:  # noqa: ARG002 (the same)
        """Hold messages for longer; SQS ends every lease twelve hours after its receive."""
        return self._hide(deliveries, max(1, math.ceil(min(seconds, LONGEST_LEASE))))

    def stats(self, *, timeout: float) -> QueueStats:  # noqa: ARG002 (the same)
        """Give what SQS counts, about."""
        names = [f"ApproximateNumberOfMessages{what}" for what in ("", "NotVisible", "Delayed")]
        with translating():
            found = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)
        ready, leased, delayed = (int(found["Attributes"][name]) for name in names)
        return QueueStats(ready=ready, leased=leased, delayed=delayed)

    def purge(self, *, timeout: float) -> None:
        """Not declared: for a minute SQS may remove also what is sent after it."""
        raise NotImplementedError

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Not declared."""
        raise NotImplementedError

    def _receive(self, count: int, visibility: float, poll: int) -> list[Delivery]:
        if not self._fifo:
            return self._concerning(self._ask(count, visibility, poll))
        # SQS gives several of a group at once where several are asked for: one of a key at a time is one a call.
        found = self._ask(1, visibility, poll)
        last = found
        while last and len(found) < count:
            try:
                last = self._ask(1, visibility, 0)
            except PortableError:
                break
            found += last
        return self._concerning(found)

    def _ask(self, count: int, visibility: float, poll: int) -> list[Delivery]:
        client = self._regional.client("sqs", waits=float(LONGEST_POLL)) if poll else self._client
        with translating():
            answer = client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=count,
                VisibilityTimeout=max(1, math.ceil(visibility)),
                WaitTimeSeconds=poll,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"],
            )
        return [self._delivery(one) for one in answer.get("Messages", ())]

    def _delivery(self, message: Any) -> Delivery:
        system = message.get("Attributes", {})
        group = system.get("MessageGroupId") if self._fifo else None
        held = unpacked(message.get("Body", ""), message.get("MessageAttributes", {}), group)
        return Delivery(
            id=message["MessageId"],
            receipt=message["ReceiptHandle"],
            body=held.body,
            attributes=held.attributes,
            count=int(system.get("ApproximateReceiveCount", 1)),
            sent_at=int(system.get("SentTimestamp", 0)) / 1000,
            ordering_key=held.ordering_key,
        )

    def _concerning(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Keep what is for this queue; of a queue all is."""
        return deliveries

    def _hide(self, deliveries: Sequence[Delivery], seconds: int) -> list[PortableError | None]:
        def call(entries: list[dict[str, Any]]) -> Any:
            for one in entries:
                one["VisibilityTimeout"] = seconds
            return self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)

        return settle_all([one.receipt for one in deliveries], call)

    def _packed(self, message: Outgoing) -> Entry | PortableError:
        try:
            return packed(message, fifo=self._fifo, keyed=not self._fifo, most_bytes=MOST_BYTES, ours=self._ours())
        except PortableError as error:
            return error

    def _ours(self) -> dict[str, str]:
        """Give the attributes to add to what is sent."""
        return {}

    def _require(self) -> None:
        with translating():
            missing = self._setup.missing()
        if missing:
            raise ResourceNotFound(
                f"the account has no {missing[0].what} {missing[0].name!r}; make it with `portable resources create`"
            )

    @property
    def _client(self) -> Any:
        return self._regional.client("sqs")

    @property
    def _url(self) -> str:
        if self._found is None:
            raise Closed("the connection is not open; use the resource first")
        return self._found
