"""The engine: services installed, started, stopped, looked at and removed, each step safe to interrupt and repeat."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec

from portable.errors import AlreadyExists, PortableError, PreconditionFailed
from portable.services.bindings import entries, read_entries, remove_binding, shown, write_binding
from portable.services.catalogue import Catalogue, built_in
from portable.services.checking import check
from portable.services.health import answers, wait_ready
from portable.services.home import Home, make_folder
from portable.services.instances import Instance, Record, load, stored
from portable.services.manifest import NAME
from portable.services.parameters import Value, decided
from portable.services.ports import choose_port
from portable.services.reading import read_service
from portable.services.runtimes import Report, Status, runtime
from portable.services.software import unused
from portable.services.wishes import Wish

__all__ = ["Health", "Services"]

_LIVE_TIMEOUT = 0.2
"""Seconds that `status` gives a server to answer: it has to be quick, and a server that is well answers in one."""


class Health(msgspec.Struct, frozen=True):
    """How an instance is.

    Attributes:
        name: the instance's name.
        service: the service's name.
        version: the software's version.
        plan: the plan's name.
        runtime: what it runs on.
        status: as its platform sees it; `incomplete` where a change was interrupted, `kept` where only data is left.
        healthy: whether it answers; None where it does not run.
        since: when it came to its status, where that is known.
        endpoints: each port: `host:port`.
        detail: what to know or do about it.
    """

    name: str
    service: str
    version: str
    plan: str
    runtime: str
    status: Status | Literal["incomplete", "kept"]
    healthy: bool | None
    since: dt.datetime | None
    endpoints: dict[str, str]
    detail: str = ""


def _silent(_: str) -> None:
    """Report to nobody."""


class Services:
    """The services of one project.

    Attributes:
        home: where they are kept.
        catalogue: what can be installed.
    """

    def __init__(self, project: Path | str = ".", *, catalogue: Catalogue | None = None) -> None:
        """Take a project's folder; nothing is made before something is installed.

        Args:
            project: the folder of its `portable.toml`.
            catalogue: what can be installed; left out, the built-in repository.
        """
        self.home = Home(Path(project))
        self.catalogue = catalogue if catalogue is not None else Catalogue([built_in()])

    def install(
        self,
        service: str,
        *,
        name: str | None = None,
        on: str = "process",
        plan: str | None = None,
        parameters: Mapping[str, Value] | None = None,
        ports: Mapping[str, int] | None = None,
        report: Report = _silent,
    ) -> Instance:
        """Install a service and what it needs, start it, and wait until it does its work.

        Installing again with the same values does nothing but start what is down; an interrupted installation is
        taken up where it was.

        Args:
            service: its name in the repositories.
            name: the instance's name; the service's own when left out.
            on: the runtime.
            plan: the plan; the manifest's first when left out.
            parameters: values of the manifest's parameters.
            ports: numbers for the manifest's ports; free ones when left out.
            report: takes what goes on, in words.

        Raises:
            NotFound: there is no such service.
            ConfigError: a parameter, plan, port or the manifest itself is wrong.
            AlreadyExists: an instance of that name is of another service or has other values, or a port is taken.
            Unavailable: the software cannot be had, or the server does not come up.
        """
        found = self.catalogue.with_dependencies(service)
        for one in found:
            check(one)
        *needed, last = found
        for one in needed:
            if stored(self.home, one.name) is None:
                self._install(Wish(service=one, name=one.name, on=on), report)
        wish = Wish(
            service=last, name=name or last.name, on=on, plan=plan, parameters=parameters or {}, ports=ports or {}
        )
        return self._install(wish, report)

    def _install(self, wish: Wish, report: Report) -> Instance:
        wish.check()
        self.home.instance(wish.name)
        runtime(wish.on).check()
        with self.home.locked(wish.name):
            instance = stored(self.home, wish.name)
            if instance is not None and instance.record.stage == "uninstalling":
                self._remove(instance, keep_data=False)
                instance = None
            if instance is None or instance.record.stage == "kept":
                instance = self._begin(wish, instance)
            else:
                wish.check_same(instance)
            self._bring_up(instance, report)
        return instance

    def _begin(self, wish: Wish, kept: Instance | None) -> Instance:
        """Make an instance's folder and record: what is written last makes it one."""
        manifest = wish.service.manifest
        if kept is not None and (kept.record.service, kept.record.version) != (manifest.name, manifest.version):
            raise AlreadyExists(
                f"the data that was kept of {wish.name!r} is of {kept.record.service} {kept.record.version}; "
                f"remove it with: portable services uninstall {wish.name}"
            )
        with self.home.locked("shared"):
            instance = self._planned(wish, kept)
            values = instance.values()
            if kept is None and instance.folder.is_dir():
                shutil.rmtree(instance.folder)
            make_folder(instance.folder)
            copy = instance.folder / "service"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(wish.service.folder, copy)
            instance = Instance(self.home, instance.record, read_service(copy, repository="installed"))
            instance.keep(values)
            instance.save()
        return instance

    def _planned(self, wish: Wish, kept: Instance | None = None) -> Instance:
        """Decide everything of an instance, and make nothing."""
        manifest = wish.service.manifest
        plan = wish.plan or (kept.record.plan if kept else next(iter(manifest.plans)))
        before = kept.values() if kept else {}
        values = decided(manifest.parameters, wish.parameters, manifest.plans[plan].parameters, before)
        taken = {port for one in self.instances() if one.name != wish.name for port in one.record.ports.values()}
        ports: dict[str, int] = {}
        for port in manifest.ports:
            name = f"{port} of {wish.name}"
            ports[port] = choose_port(wish.ports.get(port), {*taken, *ports.values()}, name=name)
        record = Record(
            name=wish.name,
            service=manifest.name,
            repository=wish.service.repository,
            revision=manifest.revision,
            version=manifest.version,
            runtime=wish.on,
            plan=plan,
            stage="installing",
            created_at=dt.datetime.now(dt.UTC),
            ports=ports,
            software=kept.record.software if kept else None,
            prepared=kept.record.prepared if kept else 0,
        )
        return Instance(self.home, record, wish.service, values)

    def _bring_up(self, instance: Instance, report: Report) -> None:
        platform = runtime(instance.record.runtime)
        report(f"preparing {instance.name}")
        platform.prepare(instance, report)
        report(f"starting {instance.name}")
        platform.start(instance)
        report(f"waiting for {instance.name}")
        try:
            wait_ready(platform, instance)
        except PortableError:
            # What does not come up is not left to be started over and over.
            platform.stop(instance)
            raise
        host, _ = platform.address(instance, next(iter(instance.service.manifest.ports)))
        lookup = platform.lookup(instance)

        def outside(scope: str, name: str) -> str:
            if scope == "host":
                return host
            return str(platform.address(instance, name)[1]) if scope == "port" else lookup(scope, name)

        write_binding(self.home.bindings / instance.name, entries(instance.service.manifest, outside))
        instance.record.stage = "installed"
        instance.record.wanted = True
        instance.save()

    def up(self, names: Sequence[str] = (), *, report: Report = _silent) -> list[Instance]:
        """Start instances and wait until they do their work.

        Args:
            names: which; without any, all that are installed.
            report: takes what goes on, in words.

        Raises:
            NotFound: there is none of a name.
            Unavailable: one does not come up.
        """
        started = []
        for name in self._ordered(names):
            load(self.home, name)
            with self.home.locked(name):
                instance = load(self.home, name)
                _check_whole(instance)
                self._bring_up(instance, report)
                started.append(instance)
        return started

    def down(self, names: Sequence[str] = (), *, report: Report = _silent) -> list[Instance]:
        """Stop instances; their data stays.

        Args:
            names: which; without any, all that are installed.
            report: takes what goes on, in words.

        Raises:
            NotFound: there is none of a name.
        """
        stopped = []
        for name in reversed(self._ordered(names)):
            load(self.home, name)
            with self.home.locked(name):
                instance = load(self.home, name)
                report(f"stopping {name}")
                runtime(instance.record.runtime).stop(instance)
                instance.record.wanted = False
                instance.save()
                stopped.append(instance)
        return stopped

    def status(self, names: Sequence[str] = ()) -> list[Health]:
        """Tell how instances are; quick, and changes nothing.

        Args:
            names: which; without any, all.

        Raises:
            NotFound: there is none of a name.
        """
        chosen = [load(self.home, name) for name in names] if names else self.instances()
        if not chosen:
            return []
        states = [runtime(one.record.runtime).states([one])[0] for one in chosen]
        with ThreadPoolExecutor(max_workers=min(16, len(chosen))) as pool:
            healthy = list(pool.map(_answering, chosen, [state.status for state in states]))
        found = []
        for one, state, well in zip(chosen, states, healthy, strict=True):
            # A server that answers has started, whatever the platform still waits for.
            seen: Status = "running" if well and state.status == "starting" else state.status
            status, detail = _status(one, seen)
            manifest = one.service.manifest
            addresses = {port: runtime(one.record.runtime).address(one, port) for port in manifest.ports}
            found.append(
                Health(
                    name=one.name,
                    service=one.record.service,
                    version=one.record.version,
                    plan=one.record.plan,
                    runtime=one.record.runtime,
                    status=status,
                    healthy=well,
                    since=state.since,
                    endpoints={port: f"{host}:{number}" for port, (host, number) in addresses.items()},
                    detail=detail or state.detail,
                )
            )
        return found

    def instances(self) -> list[Instance]:
        """List everything that is installed, in part or whole."""
        return [found for name in self.home.names() if (found := stored(self.home, name)) is not None]

    def logs(self, name: str, *, lines: int = 100, follow: bool = False) -> Iterator[str]:
        """Give the last lines that a server wrote, and, to follow, the coming ones.

        Raises:
            NotFound: there is no such instance.
        """
        instance = load(self.home, name)
        return runtime(instance.record.runtime).logs(instance, lines=lines, follow=follow)

    def binding(self, name: str, *, secrets: bool = False) -> dict[str, str]:
        """Give the entries of an instance's binding.

        Args:
            name: the instance's name.
            secrets: whether to show what else is `***`.

        Raises:
            NotFound: there is no such instance.
        """
        instance = load(self.home, name)
        found = read_entries(self.home.bindings / name)
        if secrets:
            return found
        parameters = instance.service.manifest.parameters
        hidden = {key: value for key, value in instance.values().items() if parameters[key].sensitive}
        return shown(found, hidden)

    def render(
        self,
        name: str,
        *,
        on: str = "process",
        plan: str | None = None,
        parameters: Mapping[str, Value] | None = None,
    ) -> dict[str, str]:
        """Give what is applied for an instance, or what would be for a service that is not installed.

        Args:
            name: the instance's name, or that of a service in the repositories.
            on: the runtime, for a service.
            plan: the plan, for a service.
            parameters: values of the manifest's parameters, for a service.

        Returns:
            Name of each file → its text; secrets are `***`.

        Raises:
            NotFound: there is neither.
        """
        instance = stored(self.home, name) if re.fullmatch(NAME, name) else None
        if instance is None:
            service = self.catalogue.service(name)
            check(service)
            wish = Wish(service=service, name=service.name, on=on, plan=plan, parameters=parameters or {})
            wish.check()
            instance = self._planned(wish)
        return runtime(instance.record.runtime).render(instance)

    def uninstall(self, name: str, *, keep_data: bool = False, report: Report = _silent) -> None:
        """Remove an instance, and with the last one everything that instances shared.

        Args:
            name: the instance's name.
            keep_data: whether its volumes and secrets stay, for an installation of the same name later.
            report: takes what goes on, in words.

        Raises:
            NotFound: there is no such instance.
            PreconditionFailed: another one needs it.
        """
        folder = self.home.instance(name)
        if not folder.is_dir():
            load(self.home, name)
        with self.home.locked(name):
            instance = stored(self.home, name)
            if instance is None:
                # What a first installation left that was interrupted before it had a record.
                shutil.rmtree(folder, ignore_errors=True)
            else:
                needing = [
                    one.name
                    for one in self.instances()
                    if one.name != name and name in {of.service for of in one.service.manifest.dependencies.values()}
                ]
                if needing:
                    raise PreconditionFailed(f"{name} is needed by {', '.join(needing)}; uninstall that first")
                report(f"removing {name}")
                self._remove(instance, keep_data=keep_data)
            with self.home.locked("shared"):
                unused(self.home, self._used)
                self.home.remove_if_unused(name, "shared")

    def _remove(self, instance: Instance, *, keep_data: bool) -> None:
        record = instance.record
        if record.stage == "kept" and keep_data:
            return
        # What comes after an interruption is removing too, but never of data that was to be kept.
        record.stage = "kept" if keep_data else "uninstalling"
        record.wanted = False
        instance.save()
        remove_binding(self.home.bindings / instance.name)
        runtime(record.runtime).remove(instance, keep_data=keep_data)
        if not keep_data:
            shutil.rmtree(instance.folder)

    def _used(self) -> set[str]:
        return {one.record.software.folder for one in self.instances() if one.record.software is not None}

    def _ordered(self, names: Sequence[str]) -> list[str]:
        """Give names, or those of everything that is whole, with what is needed before what needs it."""
        for name in names:
            load(self.home, name)
        known = {one.name: one for one in self.instances() if one.record.stage in {"installed", "installing"}}
        ordered: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in ordered or name not in known:
                return
            for dependency in known[name].service.manifest.dependencies.values():
                visit(dependency.service)
            ordered[name] = None

        for name in names or known:
            visit(name)
        return [name for name in ordered if not names or name in names] or list(names)


def _check_whole(instance: Instance) -> None:
    if instance.record.stage != "installed":
        again = "uninstall" if instance.record.stage == "uninstalling" else "install"
        raise PreconditionFailed(
            f"{instance.name} is not whole ({instance.record.stage}); run `portable services {again}` for it again"
        )


def _answering(instance: Instance, status: Status) -> bool | None:
    if status not in {"running", "starting"}:
        return None
    return answers(runtime(instance.record.runtime), instance, timeout=_LIVE_TIMEOUT)


def _status(instance: Instance, seen: Status) -> tuple[Status | Literal["incomplete", "kept"], str]:
    match instance.record.stage:
        case "kept":
            return "kept", f"only data is left: install {instance.name} again, or uninstall it"
        case "installing":
            return "incomplete", "the installation was interrupted: run it again, or uninstall"
        case "uninstalling":
            return "incomplete", "the removal was interrupted: run uninstall again"
        case _:
            return seen, ""
