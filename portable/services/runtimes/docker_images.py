"""The image that an instance runs: one that the engine has, one that a registry gives, else one that is built here.

What is built here comes from the service's `Dockerfile`, whose `BASE` is an image that the engine has or a registry
gives, or, where no registry answers, one that debootstrap makes. Software of registries that a `Dockerfile` cannot
reach without this machine's settings is fetched and verified here, as for the `process` runtime, and put into the
build's context as `software/`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess  # nosec B404 # debootstrap is a program
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from portable.errors import PortableError, Unavailable
from portable.services.instances import Instance
from portable.services.manifest import Image
from portable.services.reading import Service, digest
from portable.services.runtimes import Report
from portable.services.runtimes.docker_compose import image_of
from portable.services.runtimes.docker_engine import Engine
from portable.services.software import Fetched, fetch
from portable.services.software.clients import called

__all__ = ["BASE", "Obtained", "base", "drop_built", "obtain"]

BASE = "PORTABLE_CONTAINER_BASE"
"""The variable that names the image to build on, in place of the one that a `Dockerfile` names."""

_BUILT = "portable.built"
"""The label of what was built here; its value is the service's name, or `base`."""

_OWN_BASE = "portable/base:"
_FETCH = 900.0
_DEBIAN = re.compile(r"debian:([a-z]+)(?:-slim)?")
_ARGUMENT = re.compile(r"^ARG +BASE=(\S+)", re.MULTILINE)
_PASSED = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class Obtained(NamedTuple):
    """An image that the engine has.

    Attributes:
        name: how it is called: with its digest where it was fetched, by a tag of ours where it was built.
        built: whether it was built here.
    """

    name: str
    built: bool


def obtain(engine: Engine, instance: Instance, report: Report) -> Obtained:
    """Have the engine have the image of an instance's service.

    Args:
        engine: the engine.
        instance: the instance; what is fetched for its image is kept with its project's packages.
        report: takes what goes on, in words.

    Raises:
        Unavailable: it can neither be fetched nor built; the message says why not.
    """
    service = instance.service
    image = image_of(service.manifest)
    tag = _tag(service)
    if image is not None and (found := _present(engine, image)) is not None:
        return Obtained(found, built=False)
    buildable = (service.folder / "Dockerfile").is_file()
    if buildable and engine.succeeds("image", "inspect", tag):
        return Obtained(tag, built=True)
    refusals = []
    for name in _names(image) if image is not None else ():
        report(f"fetching {name}")
        try:
            engine.call("pull", "--quiet", name, timeout=_FETCH)
        except Unavailable as error:
            refusals.append(f"{name}: {error.message}")
        else:
            return Obtained(_pinned(engine, name), built=False)
    if not buildable:
        why = "; ".join(refusals) or "its manifest names none"
        raise Unavailable(f"there is no image of {service.name}: {why}; and its folder has no Dockerfile to build one")
    try:
        _build(engine, instance, tag, report)
    except PortableError as error:
        why = "".join(f"{refusal}; " for refusal in refusals)
        raise Unavailable(
            f"there is no image of {service.name}: {why}and building it failed: {error.message}"
        ) from error
    return Obtained(tag, built=True)


def _tag(service: Service) -> str:
    return f"portable/{service.name}:{service.manifest.version}-{digest(service.folder)[:12]}"


def _names(image: Image) -> list[str]:
    """List where an image can be had: by its digest wherever that is known."""
    tag = image.name.rpartition(":")[2]
    suffix = f"@{image.digest}" if image.digest is not None else ""
    return [f"{image.name}{suffix}", *(f"{mirror}:{tag}{suffix}" for mirror in image.mirrors)]


def _present(engine: Engine, image: Image) -> str | None:
    for name in _names(image):
        if engine.succeeds("image", "inspect", name):
            return _pinned(engine, name)
    return None


def _pinned(engine: Engine, name: str) -> str:
    """Name an image by the digest that its registry gave, so that it stays the same one."""
    if "@" in name:
        return name
    (found,) = engine.inspect("image", [name])
    repository = name.rpartition(":")[0]
    for known in found.get("RepoDigests") or ():
        if known.rpartition("@")[0].endswith(repository):
            return str(known)
    return name


def _build(engine: Engine, instance: Instance, tag: str, report: Report) -> None:
    service = instance.service
    with _software(instance, report) as software:
        below = _base(engine, service, report)
        report(f"building an image of {service.name}")
        arguments = ["--build-arg", f"BASE={below}"] if below is not None else []
        for name in _PASSED:
            if name in os.environ:
                arguments += ["--build-arg", name]  # with its value from the environment
        with tempfile.TemporaryFile() as context:
            _pack(service.folder, software, context)
            context.seek(0)
            engine.call(
                "build", "--quiet", "--force-rm", "--tag", tag, "--label", f"{_BUILT}={service.name}", *arguments, "-",
                stdin=context,
                timeout=_FETCH,
            )  # fmt: skip


