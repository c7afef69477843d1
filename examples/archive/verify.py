"""The proof: what the archive holds, against the files on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from archive import MIB, Archive, pieces
from ingest import SourceFile, sha256
from report import Reported

from portable.errors import NotFound

__all__ = ["Finding", "verify"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: in words.
        wrong: what did not hold, entry by entry; empty when all is well.
    """

    what: str
    wrong: list[str]


def verify(archive: Archive, files: list[SourceFile], reported: Reported | None) -> list[Finding]:
    """Read everything back, and compare: every file once, and nothing else."""
    with ThreadPoolExecutor(8) as pool:
        hashes = dict(zip((one.path for one in files), pool.map(_hash_on_disk, files), strict=True))
        objects = list(pool.map(lambda one: _wrong_object(archive, one, hashes[one.path]), files))
    return [
        Finding("every object has the bytes of its file", [*filter(None, objects)]),
        Finding("no object is anything else", _strange_objects(archive, hashes)),
        Finding("every file has one document, with its size and hash", _wrong_documents(archive, files, hashes)),
        Finding("no document is of anything else", _strange_documents(archive, len(files))),
        Finding("the report counts every file, event and click once", _wrong_report(files, reported)),
    ]


def _hash_on_disk(one: SourceFile) -> str:
    def content() -> Iterator[bytes]:
        with one.file.open("rb") as file:
            while piece := file.read(MIB):
                yield piece

    return sha256(content())


def _wrong_object(archive: Archive, one: SourceFile, sha: str) -> str | None:
    try:
        stored = sha256(pieces(archive, one.path, one.size))
    except NotFound:
        return f"{one.path}: there is no object"
    return None if stored == sha else f"{one.path}: the object has other bytes than the file"


def _strange_objects(archive: Archive, known: Iterable[str]) -> list[str]:
    keys = {archive.key(path) for path in known}
    return [f"{entry.key}: no file" for entry in archive.files.list(archive.key("")) if entry.key not in keys]


def _wrong_documents(archive: Archive, files: list[SourceFile], hashes: dict[str, str]) -> list[str]:
    wrong = []
    for start in range(0, len(files), 100):
        chunk = files[start : start + 100]
        found = archive.documents.get_many((archive.run, one.path) for one in chunk)
        for one in chunk:
            document = found.get((archive.run, one.path))
            if document is None:
                wrong.append(f"{one.path}: there is no document")
            elif (document.data.size, document.data.sha256) != (one.size, hashes[one.path]):
                wrong.append(f"{one.path}: the document is of another content")
    return wrong


def _strange_documents(archive: Archive, files: int) -> list[str]:
    count = archive.documents.where("run", "==", archive.run).count()
    return [] if count == files else [f"{count} documents for {files} files"]


def _wrong_report(files: list[SourceFile], reported: Reported | None) -> list[str]:
    if reported is None:
        return ["there is no report"]
    expected = {
        "files": len(files),
        "bytes": sum(one.size for one in files),
        "events_everything": len(files),
        "events_sources": sum(one.extension == ".py" for one in files),
        "clicks": len(files),
    }
    return [
        f"{name}: {getattr(reported, name)} in the report, {value} on the disk"
        for name, value in expected.items()
        if getattr(reported, name) != value
    ]
