"""The archive's resources, and what goes through them. Nothing here or beside it knows which provider serves them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import portable

__all__ = ["CONFIG", "MIB", "Archive", "Click", "Event", "FileRecord", "Job", "Notice", "pieces"]

CONFIG = Path(__file__).with_name("portable.toml")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Job:
    """One file to be read; a message of the queue `jobs`."""

    run: str
    path: str
    size: int


@dataclass(frozen=True)
class FileRecord:
    """What is kept of one file; a document of the collection `documents`, under `(run, path)`."""

    run: str
    path: str
    extension: str
    size: int
    sha256: str
    word_count: int
    words: list[str]  # the most frequent first
    counts: list[int]  # of each of the words
    worker: str
    delivery: int


@dataclass(frozen=True)
class Event:
    """One file is archived; a message of the topic `events`, with its extension as an attribute."""

    run: str
    path: str


@dataclass(frozen=True)
class Click:
    """A worker has dealt with a file; a record of the stream `clicks`."""

    run: str
    path: str
    worker: str
    milliseconds: float


@dataclass(frozen=True)
class Notice:
    """The report of a run is in the database; a message of the queue `notices`, sent through the outbox."""

    run: str
    files: int
    words: int


class Archive:
    """One run of the archive on one profile.

    Runs share the resources: each has its own prefix in the bucket and its own partition in the collection.
    """

    def __init__(self, cloud: portable.Cloud, run: str) -> None:
        """Name the resources; nothing is opened before it is used."""
        self.run = run
        self.files = cloud.bucket("files")
        self.jobs = cloud.queue("jobs", type=Job)
        self.documents = cloud.collection("documents", type=FileRecord)
        self.events = cloud.topic("events", type=Event)
        self.everything = cloud.subscription("everything", type=Event)
        self.sources = cloud.subscription("sources", type=Event)
        self.clicks = cloud.stream("clicks", type=Click)
        self.terms = cloud.cache("terms")
        self.main = cloud.database("main")
        self.notices = cloud.queue("notices", type=Notice)

    def key(self, path: str) -> str:
        """Give the key of a file's object."""
        return f"{self.run}/{path}"


def pieces(archive: Archive, path: str, size: int) -> Iterator[bytes]:
    """Give a file's content from the bucket, in pieces that end where a line ends: constant memory for text."""
    key = archive.key(path)
    if size <= MIB:
        yield archive.files.get(key)
        return
    with archive.files.open(key) as reader:
        while piece := reader.read(MIB):
            yield piece + reader.readline(MIB)
