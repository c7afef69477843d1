"""Reading the shards of a stream in Kinesis, which end where they are split or merged."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import msgspec

from portable.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from portable.records import START, Edge, Position, Record
from portable_aws.kinesis_records import moment_of, moment_value, record, sequence
from portable_aws.service_errors import FAILURES, code_of, translated, translating

__all__ = ["Shards"]

# https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html
_MOST_RECORDS = 10_000

_ITERATOR_LIVES = 240.0
"""Seconds that an iterator is kept for the next page; Kinesis forgets it after five minutes."""

_MOST_ITERATORS = 1000
"""How many are kept: one for each shard and each reader's place in it."""

_KNOWN_FOR = 10.0
"""Seconds that the list of shards stands, but for a shard that is not on it."""

_LOOK_BACK = 10
"""Seconds before now where the search for the last record begins: the clocks of the service may differ by as much."""


class _Page(msgspec.Struct, frozen=True):
    """What one call gives.

    Attributes:
        records: as boto3 has them.
        following: the iterator of the next page; None where the shard has ended, and this was all.
        behind: milliseconds; more than 0 where there is more, even if this page has none.
    """

    records: list[dict[str, Any]]
    following: str | None
    behind: int


class Shards:
    """The shards of one stream; safe with threads.

    Args:
        client: gives the client.
        address: gives the arguments that say which stream a call is about.
        clock: the wall clock, for servers that do not say what time it is.
    """

    def __init__(
        self, client: Callable[[], Any], address: Callable[[], dict[str, str]], clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._address = address
        self._clock = clock
        # By shard and the value that the next page follows: Kinesis's word for it, and since when it is known.
        self._iterators: dict[tuple[str, str], tuple[str, float]] = {}
        # By shard: the value after which there will never be anything, as reading found; of a record, and of a moment.
        self._ends: dict[str, str] = {}
        self._moments: dict[str, str] = {}
        # How far the service's clock is ahead of ours.
        self._ahead: float | None = None
        self._known: dict[str, tuple[str, ...]] = {}
        self._known_until = 0.0

    def lineage(self) -> dict[str, tuple[str, ...]]:
        """Give each shard's parents; a shard comes after them."""
        found: dict[str, tuple[str, ...]] = {}
        client, how = self._client(), self._address()
        with translating():
            while True:
                answer = client.list_shards(**how)
                self._heard(answer)
                for one in answer["Shards"]:
                    parents = (one.get("ParentShardId"), one.get("AdjacentParentShardId"))
                    found[one["ShardId"]] = tuple(parent for parent in parents if parent)
                following = answer.get("NextToken")
                if not following:
                    break
                how = {"NextToken": following, **self._arn()}
        # Their numbers grow, so a shard is behind those that it continues.
        self._known = dict(sorted(found.items()))
        self._known_until = monotonic() + _KNOWN_FOR
        return self._known

    def ended(self, shard: str, text: str) -> bool:
        """Whether reading found that nothing will ever be after a position's value."""
        # The order of sequence numbers and moments is not known.
        ends = self._ends if moment_of(text) is None else self._moments
        end = ends.get(shard)
        return end is not None and text >= end

    def read(self, shard: str, after: Edge | Position | datetime, limit: int, deadline: float) -> list[Record[bytes]]:
        """Give the next records of a shard; none only where there is nothing now."""
        if isinstance(after, Edge) and after is not START:
            self._require(shard)
            return []
        moment = after if isinstance(after, datetime) else None
        place: str | None = None if moment else after.value if isinstance(after, Position) else ""
        if place is not None and self.ended(shard, place):
            self._require(shard)
            return []
        token = self._begin(shard, place, moment)
        fresh = False
        while token is not None:
            page = self._page(shard, token, limit)
            if place is not None:
                self._iterators.pop((shard, place), None)
            if page is None:
                if fresh:
                    raise Unavailable(f"the service forgets at once where it is in {shard!r}")
                token, fresh = self._begin(shard, place, moment), True
                continue
            found = [record(shard, one) for one in page.records]
            if moment is not None:
                # Kinesis takes whole seconds, and its times are not exact.
                while found and found[0].timestamp < moment:
                    place = found.pop(0).position.value
            if found:
                place = found[-1].position.value
            token = page.following
            self._note(shard, place, token)
            if found or not (page.records or page.behind):
                return found
            if monotonic() >= deadline:
                raise DeadlineExceeded(f"the shard {shard!r} gave nothing in time, though there is more")
        return []

    def end(self, shard: str, deadline: float) -> Position:
        """Give the position after which the next record will be."""
        # What was taken before then is before it, whatever comes is after it, and what is in between is read.
        place = moment_value(max(0, math.floor(self._now()) - _LOOK_BACK))
        token = self._begin(shard, place, None)
        while token is not None:
            page = self._page(shard, token, _MOST_RECORDS)
            if page is None:
                token = self._begin(shard, place, None)
                continue
            if page.records:
                place = record(shard, page.records[-1]).position.value
            if page.following is None or not (page.behind or len(page.records) >= _MOST_RECORDS):
                break
            token = page.following
            if monotonic() >= deadline:
                raise DeadlineExceeded(f"the end of the shard {shard!r} was not reached in time")
        return Position(shard, place)

    def _require(self, shard: str) -> None:
        """Raise `NotFound` where there is no such shard."""
        if shard in self._known and monotonic() < self._known_until:
            return
        if shard not in self.lineage():
            raise NotFound(f"there is no partition {shard!r}; `partitions()` gives their names")

    def _begin(self, shard: str, place: str | None, moment: datetime | None) -> str | None:
        """Give an iterator that follows a position's value, or starts at a moment; None where there is nothing."""
        kept = None if place is None else self._iterators.get((shard, place))
        if kept is not None and monotonic() - kept[1] < _ITERATOR_LIVES:
            return kept[0]
        how: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if place:
            meant = moment_of(place)
            if meant is not None:
                how = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": meant}
            else:
                how = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence(place)}
        self._require(shard)
        if place is None and moment is not None:
            # What is to come has not been taken yet; Kinesis refuses to be asked for it.
            if moment.timestamp() > self._now() + _LOOK_BACK:
                return None
            how = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": moment.astimezone(UTC).replace(microsecond=0)}
        try:
            token: str = self._client().get_shard_iterator(**self._address(), ShardId=shard, **how)["ShardIterator"]
        except FAILURES as error:
            if place is None and code_of(error) == "InvalidArgumentException":
                # Its clock is behind ours.
                return None
            raise self._explained(error, shard) from error
        return token

    def _page(self, shard: str, token: str, limit: int) -> _Page | None:
        """Ask for records; None where the service has forgotten the iterator."""
        try:
            answer = self._client().get_records(ShardIterator=token, Limit=min(limit, _MOST_RECORDS), **self._arn())
        except FAILURES as error:
            if code_of(error) == "ExpiredIteratorException":
                return None
            raise self._explained(error, shard) from error
        return _Page(answer["Records"], answer.get("NextShardIterator"), int(answer.get("MillisBehindLatest") or 0))

    def _note(self, shard: str, place: str | None, token: str | None) -> None:
        """Keep where the next page is, or that there is none."""
        if place is None:
            return
        if token is not None:
            if len(self._iterators) >= _MOST_ITERATORS:
                self._iterators.clear()
            self._iterators[shard, place] = token, monotonic()
            return
        ends = self._ends if moment_of(place) is None else self._moments
        ends[shard] = min(place, ends.get(shard, place))

    def _explained(self, error: BaseException, shard: str) -> Exception:
        """Give the error of ours: what is missing may be the shard alone, or the stream."""
        if code_of(error) == "ResourceNotFoundException":
            self._known_until = 0.0
            try:
                self._require(shard)
            except NotFound as missing:
                return missing
        if code_of(error) == "InvalidArgumentException":
            return InvalidArgument(f"Kinesis does not know this place in {shard!r}; it may be of another stream")
        return translated(error)

    def _arn(self) -> dict[str, str]:
        """Give what calls with a word of Kinesis's own take beside it: the ARN, where there is one."""
        address = self._address()
        return address if "StreamARN" in address else {}

    def _now(self) -> float:
        """Say what time it is at the service."""
        if self._ahead is None:
            self.lineage()
        return self._clock() + (self._ahead or 0.0)

    def _heard(self, answer: dict[str, Any]) -> None:
        """Learn what time it is at the service, to the second."""
        said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            self._ahead = email.utils.parsedate_to_datetime(said).timestamp() - self._clock()
        except (TypeError, ValueError):
            self._ahead = 0.0
