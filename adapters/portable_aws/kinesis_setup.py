"""Finding, making and changing a stream of Kinesis."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from portable.changes import Change
from portable.contracts import StreamContract
from portable.errors import ConfigError, DeadlineExceeded, ResourceNotFound
from portable_aws.kinesis_options import stream_name
from portable_aws.service_errors import FAILURES, code_of

__all__ = ["StreamSetup"]

TAGS = {"made-by": "portable"}

# https://docs.aws.amazon.com/streams/latest/dev/kinesis-extended-retention.html
_SHORTEST, _LONGEST = 24, 365 * 24

MADE_WITHIN = 300.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 2.0


class StreamSetup:
    """A stream, at Kinesis. What it raises is boto3's own, but for `DeadlineExceeded` and `ResourceNotFound`.

    Args:
        client: gives the client.
        contract: the stream's.
        name: its physical name in the config.
        account: the account that it is of, where that is not the credentials' own.

    Raises:
        ConfigError: Kinesis takes no such name, or keeps records not that long.
    """

    def __init__(self, client: Callable[[], Any], contract: StreamContract, name: str, account: str | None) -> None:
        self._client = client
        self._account = account
        self.name = stream_name(name)
        self._shards = contract.partitions
        # What is kept for less than a day is kept for a day.
        self._hours = max(_SHORTEST, math.ceil(float(contract.retention) / 3600))
        if self._hours > _LONGEST:
            raise ConfigError(
                f"retention is {self._hours} h; Kinesis keeps records for at most {_LONGEST} h (365 days)"
            )

    def address(self) -> dict[str, str]:
        """Give the arguments that say which stream a call is about."""
        if self._account is None:
            return {"StreamName": self.name}
        meta = self._client().meta
        return {"StreamARN": f"arn:{meta.partition}:kinesis:{meta.region_name}:{self._account}:stream/{self.name}"}

    def found(self) -> dict[str, Any] | None:
        """Describe the stream; None where there is none."""
        try:
            answer = self._client().describe_stream_summary(**self.address())
        except FAILURES as error:
            if code_of(error) == "ResourceNotFoundException":
                return None
            raise
        summary: dict[str, Any] = answer["StreamDescriptionSummary"]
        return summary

    def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        found = self.found()
        if found is None:
            return [Change("create", "stream", self.name, f"with {self._shards} shards, kept for {self._hours} h")]
        changes: list[Change] = []
        if found["RetentionPeriodHours"] != self._hours:
            changes.append(Change("change", "stream", self.name, f"records kept for {self._hours} h"))
        # How many a stream on demand has is Amazon's to say.
        on_demand = found.get("StreamModeDetails", {}).get("StreamMode") == "ON_DEMAND"
        if not on_demand and found.get("OpenShardCount", self._shards) != self._shards:
            detail = (
                f"it has {found['OpenShardCount']} open shards, the contract asks for {self._shards}; "
                "split or merge them with UpdateShardCount"
            )
            changes.append(Change("differs", "stream", self.name, detail))
        return changes

    def create(self) -> None:
        """Make the stream where it is missing, and keep its records for as long as is declared."""
        found = self.found()
        if found is None or found["StreamStatus"] == "CREATING":
            found = self._make()
        if found["RetentionPeriodHours"] != self._hours:
            self._keep()

    def _make(self) -> dict[str, Any]:
        client = self._client()
        if self._account is not None:
            raise ResourceNotFound(
                f"the account {self._account} has no stream {self.name!r}; make it from there, by a URL without account"
            )
        try:
            client.create_stream(StreamName=self.name, ShardCount=self._shards)
        except FAILURES as error:
            # Somebody else was faster.
            if code_of(error) != "ResourceInUseException":
                raise
            return self._settled()
        self._settled()
        client.add_tags_to_stream(**self.address(), Tags=TAGS)
        return self._settled()

    def _keep(self) -> None:
        client = self._client()
        longer = self._settled()["RetentionPeriodHours"] < self._hours
        change = client.increase_stream_retention_period if longer else client.decrease_stream_retention_period
        try:
            change(**self.address(), RetentionPeriodHours=self._hours)
        except FAILURES:
            # Somebody else was faster, or is at it.
            if self._settled()["RetentionPeriodHours"] != self._hours:
                raise
        self._settled()

    def _settled(self) -> dict[str, Any]:
        """Wait until the stream is there, and nobody changes it."""
        deadline, pause = monotonic() + MADE_WITHIN, SHORTEST_PAUSE
        while True:
            found = self.found()
            if found is not None and found["StreamStatus"] == "ACTIVE":
                return found
            if monotonic() > deadline:
                raise DeadlineExceeded(f"the stream {self.name!r} was not ready within {MADE_WITHIN:g} s")
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
