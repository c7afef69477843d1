"""The way in: the files of a folder become objects, and a job each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from archive import MIB, Archive, Job
from steps import progress

__all__ = ["SourceFile", "find", "queue", "sha256", "store"]

# What others put there and change at will.
_FOREIGN = {"__pycache__", "site-packages", "dist-packages", ".git"}


@dataclass(frozen=True)
class SourceFile:
    """A file on the disk, under the name that it has in the archive."""

    file: Path
    path: str
    size: int

    @property
    def extension(self) -> str:
        """What the filter of a subscription looks at: `.py`, or `none`."""
        return self.file.suffix.lower() or "none"


def find(folder: Path) -> list[SourceFile]:
    """Give the regular files of a folder, in the order of their paths.

    Links are not followed, and names that are not UTF-8 are left out: they are the key of no object.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _FOREIGN]
        for name in names:
            file = Path(parent, name)
            path = file.relative_to(folder).as_posix()
            if file.is_file() and not file.is_symlink() and _is_utf8(path):
                found.append(SourceFile(file, path, file.stat().st_size))
    return sorted(found, key=lambda one: one.path)


def _is_utf8(path: str) -> bool:
    # What the file system holds beside UTF-8 comes as lone surrogates.
    return not any("\ud800" <= character <= "\udfff" for character in path)


def store(archive: Archive, files: list[SourceFile]) -> None:
    """Put every file into the bucket, many at a time; the large ones as a stream."""
    small = [one for one in files if one.size <= MIB]

    def items() -> Iterator[tuple[str, bytes]]:
        for number, one in enumerate(small):
            progress(number, len(files))
            yield archive.key(one.path), one.file.read_bytes()

    archive.files.put_many(items())
    for number, one in enumerate([one for one in files if one.size > MIB], len(small)):
        progress(number, len(files))
        with one.file.open("rb") as content:
            archive.files.put(archive.key(one.path), content)
    progress(len(files), len(files))


def queue(archive: Archive, files: list[SourceFile]) -> None:
    """Send a job for every file."""
    archive.jobs.send_many(Job(archive.run, one.path, one.size) for one in files)


def sha256(content: Iterator[bytes]) -> str:
    """Give the hash of content that comes in pieces."""
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
    return digest.hexdigest()
