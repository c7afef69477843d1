"""An instance: what is known of one installation, and the folder that holds it."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from portable.config.source import nearest
from portable.errors import ConfigError, IntegrityError, NotFound
from portable.services.home import Home, write_private
from portable.services.manifest import Plan
from portable.services.parameters import Value
from portable.services.ports import LOOPBACK
from portable.services.reading import Service, read_service
from portable.services.software import Fetched

__all__ = ["Contained", "Instance", "Record", "Stage", "load", "stored"]

Stage = Literal["installing", "installed", "uninstalling", "kept"]
_RECORD = "instance.json"


class Contained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a container runtime made of an instance.

    Attributes:
        engine: the program that drives the engine.
        project: what its containers, networks and volumes are named by.
        image: what it runs: with a digest where it was fetched, a tag where it was built here.
        built: whether it was built here.
        networks: those of the services that it needs.
        owned: whether its volumes are the server's own, as they are not when the engine makes them.
    """

    engine: str
    project: str
    image: str = ""
    built: bool = False
    networks: list[str] = []
    owned: bool = False


class Record(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is written down of an installation; secrets are in files of their own.

    Attributes:
        format: the version of this record.
        name: the instance's name.
        service: the service's name.
        repository: where the manifest is from.
        revision: the manifest's revision.
        version: the software's version.
        runtime: what it runs on.
        plan: the plan's name.
        stage: how far it is: interrupted changes are taken up from here. `kept` is what `--keep-data` left.
        created_at: when it was installed.
        parameters: those that are no secrets.
        ports: each port's number on this machine.
        software: what was fetched of the manifest's softwares; None until then.
        prepared: how many of the manifest's setup steps are done.
        wanted: whether it should run: `up` without names starts these.
        listen: the address of this machine that its ports are on.
        container: what a container runtime made of it.
        copy: which of the copies of its service's folder is its own: each change that replaces it counts on.
    """

    format: Literal[1] = 1
    name: str
    service: str
    repository: str
    revision: int
    version: str
    runtime: str
    plan: str
    stage: Stage
    created_at: dt.datetime
    parameters: dict[str, Any] = {}
    ports: dict[str, int] = {}
    software: Fetched | None = None
    prepared: int = 0
    wanted: bool = True
    listen: str = LOOPBACK
    container: Contained | None = None
    copy: int = 1


class Instance:
    """An installed service, or one that is being installed.

    Attributes:
        home: the project's services.
        record: what is written down of it.
        service: the manifest, of which the instance keeps a copy.
        folder: the instance's folder.
    """

    def __init__(self, home: Home, record: Record, service: Service, values: Mapping[str, Value] | None = None) -> None:
        """Take what is known; `load` reads it.

        Args:
            home: the project's services.
            record: what is written down of it.
            service: the manifest.
            values: every parameter's value, where nothing is written down yet.
        """
        self._values = values
        self.home = home
        self.record = record
        self.service = service
        self.folder = home.instance(record.name)

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.record.name

    @property
    def plan(self) -> Plan:
        """The plan that it was installed with."""
        return self.service.manifest.plans[self.record.plan]

    @property
    def copy(self) -> Path:
        """Where the instance's own copy of its service's folder is."""
        return _copy(self.folder, self.record)

    def save(self) -> None:
        """Write the record down, whole: from here on it is what readers see, its copy of the service included."""
        data = msgspec.json.format(msgspec.json.encode(self.record), indent=2)
        write_private(self.folder / _RECORD, data)

    def forget(self) -> None:
        """Remove the instance: first the record, so that nobody reads one of which half is gone."""
        (self.folder / _RECORD).unlink()
        shutil.rmtree(self.folder)

    def copied(self, source: Path) -> Service:
        """Copy a service's folder to where the record says that the instance's own is.

        Args:
            source: the service's folder in its repository.
        """
        shutil.rmtree(self.copy, ignore_errors=True)  # what an interrupted change left
        shutil.copytree(source, self.copy)
        return read_service(self.copy, repository="installed")

    def forget_other_copies(self) -> None:
        """Remove the copies of services that this instance's record does not name."""
        for path in self.folder.glob("service-*"):
            if path != self.copy:
                shutil.rmtree(path, ignore_errors=True)

    def values(self) -> dict[str, Value]:
        """Give every parameter's value, secrets included."""
        if self._values is not None:
            return dict(self._values)
        values = dict(self.record.parameters)
        for name, parameter in self.service.manifest.parameters.items():
            if parameter.sensitive and (path := self.folder / "secrets" / name).is_file():
                text = path.read_text(encoding="utf-8")
                values[name] = text if parameter.type == "string" else msgspec.json.decode(text)
        return values

    def keep(self, values: dict[str, Value]) -> None:
        """Write the parameters' values down: secrets each in a file of mode 0600, the others in the record."""
        folder = self.folder / "secrets"
        folder.mkdir(0o700, exist_ok=True)
        for name, value in values.items():
            if self.service.manifest.parameters[name].sensitive:
                text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
                write_private(folder / name, text)
                self.record.parameters.pop(name, None)
            else:
                self.record.parameters[name] = value


def load(home: Home, name: str) -> Instance:
    """Read an instance.

    Raises:
        NotFound: there is none of that name; the message names the nearest.
        IntegrityError: its record is damaged.
    """
    found = stored(home, name)
    if found is None:
        raise NotFound(f"no service {name!r} is installed{nearest(name, home.names())}")
    return found


def stored(home: Home, name: str) -> Instance | None:
    """Read an instance; None where there is none, or nothing but a folder that an interrupted change left."""
    folder = home.instance(name)
    data = _recorded(folder)
    while data is not None:
        try:
            record = msgspec.json.decode(data, type=Record)
        except msgspec.DecodeError as error:
            raise IntegrityError(
                f"{folder / _RECORD} is damaged ({error}); the data is untouched under {folder / 'volumes'}"
            ) from None
        try:
            return Instance(home, record, read_service(_copy(folder, record), repository="installed"))
        except ConfigError:
            # Another process may have replaced or removed the instance since its record was read.
            before, data = data, _recorded(folder)
            if data == before:
                raise
    return None


def _recorded(folder: Path) -> bytes | None:
    try:
        return (folder / _RECORD).read_bytes()
    except FileNotFoundError:
        return None


def _copy(folder: Path, record: Record) -> Path:
    return folder / f"service-{record.copy}"
