"""Backups: one file for each, with what it is of, and a checksum of all that is in it.

The file is a gzipped tar of `backup.json`, which comes first, and `dump`: what the manifest's backup command wrote, or
a tar of the volumes of a server that was down meanwhile.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from portable.errors import AlreadyExists, IntegrityError, PreconditionFailed, Unavailable
from portable.services.instances import Instance
from portable.services.probing import Answer
from portable.services.runtimes import Runtime
from portable.services.templates import expanded

__all__ = ["Backup", "check_matches", "read_head", "restore", "write"]

_HEAD = "backup.json"
_DUMP = "dump"
_TIMEOUT = 3600.0
"""Seconds that a backup or restore command may take."""


class Backup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup is of.

    Attributes:
        format: the version of this record.
        service: the service's name.
        version: the software's version.
        instance: the instance's name.
        made_at: when it was made.
        method: `dump` by the manifest's command, or a copy of the `volumes`.
        sha256: of the dump, or of the tar of the volumes.
        size: its length in bytes.
    """

    format: Literal[1] = 1
    service: str
    version: str
    instance: str
    made_at: dt.datetime
    method: Literal["dump", "volumes"]
    sha256: str
    size: int


def write(runtime: Runtime, instance: Instance, target: Path) -> Backup:
    """Write a backup whole, or nothing.

    A server whose manifest has no command for it must be down.

    Args:
        runtime: what the instance runs on.
        instance: the instance.
        target: the file to make.

    Raises:
        AlreadyExists: the file is there already.
        Unavailable: the command failed.
    """
    if target.exists():
        raise AlreadyExists(f"{target} is there already; choose another name")
    backup = instance.service.manifest.backup
    with tempfile.TemporaryFile(dir=target.parent) as data:
        if backup is not None:
            lookup = runtime.lookup(instance)
            answer = runtime.execute(
                instance,
                [expanded(text, lookup) for text in backup.backup.command],
                environment={name: expanded(text, lookup) for name, text in backup.backup.environment.items()},
                stdout=data,
                timeout=_TIMEOUT,
            )
            if answer.code != 0:
                raise Unavailable(f"the backup of {instance.name} failed: {_last_line(answer)}")
        else:
            runtime.save_volumes(instance, data)
        head = Backup(
            service=instance.record.service,
            version=instance.record.version,
            instance=instance.name,
            made_at=dt.datetime.now(dt.UTC),
            method="dump" if backup is not None else "volumes",
            sha256=_digest(data),
            size=data.seek(0, os.SEEK_END),
        )
        _pack(target, head, data)
    return head


def _last_line(answer: Answer) -> str:
    return (answer.output.strip().splitlines() or ["without a word"])[-1][:300]


def _digest(data: IO[bytes]) -> str:
    data.seek(0)
    return hashlib.file_digest(data, "sha256").hexdigest()  # type: ignore[arg-type] # typeshed wants readinto of a raw file


def _pack(target: Path, head: Backup, data: IO[bytes]) -> None:
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")  # with mode 0600: it holds everything
    try:
        with os.fdopen(number, "wb") as file, tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as archive:
            encoded = msgspec.json.format(msgspec.json.encode(head), indent=2)
            entry = tarfile.TarInfo(_HEAD)
            entry.size = len(encoded)
            archive.addfile(entry, io.BytesIO(encoded))
            entry = tarfile.TarInfo(_DUMP)
            entry.size = head.size
            data.seek(0)
            archive.addfile(entry, data)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Backup, IO[bytes]]]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            entry = archive.next()
            head = archive.extractfile(entry) if entry is not None and entry.name == _HEAD else None
            if head is None:
                raise IntegrityError(f"{path} is no backup of ours")
            described = msgspec.json.decode(head.read(1024 * 1024), type=Backup)
            entry = archive.next()
            content = archive.extractfile(entry) if entry is not None and entry.name == _DUMP else None
            if content is None:
                raise IntegrityError(f"{path} holds no data")
            yield described, content
    except (tarfile.TarError, EOFError, zlib.error, msgspec.DecodeError) as error:
        raise IntegrityError(f"{path} is damaged, or no backup of ours: {error}") from None


def read_head(path: Path) -> Backup:
    """Read what a backup is of, and check all that is in it.

    Raises:
        IntegrityError: it is damaged, or no backup.
    """
    with _opened(path) as (head, content):
        whole = hashlib.sha256()
        while chunk := content.read(1024 * 1024):
            whole.update(chunk)
        if whole.hexdigest() != head.sha256:
            raise IntegrityError(f"{path} is damaged: its checksum does not match; nothing was restored")
        return head


def check_matches(instance: Instance, head: Backup) -> None:
    """Refuse a backup of another service.

    Raises:
        PreconditionFailed: it does not fit.
    """
    if head.service != instance.record.service:
        raise PreconditionFailed(f"the backup is of {head.service}, and {instance.name} is {instance.record.service}")
    if head.method == "volumes" and head.version != instance.record.version:
        raise PreconditionFailed(
            f"the backup is a copy of the files of {head.service} {head.version}, and {instance.name} has "
            f"{instance.record.version}; install that version, restore, and upgrade"
        )


def restore(runtime: Runtime, instance: Instance, source: Path) -> None:
    """Put a checked backup's content into an instance.

    A server whose manifest has no command for it must be down.

    Raises:
        Unavailable: the command failed.
    """
    with _opened(source) as (head, content), tempfile.TemporaryFile() as data:
        shutil.copyfileobj(content, data, 1024 * 1024)
        data.seek(0)
        if head.method == "volumes":
            runtime.load_volumes(instance, data)
            return
        backup = instance.service.manifest.backup
        if backup is None:
            raise PreconditionFailed(f"{instance.record.service} has no command that reads the backup")
        lookup = runtime.lookup(instance)
        answer = runtime.execute(
            instance,
            [expanded(text, lookup) for text in backup.restore.command],
            environment={name: expanded(text, lookup) for name, text in backup.restore.environment.items()},
            stdin=data,
            timeout=_TIMEOUT,
        )
        if answer.code != 0:
            raise Unavailable(f"the restore of {instance.name} failed: {_last_line(answer)}")
