"""Further repositories: an index with checksums, and an archive for each service.

    index.json                 what there is: name, version, revision and SHA-256 of each
    NAME-REVISION.tar.gz       a service's folder

The checksum is that of the folder's files (`portable.services.reading.digest`), not of the archive, and is checked
again whenever a service is read. A revision that was seen once may never have other content.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from portable.config.source import nearest
from portable.errors import AlreadyExists, IntegrityError, InvalidArgument, NotFound, Unavailable
from portable.services.catalogue import Repository, built_in
from portable.services.checking import check
from portable.services.home import Home, make_folder, write_private
from portable.services.reading import Service, digest, read_service

__all__ = ["Added", "Entry", "add", "added", "publish", "remove", "repositories"]

_INDEX = "index.json"
_NOTE = "repository.json"
_LARGEST = 16 * 1024 * 1024
_TIMEOUT = 60.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A service in an index.

    Attributes:
        name: the service's name.
        version: the software's version.
        revision: the manifest's revision.
        sha256: the digest of its folder.
        archive: the archive's name, beside the index.
        earlier: the digest of each revision before this one.
    """

    name: str
    version: str
    revision: int
    sha256: str
    archive: str
    earlier: dict[int, str] = {}

    @property
    def published(self) -> dict[int, str]:
        """The digest of each revision there ever was."""
        return {**self.earlier, self.revision: self.sha256}


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository has.

    Attributes:
        schema: the version of this file.
        services: one entry a service.
    """

    schema: Literal[1] = 1
    services: list[Entry]


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that was added.

    Attributes:
        name: what it is called here.
        source: the folder or URL that it is from.
        services: what it had when it was last read.
    """

    name: str
    source: str
    services: list[Entry]


def publish(services: Sequence[Service], target: Path) -> Index:
    """Write services as a repository: for an air-gapped copy, or for others to add.

    What the folder has already of other services stays in its index.

    Args:
        services: what to write.
        target: the repository's folder; made where it is not there.

    Raises:
        ConfigError: a service is wrong.
        AlreadyExists: a revision was published before with other content, or a later one was.
    """
    make_folder(target)
    known = {one.name: one for one in _read_index(target.as_posix()).services} if (target / _INDEX).exists() else {}
    for service in services:
        check(service)
        manifest = service.manifest
        seen = digest(service.folder)
        published = known[manifest.name].published if manifest.name in known else {}
        if published.get(manifest.revision, seen) != seen:
            raise AlreadyExists(
                f"revision {manifest.revision} of {manifest.name} was published with other content; "
                f"raise `revision` in {service.source.path}"
            )
        if (latest := max(published, default=0)) > manifest.revision:
            raise AlreadyExists(
                f"revision {latest} of {manifest.name} is published already; "
                f"raise `revision` in {service.source.path} beyond it"
            )
        published.pop(manifest.revision, None)
        archive = f"{manifest.name}-{manifest.revision}.tar.gz"
        write_private(target / archive, _packed(service.folder), mode=0o644)
        known[manifest.name] = Entry(
            name=manifest.name,
            version=manifest.version,
            revision=manifest.revision,
            sha256=seen,
            archive=archive,
            earlier=published,
        )
    index = Index(services=[known[name] for name in sorted(known)])
    write_private(target / _INDEX, msgspec.json.format(msgspec.json.encode(index), indent=2), mode=0o644)
    return index


