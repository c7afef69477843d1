"""Streams in Amazon Kinesis: https://docs.aws.amazon.com/kinesis/latest/APIReference."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from typing import Any

from portable.bindings import Binding
from portable.bridges import stays_sync
from portable.capabilities import StreamCapabilities
from portable.changes import Change
from portable.contracts import StreamContract
from portable.errors import InvalidArgument, PortableError, ResourceNotFound
from portable.partition_member import PartitionMember
from portable.records import Edge, NewRecord, Position, Record
from portable_aws.kinesis_groups import Checkpoints
from portable_aws.kinesis_options import KinesisOptions
from portable_aws.kinesis_puts import BATCH, Puts
from portable_aws.kinesis_reads import Shards
from portable_aws.kinesis_records import LARGEST, Entry, packed
from portable_aws.kinesis_setup import StreamSetup
from portable_aws.regional import Regional
from portable_aws.service_errors import FAILURES, translated, translating
from portable_aws.sqs_options import account

__all__ = ["KinesisStream"]

_UNTAKEN_KEY = "k" * 257
"""A partition key that is longer than Kinesis takes."""


class KinesisStream:
    """Satisfies `portable.drivers.StreamDriver`, and `portable.partition_member.BranchingSource`.

    A partition is a shard. Shards end where they are split or merged, and others continue them.
    """

    Options = KinesisOptions
    # Kinesis gives no news; it is asked every now and then.
    arrivals = None
    groups_beside = True
    look_every = 0.5
    """Seconds between two looks at a shard: all its readers together may look five times a second."""
    capabilities = StreamCapabilities(durability="replicated", groups=True, max_batch=BATCH, max_record_bytes=LARGEST)

    def __init__(self, binding: Binding[KinesisOptions]) -> None:
        contract = binding.contract
        assert isinstance(contract, StreamContract)  # noqa: S101 (the config gives a stream its own contract)
        self._binding = binding
        self._contract = contract
        self._regional = Regional(binding)
        self._setup = StreamSetup(self._client, contract, binding.name, account(binding))
        self._shards = Shards(self._client, self._setup.address, binding.clock)
        self._checkpoints = Checkpoints(binding)

    @property
    def native(self) -> Any:
        """boto3's client of Kinesis."""
        return self._client()

    def open(self) -> None:
        """Connect, and find the stream, or make it where the binding says so."""
        with translating():
            if self._binding.create:
                self._setup.create()
            elif self._setup.found() is None:
                raise ResourceNotFound(
                    f"the account has no stream {self._setup.name!r} in this region; "
                    "make it with `portable resources create`"
                )

    def close(self) -> None:
        """Let go of the connections."""
        self._checkpoints.close()
        self._regional.close()

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (the client bounds its calls)
        """Ask for the stream; with `write`, put what Kinesis refuses to those who may put."""
        with translating():
            self._client().describe_stream_summary(**self._setup.address())
        if write:
            try:
                self._client().put_record(**self._setup.address(), Data=b"", PartitionKey=_UNTAKEN_KEY)
            except FAILURES as error:
                found = translated(error)
                if not isinstance(found, InvalidArgument):
                    raise found from error

    def plan(self) -> list[Change]:
        """Say what would be made or changed: the stream, and the table of its groups where no `checkpoint` is named."""
        with translating():
            changes = self._setup.plan()
        return changes if self._contract.checkpoint else changes + self._checkpoints.plan()

    def create(self) -> None:
        """Make the stream, and the table of its groups where no `checkpoint` is named."""
        with translating():
            self._setup.create()
        if not self._contract.checkpoint:
            self._checkpoints.create()

    def partitions(self, *, timeout: float) -> list[str]:  # noqa: ARG002 (the client bounds its calls)
        """Give the names of the shards, those before that they continue, as long as Kinesis keeps their records."""
        return list(self._shards.lineage())

    def lineage(self, *, timeout: float) -> dict[str, tuple[str, ...]]:  # noqa: ARG002 (the client bounds its calls)
        """Give each shard with those that it continues."""
        return self._shards.lineage()

    @stays_sync
    def ended(self, partition: str, position: str) -> bool:
        """Whether reading found that nothing will ever be after a position's value."""
        return self._shards.ended(partition, position)

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        """Append records; those of a key one after the other, each put again while Kinesis refuses it."""
        entries: list[Entry | PortableError] = []
        for one in records:
            try:
                entries.append(packed(one))
            except PortableError as error:
                entries.append(error)
        address = self._setup.address()
        # A put whose answer is lost may have been done, and is not repeated.
        client = self._regional.client("kinesis", repeats=False)
        puts = Puts(
            lambda batch: client.put_records(**address, Records=batch),
            retries=self._contract.retries,
            deadline=monotonic() + timeout,
        )
        return puts.run(entries, [one.key for one in records])

    def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        """Give records of a shard."""
        return self._shards.read(partition, after, limit, monotonic() + timeout)

    def end(self, partition: str, *, timeout: float) -> Position:
        """Give the position after which the next record will be."""
        return self._shards.end(partition, monotonic() + timeout)

    def backlog(self, partition: str, after: str, *, timeout: float) -> int | None:  # noqa: ARG002 (the protocol's signature)
        """Kinesis does not count."""
        return None

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        """Become a member of a group, which the table beside the stream keeps."""
        member = PartitionMember(
            self,
            self._checkpoints.ledger,
            group=group,
            member=uuid.uuid4().hex,
            lease=float(self._binding.options.session_timeout),
            clock=self._binding.clock,
        )
        member.join(start, timeout=timeout)
        return member

    def _client(self) -> Any:
        return self._regional.client("kinesis")
