"""One function a registry: fetch these packages into this folder, and say what exactly came."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape  # nosec B406 # writes XML, reads none

from portable.services.accounts import unprivileged, which
from portable.services.manifest import Software
from portable.services.software.clients import called, program

__all__ = ["REGISTRIES"]

PYTHON = "python3"
"""The interpreter that a software may require."""


def _pypi(software: Software, folder: Path) -> dict[str, str]:
    requirements = folder / "requirements.txt"
    lines = []
    for package in software.packages:
        hashes = "".join(f" --hash=sha256:{digest}" for digest in software.sha256.get(package, ()))
        lines.append(f"{package}{hashes}\n")
    requirements.write_text("".join(lines), encoding="utf-8")
    options = ["--no-compile", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--quiet"]
    if not software.dependencies:
        options.append("--no-deps")
    if software.sha256:
        options.append("--require-hashes")
    pip = [sys.executable, "-m", "pip"]
    if PYTHON in software.requires and (python := which(PYTHON, unprivileged())) is not None:
        # What is compiled has to suit the interpreter that the servers will run on, not the one of this library.
        pip += ["--python", python]
    called([*pip, "install", *options, "--target", str(folder / "root"), "-r", str(requirements)], folder=folder)
    return {package: " ".join(software.sha256.get(package, ())) for package in software.packages}


def _debian(software: Software, folder: Path) -> dict[str, str]:
    apt, unpack = program("apt-get"), program("dpkg-deb")
    archives = folder / "archives"
    archives.mkdir()
    # The system's lists may be missing, as in images, or name versions that the archive no longer has.
    for options in ([], _own_lists(folder)):
        try:
            if options:
                called([apt, *_PATIENT, *options, "update", "-qq"], folder=folder)
            names = _closure(apt, options, software, folder)
            called([apt, *_PATIENT, *options, "-qq", "download", *names], folder=archives)
            break
        except ConnectionError:
            if options:
                raise
    root = folder / "root"
    root.mkdir()
    fetched = {}
    for archive in sorted(archives.glob("*.deb")):
        called([unpack, "--extract", str(archive), str(root)], folder=folder)
        name, version = archive.name.split("_")[:2]
        fetched[f"{name}={version.replace('%3a', ':')}"] = hashlib.sha256(archive.read_bytes()).hexdigest()
        archive.unlink()
    return fetched


def _own_lists(folder: Path) -> list[str]:
    lists = folder / "apt"
    (lists / "lists" / "partial").mkdir(parents=True)
    (lists / "cache" / "archives" / "partial").mkdir(parents=True)
    # As its own user apt could not enter a folder that is private to its caller.
    return [
        "-o",
        f"Dir::State::Lists={lists / 'lists'}",
        "-o",
        f"Dir::Cache={lists / 'cache'}",
        "-o",
        "APT::Sandbox::User=",
    ]


_PATIENT = ["-o", "Acquire::Retries=5"]
"""A mirror may fail once; pip and Maven try again by themselves."""

_LIBC = {"libc6", "libc-bin"}
"""A private C library does not go with the system's loader."""


def _closure(apt: str, options: list[str], software: Software, folder: Path) -> list[str]:
    """List the packages, and those of their dependencies that this machine lacks."""
    simulated = called(
        [apt, *options, "install", "--simulate", "--no-install-recommends", "-qq", *software.packages],
        folder=folder,
        environment={"LC_ALL": "C"},
    )
    missing = re.findall(r"^Inst (\S+)", simulated, re.MULTILINE)
    return sorted({*software.packages, *missing} - _LIBC)


def _npm(software: Software, folder: Path) -> dict[str, str]:
    root = folder / "root"
    root.mkdir()
    options = [
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--no-update-notifier",
        "--prefer-offline",
        "--loglevel=error",
    ]
    called([program("npm"), "install", "--prefix", str(root), *options, *software.packages], folder=folder)
    return dict.fromkeys(software.packages, "")


def _maven(software: Software, folder: Path) -> dict[str, str]:
    dependencies = []
    for package in software.packages:
        group, artifact, version = (escape(part) for part in package.split(":"))
        dependencies.append(
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>"
        )
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>portable</groupId><artifactId>software</artifactId><version>1</version>"
        f"<dependencies>{''.join(dependencies)}</dependencies></project>",
        encoding="utf-8",
    )
    libs = folder / "root" / "libs"
    options = ["--batch-mode", "--quiet", "--strict-checksums"]
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime"]
    called([program("mvn"), *options, *goal], folder=folder)
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in sorted(libs.iterdir())}


def _go(software: Software, folder: Path) -> dict[str, str]:
    binaries = folder / "root" / "bin"
    environment = {"GOBIN": str(binaries), "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    called([program("go"), "install", *software.packages], folder=folder, environment=environment)
    return dict.fromkeys(software.packages, "")


def _crates(software: Software, folder: Path) -> dict[str, str]:
    root = folder / "root"
    for package in software.packages:
        called([program("cargo"), "install", "--locked", "--quiet", "--root", str(root), package], folder=folder)
    return dict.fromkeys(software.packages, "")


REGISTRIES: dict[str, Callable[[Software, Path], dict[str, str]]] = {
    "pypi": _pypi,
    "debian": _debian,
    "npm": _npm,
    "maven": _maven,
    "go": _go,
    "crates": _crates,
}
"""Source → what fetches into the folder's `root`, and gives each package with the digest that was seen."""
