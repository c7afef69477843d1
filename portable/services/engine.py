"""The engine: services installed, started, stopped, looked at and removed, each step safe to interrupt and repeat."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec

from portable.config.source import nearest
from portable.errors import AlreadyExists, ConfigError, PreconditionFailed
from portable.services.bindings import entries, read_entries, remove_binding, shown, write_binding
from portable.services.catalogue import Catalogue, built_in
from portable.services.checking import check
from portable.services.health import answers, wait_ready
from portable.services.home import Home, make_folder
from portable.services.instances import Instance, Record, load, stored
from portable.services.parameters import Value, check_value, decided
from portable.services.ports import choose_port
from portable.services.reading import Service, read_service
from portable.services.runtimes import RUNTIMES, Report, Status, runtime
from portable.services.software import unused

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
    since: datetime.datetime | None
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
        for needed in found[:-1]:
            if stored(self.home, needed.name) is None:
                self._install(needed, needed.name, on, None, {}, {}, report)
        return self._install(found[-1], name or found[-1].name, on, plan, parameters or {}, ports or {}, report)

    def _install(
        self,
        service: Service,
        name: str,
        on: str,
        plan: str | None,
        parameters: Mapping[str, Value],
        ports: Mapping[str, int],
        report: Report,
    ) -> Instance:
        _check_wishes(service, on, plan, parameters, ports)
        self.home.instance(name)
        platform = runtime(on)
        platform.check()
        with self.home.locked(name):
            instance = stored(self.home, name)
            if instance is not None and instance.record.stage == "uninstalling":
                self._remove(instance, keep_data=False)
                instance = None
            if instance is None or instance.record.stage == "kept":
                instance = self._begin(service, name, on, plan, parameters, ports, instance)
            else:
                _check_same(instance, service, on, plan, parameters, ports)
            self._bring_up(instance, report)
        return instance

    def _begin(
        self,
        service: Service,
        name: str,
        on: str,
        plan: str | None,
        parameters: Mapping[str, Value],
        ports: Mapping[str, int],
        kept: Instance | None,
    ) -> Instance:
        """Make an instance's folder and record: what is written last makes it one."""
        manifest = service.manifest
        plan = plan or (kept.record.plan if kept else next(iter(manifest.plans)))
        if kept is not None and (kept.record.service, kept.record.version) != (service.name, manifest.version):
            raise AlreadyExists(
                f"the data that was kept of {name!r} is of {kept.record.service} {kept.record.version}; "
                f"remove it with: portable services uninstall {name}"
            )
        before = kept.values() if kept else {}
        values = decided(manifest.parameters, parameters, manifest.plans[plan].parameters, before)
        with self.home.locked("shared"):
            taken = {
                port
                for other in self.home.names()
                if other != name and (there := stored(self.home, other)) is not None
                for port in there.record.ports.values()
            }
            chosen: dict[str, int] = {}
            for port in manifest.ports:
                chosen[port] = choose_port(ports.get(port), {*taken, *chosen.values()}, name=f"{port} of {name}")
            folder = self.home.instance(name)
            if kept is None and folder.is_dir():
                shutil.rmtree(folder)
            make_folder(folder)
            copy = folder / "service"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(service.folder, copy)
            record = Record(
                name=name,
                service=service.name,
                repository=service.repository,
                revision=manifest.revision,
                version=manifest.version,
                runtime=on,
                plan=plan,
                stage="installing",
                created_at=datetime.datetime.now(datetime.UTC),
                ports=chosen,
                software=kept.record.software if kept else None,
                prepared=kept.record.prepared if kept else 0,
            )
            instance = Instance(self.home, record, read_service(copy, repository="installed"))
            instance.keep(values)
            instance.save()
        return instance

    def _bring_up(self, instance: Instance, report: Report) -> None:
        platform = runtime(instance.record.runtime)
        report(f"preparing {instance.name}")
        platform.prepare(instance, report)
        report(f"starting {instance.name}")
        platform.start(instance)
        report(f"waiting for {instance.name}")
        wait_ready(platform, instance)
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

    def render(self, name: str) -> dict[str, str]:
        """Give what was or would be applied for an instance: name of each file → its text, secrets as `***`.

        Raises:
            NotFound: there is no such instance.
        """
        instance = load(self.home, name)
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
                    if one.name != name
                    and name in {of.service for of in one.service.manifest.dependencies.values()}
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


def _check_wishes(
    service: Service,
    on: str,
    plan: str | None,
    parameters: Mapping[str, Value],
    ports: Mapping[str, int],
) -> None:
    manifest = service.manifest
    if on not in RUNTIMES:
        raise ConfigError(f"no runtime {on!r}{nearest(on, RUNTIMES)}")
    if plan is not None and plan not in manifest.plans:
        raise ConfigError(f"{service.name} has no plan {plan!r}{nearest(plan, manifest.plans)}")
    for port, number in ports.items():
        if port not in manifest.ports:
            raise ConfigError(f"{service.name} has no port {port!r}{nearest(port, manifest.ports)}")
        if not 1 <= number <= 65535:
            raise ConfigError(f"port {port}: {number} is not a number of 1 to 65535")
    for name, value in parameters.items():
        if name not in manifest.parameters:
            raise ConfigError(f"{service.name} has no parameter {name!r}{nearest(name, manifest.parameters)}")
        check_value(name, manifest.parameters[name], value)


def _check_same(
    instance: Instance,
    service: Service,
    on: str,
    plan: str | None,
    parameters: Mapping[str, Value],
    ports: Mapping[str, int],
) -> None:
    record = instance.record
    values = instance.values()
    differing = [name for name, value in parameters.items() if values.get(name) != value]
    differing += [f"port {name}" for name, number in ports.items() if record.ports.get(name) != number]
    differing += ["service"] if record.service != service.name else []
    differing += ["runtime"] if record.runtime != on else []
    differing += ["plan"] if plan not in {None, record.plan} else []
    if differing:
        raise AlreadyExists(
            f"{instance.name} is installed already, as {record.service} with another {', '.join(differing)}; it is "
            f"left as it is. Uninstall it first, or install this one beside it with --as NAME"
        )


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
