"""Choosing among a manifest's softwares, keeping what was fetched, and finding the programs in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import msgspec

from portable.errors import DeadlineExceeded, PortableError, Unavailable, Unsupported
from portable.services.accounts import unprivileged, which
from portable.services.home import Home, make_folder, write_private
from portable.services.manifest import Software
from portable.services.software.registries import REGISTRIES

__all__ = ["Fetched", "environment_of", "fetch", "locate", "unused"]

_RECORD = "fetched.json"


class Fetched(msgspec.Struct, frozen=True):
    """Software that is there.

    Attributes:
        number: which of the manifest's softwares it is.
        folder: its name under `packages/`; empty for what the machine has.
        packages: what it is made of, each with the SHA-256 that was seen, where one is known.
    """

    number: int
    folder: str
    packages: dict[str, str]


def fetch(
    home: Home, softwares: list[Software], *, report: Callable[[str], None], keep: Callable[[Fetched], None]
) -> Fetched:
    """Get the first of some softwares that can be had.

    What was fetched before, by any instance of the project, is used again.

    Args:
        home: the project's services.
        softwares: a manifest's, best first.
        report: takes what goes on, in words.
        keep: notes what is used, before anybody could take it for unused.

    Raises:
        Unavailable: none can be had; the message says why not, of each.
    """
    refusals = []
    for number, software in enumerate(softwares):
        try:
            for name in software.requires:
                if which(name, unprivileged()) is None:
                    raise Unsupported(f"this machine has no {name} that servers may run")
            if software.source == "path":
                locate(software, None)
                fetched = Fetched(number, "", {})
                keep(fetched)
                return fetched
            return _fetched(home, number, software, report, keep)
        except PortableError as error:
            refusals.append(f"{software.source}: {error.message}")
    raise Unavailable("its software cannot be had: " + "; ".join(refusals))


def _fetched(
    home: Home, number: int, software: Software, report: Callable[[str], None], keep: Callable[[Fetched], None]
) -> Fetched:
    name = _folder_name(software)
    folder = home.packages / name
    with home.locked(_lock_of(name)):
        if not (folder / _RECORD).is_file():
            report(f"fetching {', '.join(software.packages)} ({software.source})")
            _fetch_into(folder, software)
        locate(software, folder)
        packages = msgspec.json.decode((folder / _RECORD).read_bytes(), type=dict[str, str])
        fetched = Fetched(number, name, packages)
        keep(fetched)
    return fetched


def _lock_of(name: str) -> str:
    return f"packages-{name}"


def _fetch_into(folder: Path, software: Software) -> None:
    make_folder(folder.parent)
    # What an interrupted fetch left is in the way of nobody, but takes room.
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        new.chmod(0o755)  # servers run as another user
        packages = REGISTRIES[software.source](software, new)
        _relocate(new / "root", folder / "root", software.relocate)
        write_private(new / _RECORD, msgspec.json.encode(packages), mode=0o644)
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _relocate(root: Path, final: Path, relocate: Mapping[str, str]) -> None:
    """Have scripts that were written for a place of the system look where they are unpacked."""
    for name, prefix in relocate.items():
        for path in root.glob(name):
            path.write_text(path.read_text(encoding="utf-8").replace(prefix, f"{final}{prefix}"), encoding="utf-8")


def _folder_name(software: Software) -> str:
    what = msgspec.json.encode(
        [software.source, software.packages, software.sha256, software.dependencies, software.relocate]
    )
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", software.packages[0]).strip("-.")[:40]
    return f"{software.source}-{plain}-{hashlib.sha256(what).hexdigest()[:8]}"


def locate(software: Software, folder: Path | None) -> dict[str, str]:
    """Find the programs of a software: name → absolute path.

    Args:
        software: the manifest's.
        folder: where it was unpacked; None for what the machine has.

    Raises:
        Unsupported: one is not there.
    """
    found = {}
    for name, pattern in software.commands.items():
        if folder is not None:
            root = folder / "root"
            paths = sorted(root.glob(pattern.lstrip("/")))
        elif pattern.startswith("/"):
            paths = sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)  # the newest version first
        else:
            paths = [Path(path)] if (path := which(pattern, unprivileged())) else []
        if not paths:
            raise Unsupported(f"it has no {pattern}" if folder is not None else f"this machine has no {pattern}")
        found[name] = str(paths[0])
    return found


def environment_of(software: Software, folder: Path | None) -> dict[str, str]:
    """Give the variables that a software's programs need to run from where they were unpacked."""
    variables = {}
    if software.source == "debian" and folder is not None:
        root = folder / "root"
        machine = f"{platform.machine()}-linux-gnu"
        places = [root / part / machine for part in ("usr/lib", "lib")] + [root / "usr/lib"]
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(str(place) for place in places if place.is_dir())
        variables["PATH"] = os.pathsep.join([*(str(root / part) for part in ("usr/bin", "usr/sbin")), os.defpath])
    if software.source == "pypi" and folder is not None and software.dependencies:
        variables["PYTHONPATH"] = str(folder / "root")
    return variables


def unused(home: Home, used: Callable[[], Collection[str]]) -> None:
    """Remove the fetched software that no instance uses any more.

    Args:
        home: the project's services.
        used: names the folders that are in use now.
    """
    if not home.packages.is_dir():
        return
    for folder in list(home.packages.iterdir()):
        name = folder.name.lstrip(".").rpartition("-")[0] if folder.name.startswith(".") else folder.name
        # Whoever holds the lock is about to use it.
        with contextlib.suppress(DeadlineExceeded), home.locked(_lock_of(name), timeout=0):
            if folder.name not in used():
                shutil.rmtree(folder, ignore_errors=True)
