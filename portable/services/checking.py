"""What `validate` finds in a service beyond its schema: names that lead nowhere, and what should be pinned."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple

from portable.config.source import Keys, nearest
from portable.errors import ConfigError
from portable.services.manifest import Container, Image, Manifest, Probe, Software
from portable.services.parameters import check_value
from portable.services.reading import Service, digest
from portable.services.templates import SCOPES, references

__all__ = ["Finding", "check", "findings"]

_OF_THIS_MACHINE = {"service", "software"}
_PINNED = {"pypi": "==", "npm": "@", "maven": ":", "go": "@", "crates": "@"}


class Finding(NamedTuple):
    """What is wrong with a service, or could be better.

    Attributes:
        severity: an error keeps it from being installed.
        where: the file, line and key path.
        message: what is wrong, and what to do.
    """

    severity: Literal["error", "warning"]
    where: str
    message: str


def check(service: Service) -> None:
    """Refuse a service with errors.

    Raises:
        ConfigError: the first of them.
    """
    for severity, where, message in findings(service):
        if severity == "error":
            raise ConfigError(f"{where}: {message}")


def findings(service: Service) -> Iterator[Finding]:
    """List what is wrong with a service, errors first."""
    where = service.source.where
    for keys, message in _errors(service):
        yield Finding("error", where(keys), message)
    for keys, message in _warnings(service.manifest):
        yield Finding("warning", where(keys), message)


def _errors(service: Service) -> Iterator[tuple[Keys, str]]:
    manifest = service.manifest
    yield from _license_errors(manifest.license)
    if service.repository != "installed" and service.folder.name != manifest.name:
        yield ("name",), f"the folder is called {service.folder.name!r}; give both the same name"
    if not (service.folder / "README.md").is_file():
        yield (), "there is no README.md beside it; say what the service is and when to choose it"
    try:
        digest(service.folder)
    except ConfigError as error:
        yield (), error.message
    yield from _parameter_errors(manifest)
    yield from _software_errors(manifest)
    yield from _probe_errors(manifest)
    for name in manifest.files:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
            yield ("files", name), "is no name of a file"
        elif (manifest.files[name].template is None) == (manifest.files[name].text is None):
            yield ("files", name), "give either template or text"
        else:
            try:
                yield from _reference_errors(manifest, service.template(name), ("files", name))
            except ConfigError as error:
                yield ("files", name), error.message.partition(": ")[2] or error.message
    for keys, text in _templates(manifest):
        yield from _reference_errors(manifest, text, keys)
    for number, setup in enumerate(manifest.process.setup if manifest.process else ()):
        if setup.volume is not None and setup.volume not in manifest.volumes:
            yield (
                ("process", "setup", str(number)),
                f"no volume {setup.volume!r}{nearest(setup.volume, manifest.volumes)}",
            )


def _license_errors(expression: str) -> Iterator[tuple[Keys, str]]:
    try:
        from packaging.licenses import (  # noqa: PLC0415 (of an extra)
            InvalidLicenseExpression,
            canonicalize_license_expression,
        )
    except ImportError:
        raise ConfigError("checking a service needs packaging: pip install 'portable-cloud[services]'") from None
    try:
        canonicalize_license_expression(expression)
    except InvalidLicenseExpression as error:
        yield ("license",), f"{expression!r} is no SPDX expression, such as BSD-3-Clause: {error}"


def _parameter_errors(manifest: Manifest) -> Iterator[tuple[Keys, str]]:
    for name, parameter in manifest.parameters.items():
        keys: Keys = ("parameters", name)
        if parameter.generated is not None and (
            parameter.type != "string" or not 8 <= parameter.generated.length <= 256
        ):
            yield keys, "only a text of 8 to 256 characters can be generated"
        if parameter.sensitive and parameter.default is not None:
            yield keys, "a secret with a default is no secret; leave the default out, or say generated"
        if (why := _no_pattern(parameter.pattern)) is not None:
            yield keys, f"the pattern is no regular expression: {why}"
        elif parameter.default is not None:
            try:
                check_value(name, parameter, parameter.default)
            except ConfigError as error:
                yield (*keys, "default"), error.message
    for plan, described in manifest.plans.items():
        for name, value in described.parameters.items():
            keys = ("plans", plan, "parameters", name)
            if name not in manifest.parameters:
                yield keys, f"no parameter {name!r}{nearest(name, manifest.parameters)}"
                continue
            try:
                check_value(name, manifest.parameters[name], value)
            except ConfigError as error:
                yield keys, error.message


def _software_errors(manifest: Manifest) -> Iterator[tuple[Keys, str]]:
    for number, one in enumerate(manifest.process.software if manifest.process else ()):
        keys = ("process", "software", str(number))
        if (one.source == "path") == bool(one.packages):
            yield keys, "source path takes no packages, any other source names some"
        mark = _PINNED.get(one.source)
        for package in one.packages:
            if mark is not None and mark not in package[1:]:
                yield keys, f"the package {package!r} has no version; write it as NAME{mark}VERSION"
        for package in one.sha256:
            if package not in one.packages:
                yield (
                    keys,
                    f"sha256 is given for {package!r}, which is no package of it{nearest(package, one.packages)}",
                )


def _probe_errors(manifest: Manifest) -> Iterator[tuple[Keys, str]]:
    for name, probe in _probes(manifest):
        keys = ("probes", name)
        if (probe.port is None) == (probe.command is None) or bool(probe.exchange) != (probe.port is not None):
            yield keys, "a probe is either a port with an exchange, or a command"
        if probe.resource is not None and name != "functional":
            yield (*keys, "resource"), "the functional probe alone works with a resource"
        elif probe.resource is not None and probe.resource not in manifest.provides:
            hint = nearest(probe.resource, manifest.provides)
            yield (*keys, "resource"), f"[provides] names no {probe.resource}{hint}"
        asked: list[tuple[Keys, str | None]] = [(keys, probe.port)]
        asked += [((*keys, "exchange", str(number)), step.port) for number, step in enumerate(probe.exchange)]
        for place, port in asked:
            if port is None:
                continue
            if port not in manifest.ports:
                yield (*place, "port"), f"no port {port!r}{nearest(port, manifest.ports)}"
            elif manifest.ports[port].scope == "internal":
                yield (*place, "port"), f"the port {port!r} is internal, which a container keeps to itself"
        for pattern in [probe.expect, *(step.expect for step in probe.exchange)]:
            if (why := _no_pattern(pattern)) is not None:
                yield keys, f"{pattern!r} is no regular expression: {why}"


def _probes(manifest: Manifest) -> Iterator[tuple[str, Probe]]:
    yield "ready", manifest.probes.ready
    if manifest.probes.live is not None:
        yield "live", manifest.probes.live
    yield "functional", manifest.probes.functional


def _no_pattern(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        return str(error)
    return None


def _templates(manifest: Manifest) -> Iterator[tuple[Keys, str]]:
    """List every text in which references are replaced."""
    yield from _process_templates(manifest)
    if (container := manifest.container) is not None:
        texts = (container.command or (), container.health or (), container.environment.values())
        yield from _each(("container",), *texts)
    for name, probe in _probes(manifest):
        sent = [step.send for step in probe.exchange]
        yield from _each(("probes", name), probe.command or (), [probe.input or ""], probe.environment.values(), sent)
    if (backup := manifest.backup) is not None:
        for action in (backup.backup, backup.restore):
            yield from _each(("backup",), action.command, action.environment.values())
    yield from _each(("binding",), [manifest.binding.uri], manifest.binding.entries.values())
    for kind, provided in manifest.provides.items():
        yield ("provides", kind), provided.uri or ""


def _process_templates(manifest: Manifest) -> Iterator[tuple[Keys, str]]:
    if (process := manifest.process) is None:
        return
    yield from _each(("process",), process.command, process.environment.values())
    for number, setup in enumerate(process.setup):
        keys = ("process", "setup", str(number))
        yield from _each(keys, setup.command, [setup.input or ""], setup.environment.values())
    for number, software in enumerate(process.software):
        yield from _each(("process", "software", str(number)), software.environment.values())


def _each(keys: Keys, *texts: Iterable[str]) -> Iterator[tuple[Keys, str]]:
    for several in texts:
        for text in several:
            yield keys, text


def _reference_errors(manifest: Manifest, text: str, keys: Keys) -> Iterator[tuple[Keys, str]]:
    try:
        found = list(references(text))
    except ConfigError as error:
        yield keys, error.message
        return
    named: dict[str, Collection[str]] = {
        "parameter": manifest.parameters,
        "port": manifest.ports,
        "address": manifest.ports,
        "volume": manifest.volumes,
        "file": manifest.files,
        "binding": manifest.dependencies,
    }
    for scope, name in found:
        if scope in _OF_THIS_MACHINE and keys[0] != "process" and manifest.container is not None:
            yield keys, f"${{{scope}}} is a folder of this machine, which no container has"
        elif scope not in SCOPES:
            yield keys, f"${{{scope}:…}} is nothing{nearest(scope, SCOPES, write='${{{}:…}}')}"
        elif scope == "command":
            yield from _command_errors(manifest, name, keys)
        elif scope in named and (first := name.partition("/")[0]) not in named[scope]:
            yield keys, f"no {scope} {first!r}{nearest(first, named[scope])}"


def _command_errors(manifest: Manifest, name: str, keys: Keys) -> Iterator[tuple[Keys, str]]:
    software: list[Software] = manifest.process.software if manifest.process else []
    for number, one in enumerate(software):
        if name not in one.commands:
            yield keys, f"software {number} ({one.source}) gives no command {name!r}{nearest(name, one.commands)}"


def _warnings(manifest: Manifest) -> Iterator[tuple[Keys, str]]:
    for name, image in manifest.images.items():
        yield from _image_warnings(name, image)
    yield from _shown_warnings(manifest)
    for number, one in enumerate(manifest.process.software if manifest.process else ()):
        for package in one.packages:
            if one.source == "pypi" and package not in one.sha256:
                yield ("process", "software", str(number)), f"{package} has no sha256, so only the index vouches for it"
    if manifest.maintained_until is not None and manifest.maintained_until < dt.datetime.now(dt.UTC).date():
        yield ("maintained-until",), f"{manifest.version} is no longer maintained; package a newer version"


def _shown_warnings(manifest: Manifest) -> Iterator[tuple[Keys, str]]:
    container = manifest.container or Container()
    texts = (*(container.command or ()), *(container.health or ()), *container.environment.values())
    for scope, name in (found for text in texts for found in _written(text)):
        if scope == "parameter" and name in manifest.parameters and manifest.parameters[name].sensitive:
            yield (
                ("container",),
                f"the engine shows {name} to whoever may inspect the container; give it in a file, by ${{file:NAME}}",
            )


def _written(text: str) -> list[tuple[str, str]]:
    try:
        return list(references(text))
    except ConfigError:
        return []  # an error of its own


def _image_warnings(name: str, image: Image) -> Iterator[tuple[Keys, str]]:
    if image.digest is None:
        yield ("images", name), f"{image.name} has no digest, so its content can change under the same name"
