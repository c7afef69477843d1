"""The container engine that a run's tests use: the one that this machine runs, or else one of the run's own.

Its own is a dockerd on a socket, data and process id of its own. It is started by the first test that asks for it,
shared by all processes of the run, and ended by its process id when the run ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable.errors import PortableError
from portable.services.catalogue import built_in
from portable.services.home import Home, make_folder
from portable.services.planning import planned
from portable.services.probing import wait_until
from portable.services.reading import read_service
from portable.services.runtimes.docker_engine import Engine
from portable.services.runtimes.docker_images import BASE, base, drop_built, obtain
from portable.services.wishes import Wish
from tests.targets import CannotStartError, required

__all__ = ["ONCE", "container_engine", "docker_engine", "pytest_configure", "pytest_unconfigure"]

FOLDER = "PORTABLE_TEST_ENGINE"
"""The variable that tells every process of a run the folder of its engine."""

OWN_BASE = "portable-test/base:bookworm"
"""What the tests' images are built on: no test's removal takes it away."""

ONCE = "portable-test/valkey:once"
"""Valkey, for tests that would else build the same again and again."""

_PREFIX = "portable-engine-"
_OURS = pytest.StashKey[Path]()
_PROGRAMS = {"dockerd": "docker.io", "containerd": "containerd", "runc": "runc", "debootstrap": "debootstrap"}


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder of the run's engine, in the process that starts the others; remove what killed runs left."""
    if hasattr(config, "workerinput") or FOLDER in os.environ:
        return
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            _end(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    config.stash[_OURS] = folder
    os.environ[FOLDER] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's engine, with all that is in it."""
    folder = config.stash.get(_OURS, None)
    if folder is not None:
        del os.environ[FOLDER]
        _end(folder)


@pytest.fixture
def docker_engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Give the engine, and have the runtime use it and build on what it has."""
    return container_engine(monkeypatch)


def container_engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    with required("docker"):
        found = _started()
        if isinstance(found, CannotStartError):
            raise found
    if found:
        monkeypatch.setenv("DOCKER_HOST", found)
    monkeypatch.setenv(BASE, OWN_BASE)
    return Engine("docker")


@functools.cache
def _started() -> str | CannotStartError:
    """Have an engine run that has the base image; give its address, empty for the machine's own."""
    folder = Path(os.environ[FOLDER])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failed, ready = folder / "failed", folder / "ready"
        if failed.exists():
            return CannotStartError(failed.read_text())
        try:
            if not ready.exists():
                address = _address(folder)
                with _addressed(address):
                    _make_base(Engine("docker"))
                    _make_once(Engine("docker"), folder / "once")
                ready.write_text(address)
        except (PortableError, CannotStartError) as error:
            failed.write_text(str(error))
            return CannotStartError(str(error))
        return ready.read_text()


def _address(folder: Path) -> str:
    try:
        Engine("docker").check()
    except PortableError as error:
        if os.geteuid() != 0:
            raise CannotStartError(error.message) from error
    else:
        return ""
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise CannotStartError(f"there is no container engine; install {', '.join(missing)}")
    if not any(Path("/sys/fs/cgroup", name).exists() for name in ("memory", "cgroup.controllers")):
        subprocess.run(["cgroupfs-mount"], check=True, capture_output=True)
    address = f"unix://{folder}/docker.sock"
    with (folder / "dockerd.log").open("wb") as log:
        # Of a session of its own, and nobody's child: it outlives the process of the run that came first.
        subprocess.run(
            ["setsid", "--fork", "dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec",
             "--pidfile", folder / "docker.pid", "--host", address],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )  # fmt: skip
    with _addressed(address):
        try:
            wait_until(Engine("docker").check, timeout=90, alive=lambda: None)
        except PortableError as error:
            lines = (folder / "dockerd.log").read_text().splitlines()
            raise CannotStartError(f"{error.message}; dockerd says: {' '.join(lines[-2:])[-500:]}") from error
    return address


@contextlib.contextmanager
def _addressed(address: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if address:
            patch.setenv("DOCKER_HOST", address)
        yield


def _make_base(engine: Engine) -> None:
    if not engine.succeeds("image", "inspect", OWN_BASE):
        engine.call("tag", base(engine, "debian:bookworm-slim", lambda _: None), OWN_BASE)


def _make_once(engine: Engine, folder: Path) -> None:
    """Build Valkey under a name that no test removes."""
    if engine.inspect("image", [ONCE]):
        return
    copy = folder / "services" / "once"
    shutil.copytree(built_in().folder / "valkey", copy)
    manifest = copy / "service.toml"
    manifest.write_text(manifest.read_text().replace('name = "valkey"', 'name = "once"', 1))
    instance = planned(Home(folder), Wish(service=read_service(copy), name="once", on="docker"))
    make_folder(instance.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BASE, OWN_BASE)
        engine.call("tag", obtain(engine, instance, lambda _: None).name, ONCE)
    drop_built(engine, "once")


def _end(folder: Path) -> None:
    note = folder / "docker.pid"
    if note.exists() and _is_engine(pid := int(note.read_text())):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 90
        while _is_engine(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((one for one in mounts if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _is_engine(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return "(dockerd)" in status and status.rpartition(")")[2].split()[0] != "Z"
