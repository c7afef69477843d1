"""Volumes, reached without any program of the image's: through a container that is made and never runs."""

from __future__ import annotations

import contextlib
import os
import subprocess  # nosec B404 # engines are driven by their programs
import tarfile
import tempfile
from collections.abc import Iterator
from typing import IO

from portable.errors import IntegrityError, Unavailable
from portable.services.instances import Contained, Instance
from portable.services.runtimes.docker_compose import LABEL, image_of, volume_name
from portable.services.runtimes.docker_engine import Engine

__all__ = ["hand_over", "load", "missing", "own", "save"]

_PLACE = "/portable-volumes"
_TIMEOUT = 3600.0


def missing(engine: Engine, instance: Instance, contained: Contained) -> bool:
    """Tell whether any of an instance's volumes is not there yet."""
    names = [volume_name(contained.project, one) for one in instance.service.manifest.volumes]
    return len(engine.inspect("volume", names)) < len(names)


def hand_over(engine: Engine, instance: Instance, contained: Contained) -> None:
    """Give new volumes to the user that the server runs as."""
    owner = _owner(instance)
    if owner is None or not instance.service.manifest.volumes:
        return
    with _reached(engine, instance, contained) as container, tempfile.TemporaryFile() as archive:
        _copy_out(engine, container, archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as found:
            roots = [entry for entry in found if entry.isdir() and "/" not in entry.name.strip("./")]
        foreign = [entry for entry in roots if entry.name.strip("./") and (entry.uid, entry.gid) != owner]
        if not foreign:
            return
        with tempfile.TemporaryFile() as fixed:
            with tarfile.open(fileobj=fixed, mode="w") as archived:
                for entry in foreign:
                    entry.uid, entry.gid = owner
                    entry.mode = 0o700
                    archived.addfile(entry)
            fixed.seek(0)
            _copy_in(engine, container, fixed)


def save(engine: Engine, instance: Instance, contained: Contained, target: IO[bytes]) -> None:
    """Write a tar of the volumes, each in a folder of its name."""
    with _reached(engine, instance, contained) as container:
        _copy_out(engine, container, target)


def own(instance: Instance, source: IO[bytes], target: IO[bytes]) -> None:
    """Write a tar of volumes anew, as files of the server's own.

    Raises:
        IntegrityError: it holds what lies outside of the volumes.
    """
    owner = _owner(instance) or (0, 0)
    volumes = instance.service.manifest.volumes
    with tarfile.open(fileobj=source) as given, tarfile.open(fileobj=target, mode="w") as taken:
        for entry in given:
            name = os.path.normpath(entry.name)
            if name == ".":
                continue
            if name.startswith(("/", "..")) or name.partition("/")[0] not in volumes:
                raise IntegrityError(f"the backup holds {entry.name!r}, which is in no volume of {instance.name}")
            content = given.extractfile(entry) if entry.isreg() else None
            mode = entry.mode
            safe = tarfile.data_filter(entry, _PLACE)  # nothing leads out of the volumes
            taken.addfile(safe.replace(uid=owner[0], gid=owner[1], uname="", gname="", mode=mode & 0o777), content)


def load(engine: Engine, instance: Instance, contained: Contained, source: IO[bytes]) -> None:
    """Put a tar that `own` wrote into volumes that are new and empty."""
    with _reached(engine, instance, contained) as container:
        _copy_in(engine, container, source)


def _owner(instance: Instance) -> tuple[int, int] | None:
    image = image_of(instance.service.manifest)
    if image is None or image.user is None:
        return None
    user, _, group = image.user.partition(":")
    return (int(user), int(group or user)) if (user + group).isdigit() else None


@contextlib.contextmanager
def _reached(engine: Engine, instance: Instance, contained: Contained) -> Iterator[str]:
    """Make a container that has the volumes, for copying into and out of it alone."""
    mounts = []
    for name in instance.service.manifest.volumes:
        mounts += ["--volume", f"{volume_name(contained.project, name)}:{_PLACE}/{name}"]
    made = engine.call(
        "create", "--label", f"{LABEL}={contained.project}", "--network", "none", *mounts, contained.image, "none"
    )
    container = made.split()[-1]
    try:
        yield container
    finally:
        engine.call("rm", "--force", container)


def _copy_out(engine: Engine, container: str, target: IO[bytes]) -> None:
    _copied([engine.program, "cp", f"{container}:{_PLACE}/.", "-"], stdout=target)


def _copy_in(engine: Engine, container: str, source: IO[bytes]) -> None:
    _copied([engine.program, "cp", "-", f"{container}:{_PLACE}"], stdin=source)


def _copied(command: list[str], *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> None:
    done = subprocess.run(  # noqa: S603 # nosec B603 # no shell
        command,
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=stdout if stdout is not None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"the volumes cannot be copied: {done.stderr.decode(errors='replace').strip()[-300:]}")