def _packed(folder: Path) -> bytes:
    """Pack a folder so that the same files give the same bytes."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(folder, arcname=".", filter=plain)
    return data.getvalue()


def add(home: Home, name: str, source: str) -> Added:
    """Add a repository, or read one anew that was added before under the same name.

    Args:
        home: the project's services.
        name: what to call it.
        source: its folder, or the `https:` URL of that.

    Raises:
        InvalidArgument: the name or URL is none.
        AlreadyExists: another repository has the name.
        IntegrityError: an archive is not what the index says, a revision has changed, or an older one is back: nothing
            is added.
        Unavailable: it cannot be read.
    """
    if not name.replace("-", "").isalnum() or not name.islower() or name == built_in().name:
        raise InvalidArgument(
            f"{name!r} cannot be a repository's name; use a to z, 0 to 9 and hyphens, and not contrib"
        )
    with home.locked("repositories-change"):
        before = _noted(home, name)
        if before is not None and before.source != source:
            raise AlreadyExists(f"the repository {name} is of {before.source}; remove it first, or take another name")
        index = _read_index(source)
        services = [_checked(name, before, entry) for entry in index.services]
        parent = home.folder / "repositories"
        make_folder(parent)
        new = Path(tempfile.mkdtemp(dir=parent, prefix=".new-"))
        try:
            new.chmod(0o755)
            for entry in services:
                _unpack(source, entry, new / entry.name)
            found = Added(name=name, source=source, services=services)
            write_private(new / _NOTE, msgspec.json.encode(found), mode=0o644)
            gone = parent / f".gone-{name}"
            shutil.rmtree(gone, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                (parent / name).rename(gone)
            new.rename(parent / name)
            shutil.rmtree(gone, ignore_errors=True)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            with contextlib.suppress(OSError):  # others are kept there
                parent.rmdir()
            raise
    return found


def _checked(name: str, before: Added | None, entry: Entry) -> Entry:
    """Compare a service with what was seen of it before, and give it with all that ever was."""
    seen: dict[int, str] = {}
    for one in before.services if before is not None else ():
        if one.name == entry.name:
            seen = one.published
    for number, sha256 in entry.published.items():
        if seen.get(number, sha256) != sha256:
            raise IntegrityError(
                f"revision {number} of {entry.name} in the repository {name} has changed since it was added: "
                f"published revisions never do, so it was tampered with; nothing was taken over"
            )
    if (latest := max(seen, default=0)) > entry.revision:
        raise IntegrityError(
            f"the repository {name} has revision {entry.revision} of {entry.name} where it had {latest}: "
            f"published revisions never go back, so it was tampered with; nothing was taken over"
        )
    earlier = {**seen, **entry.earlier}
    earlier.pop(entry.revision, None)
    return msgspec.structs.replace(entry, earlier=earlier)


def _unpack(source: str, entry: Entry, target: Path) -> None:
    data = _read(source, entry.archive)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            if sum(one.size for one in archive.getmembers()) > _LARGEST:
                raise IntegrityError(f"{entry.archive} holds more than 16 MiB, which is no service")
            archive.extractall(target, filter="data")  # nosec B202 # the filter keeps everything inside
    except (tarfile.TarError, OSError, EOFError) as error:
        raise IntegrityError(f"{entry.archive} is no archive that may be unpacked: {error}") from None
    if digest(target) != entry.sha256:
        raise IntegrityError(f"{entry.archive} is not what the index says: its checksum does not match")
    manifest = read_service(target).manifest
    if (manifest.name, manifest.revision) != (entry.name, entry.revision):
        raise IntegrityError(f"{entry.archive} holds {manifest.name} {manifest.revision}, not what the index says")


def _read_index(source: str) -> Index:
    try:
        index = msgspec.json.decode(_read(source, _INDEX), type=Index)
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{source}/{_INDEX} is no index: {error}") from None
    for entry in index.services:
        for part in (entry.name, entry.archive):
            if "/" in part or part.startswith(".") or not part:
                raise IntegrityError(f"{source}/{_INDEX}: {part!r} leads out of the repository")
    return index


def _read(source: str, name: str) -> bytes:
    url = urlsplit(source)
    if url.scheme in {"http", "https"}:
        # Without TLS only from this very machine: the checksums come the same way as what they are of.
        if url.scheme == "http" and url.hostname not in {"127.0.0.1", "localhost", "::1"}:
            raise InvalidArgument(f"{source}: a repository is read over https")
        try:
            with urllib.request.urlopen(f"{source.rstrip('/')}/{name}", timeout=_TIMEOUT) as reply:  # noqa: S310 # nosec B310 # the scheme was looked at
                data: bytes = reply.read(_LARGEST + 1)
        except OSError as error:
            raise Unavailable(f"{source}/{name} cannot be read: {error}") from None
    else:
        try:
            with Path(source, name).open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise Unavailable(f"{source}/{name} cannot be read: {error.strerror}") from None
    if len(data) > _LARGEST:
        raise IntegrityError(f"{source}/{name} is larger than 16 MiB")
    return data


def remove(home: Home, name: str) -> None:
    """Remove a repository; what was installed from it stays.

    Raises:
        NotFound: there is none of that name.
    """
    folder = home.folder / "repositories"
    names = [one.name for one in added(home)]
    if name not in names:
        raise NotFound(f"no repository {name!r} was added{nearest(name, names)}")
    with home.locked("repositories-change"):
        shutil.rmtree(folder / name, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are kept there
            folder.rmdir()
        home.remove_if_unused("repositories-change")


def added(home: Home) -> list[Added]:
    """List the repositories that were added, sorted."""
    folder = home.folder / "repositories"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [found for name in names if not name.startswith(".") and (found := _noted(home, name)) is not None]


def _noted(home: Home, name: str) -> Added | None:
    path = home.folder / "repositories" / name / _NOTE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Added)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path} is damaged ({error}); remove the repository and add it again") from None


def repositories(home: Home) -> Iterator[Repository]:
    """Give the built-in repository and those that were added, with the checksums to hold them to."""
    yield built_in()
    for one in added(home):
        sums = {entry.name: entry.sha256 for entry in one.services}
        yield Repository(one.name, home.folder / "repositories" / one.name, sums)