@contextlib.contextmanager
def _software(instance: Instance, report: Report) -> Iterator[Path | None]:
    """Have the software that a `Dockerfile` copies, and let go of it afterwards.

    What is Debian's a `Dockerfile` installs by itself.
    """
    process = instance.service.manifest.process
    wanted = [one for one in process.software if one.source not in {"path", "debian"}] if process is not None else []
    if not wanted:
        yield None
        return
    record = instance.record

    def keep(fetched: Fetched) -> None:
        record.software = fetched
        instance.save()

    # The image has its own Java and the like: what else the software needs of a machine is not asked of this one.
    fetched = fetch(
        instance.home, [msgspec.structs.replace(one, requires=[]) for one in wanted], report=report, keep=keep
    )
    try:
        yield instance.home.packages / fetched.folder / "root"
    finally:
        record.software = None
        instance.save()


def _pack(folder: Path, software: Path | None, context: IO[bytes]) -> None:
    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    # In this form an entry begins with its name, by which the engine knows a context from a Dockerfile.
    with tarfile.open(fileobj=context, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(folder, arcname=".", filter=owned)
        if software is not None:
            archive.add(software, arcname="software", filter=owned)


def _base(engine: Engine, service: Service, report: Report) -> str | None:
    """Give the image to build on: None where the `Dockerfile` leaves no choice."""
    if (named := os.environ.get(BASE)) is not None:
        return named
    match = _ARGUMENT.search((service.folder / "Dockerfile").read_text(encoding="utf-8"))
    return base(engine, match[1], report) if match is not None else None


def base(engine: Engine, wanted: str, report: Report) -> str:
    """Have the engine have an image to build on: the one that is wanted, or, of Debian's, one that is made here.

    Raises:
        Unavailable: it can neither be fetched nor made; the message says what to do.
    """
    if engine.succeeds("image", "inspect", wanted):
        return wanted
    debian = _DEBIAN.fullmatch(wanted)
    own = f"{_OWN_BASE}{debian[1]}" if debian is not None else ""
    if own and engine.succeeds("image", "inspect", own):
        return own
    report(f"fetching {wanted}")
    try:
        engine.call("pull", "--quiet", wanted, timeout=_FETCH)
    except Unavailable as error:
        if debian is None or os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise Unavailable(
                f"{error.message}; without a registry, name an image of Debian that the engine has in ${BASE}, or have "
                f"root run this with debootstrap installed (apt-get install debootstrap)"
            ) from None
    else:
        return wanted
    report(f"making {own} with debootstrap")
    _bootstrap(engine, debian[1], own)
    return own


def _bootstrap(engine: Engine, suite: str, name: str) -> None:
    """Make an image of a Debian release, from where this machine itself gets its packages."""
    sources = _sources(suite)
    with tempfile.TemporaryDirectory(prefix="portable-base-") as folder:
        root = Path(folder) / "root"
        mirror = [sources[0].split()[1]] if sources else []
        called(["debootstrap", "--variant=minbase", suite, str(root), *mirror], folder=Path(folder))
        for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "var/log/*.log", "etc/resolv.conf"):
            for path in root.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        # As in every image of Debian: a package that is installed while an image is built starts no server.
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
        if sources:
            (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in sources), encoding="utf-8")
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as packed:
                packed.add(root, arcname=".")
            archive.seek(0)
            engine.call(
                "import", "--change", f"LABEL {_BUILT}=base", "--change", 'CMD ["bash"]', "-", name,
                stdin=archive,
                timeout=_FETCH,
            )  # fmt: skip


def _sources(suite: str) -> list[str]:
    """List this machine's own sources of a Debian release, the release itself first; empty where it has none."""
    try:
        listed = subprocess.run(  # nosec B603 B607 # no shell
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],  # noqa: S607 # apt's own
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout
    except OSError:
        return []
    found = {
        tuple(line.split())
        for line in listed.splitlines()
        if re.fullmatch(rf"\S+ {suite}(-updates|-security)? main", line)
    }
    ordered = sorted(found, key=lambda one: (len(one[1]), one))
    return [f"deb {uri} {release} main" for uri, release, _ in ordered] if ordered and ordered[0][1] == suite else []


def drop_built(engine: Engine, service: str) -> None:
    """Remove the images that were built of a service and that no container uses, and the base with the last one."""
    for name in _built(engine, service):
        engine.succeeds("image", "rm", name)
    bases = _built(engine, "base")
    if set(_built(engine, None)) <= set(bases):
        for name in bases:
            if name.startswith(_OWN_BASE):
                engine.succeeds("image", "rm", name)


def _built(engine: Engine, service: str | None) -> list[str]:
    label = _BUILT if service is None else f"{_BUILT}={service}"
    listed = engine.call("image", "ls", "--filter", f"label={label}", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
    lines = (line.split() for line in listed.splitlines())
    # What was built twice at once has lost its name to the other; what users named themselves is theirs.
    return [number if "<none>" in name else name for name, number in lines if name.startswith(("portable/", "<none>"))]
