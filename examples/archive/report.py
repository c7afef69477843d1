"""What a run came to: read from the documents, kept in the database, announced through the outbox."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa
from archive import Archive, Notice
from followers import Followers

__all__ = ["Reported", "Totals", "announced", "hot_terms", "largest_sources", "latest", "summed", "write"]

_tables = sa.MetaData()
_reports = sa.Table(
    "archive_reports",
    _tables,
    sa.Column("run_id", sa.String(40), primary_key=True),
    sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("file_count", sa.BigInteger, nullable=False),
    sa.Column("byte_count", sa.BigInteger, nullable=False),
    sa.Column("word_count", sa.BigInteger, nullable=False),
    sa.Column("events_everything", sa.BigInteger, nullable=False),
    sa.Column("events_sources", sa.BigInteger, nullable=False),
    sa.Column("clicks", sa.BigInteger, nullable=False),
)
_extensions = sa.Table(
    "archive_extensions",
    _tables,
    sa.Column("run_id", sa.String(40), sa.ForeignKey("archive_reports.run_id"), primary_key=True),
    sa.Column("extension", sa.String(300), primary_key=True),
    sa.Column("file_count", sa.BigInteger, nullable=False),
    sa.Column("byte_count", sa.BigInteger, nullable=False),
)


@dataclass
class Totals:
    """The sums over all documents of a run.

    Attributes:
        result: a hash of what was found out of every file; the same wherever the same files are archived.
    """

    result: str = ""
    files: int = 0
    bytes: int = 0
    words: int = 0
    redelivered: int = 0
    terms: Counter[str] = field(default_factory=Counter)
    extension_files: Counter[str] = field(default_factory=Counter)
    extension_bytes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Reported:
    """One row of the reports."""

    run: str
    files: int
    bytes: int
    words: int
    events_everything: int
    events_sources: int
    clicks: int


def summed(archive: Archive) -> Totals:
    """Read every document of the run once, and add up."""
    totals = Totals()
    found = []
    for document in archive.documents.where("run", "==", archive.run):
        record = document.data
        totals.files += 1
        totals.bytes += record.size
        totals.words += record.word_count
        totals.redelivered += record.delivery > 1
        found.append(f"{record.path}\0{record.sha256} {record.word_count} {record.words} {record.counts}\n")
        totals.extension_files[record.extension] += 1
        totals.extension_bytes[record.extension] += record.size
        for word, count in zip(record.words, record.counts, strict=True):
            totals.terms[word] += count
    # Which worker was first differs from run to run, and the order in which documents come from one profile to another.
    totals.result = hashlib.sha256("".join(sorted(found)).encode()).hexdigest()
    return totals


def hot_terms(archive: Archive, totals: Totals) -> list[tuple[str, int]]:
    """Give the most frequent words, from the cache if anybody has asked before."""

    def most_common() -> list[list[str | int]]:
        # A cache holds JSON, which knows lists and no tuples.
        hottest = heapq.nsmallest(20, totals.terms.items(), key=lambda term: (-term[1], term[0]))
        return [[word, count] for word, count in hottest]

    hot = archive.terms.get_or_set(f"hot/{archive.run}", most_common, ttl=3600)
    return [(str(word), int(count)) for word, count in hot]


def largest_sources(archive: Archive, extension: str) -> list[tuple[str, int]]:
    """Ask the index for the largest files with an extension."""
    query = archive.documents.where("run", "==", archive.run).where("extension", "==", extension)
    found = query.order_by("size", descending=True).limit(5)
    return [(document.data.path, document.data.size) for document in found]


def write(archive: Archive, totals: Totals, followers: Followers) -> None:
    """Write the report, and send the notice of it: both, or neither."""
    with archive.main.begin() as connection:
        _tables.create_all(connection)
    with archive.main.begin() as connection:
        connection.execute(
            _reports.insert(),
            {
                "run_id": archive.run,
                "written_at": datetime.now(UTC),
                "file_count": totals.files,
                "byte_count": totals.bytes,
                "word_count": totals.words,
                "events_everything": len(followers.everything),
                "events_sources": len(followers.sources),
                "clicks": len(followers.clicks),
            },
        )
        rows = [
            {
                "run_id": archive.run,
                "extension": extension,
                "file_count": count,
                "byte_count": totals.extension_bytes[extension],
            }
            for extension, count in totals.extension_files.items()
        ]
        connection.execute(_extensions.insert(), rows)
        archive.main.outbox(connection).send("notices", Notice(archive.run, totals.files, totals.words))
    archive.main.relay(until_empty=True)


def announced(archive: Archive) -> Notice | None:
    """Receive the notice of this run's report."""
    while messages := archive.notices.receive(wait=5.0):
        for message in messages:
            message.ack()
            if message.body.run == archive.run:
                return message.body
    return None


def latest(archive: Archive, run: str | None = None) -> Reported | None:
    """Read a run's report back from the database; the newest run's where none is named."""
    columns = [column for column in _reports.columns if column.name != "written_at"]
    query = sa.select(*columns).order_by(_reports.c.written_at.desc()).limit(1)
    if run is not None:
        query = query.where(_reports.c.run_id == run)
    with archive.main.connect() as connection:
        if not sa.inspect(connection).has_table(_reports.name):
            return None
        row = connection.execute(query).one_or_none()
    return None if row is None else Reported(*row)
