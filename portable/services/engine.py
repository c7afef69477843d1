"""The engine: services installed, started, stopped, looked at and removed, each step safe to interrupt and repeat."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from portable.errors import AlreadyExists, PortableError, PreconditionFailed
from portable.services import backups
from portable.services.backups import Backup
from portable.services.bindings import outside, read_entries, remove_binding, shown, write_binding
from portable.services.catalogue import Catalogue
from portable.services.checking import check
from portable.services.health import LIVE_TIMEOUT, Health, healths, wait_ready
from portable.services.home import Home, make_folder
from portable.services.instances import Instance, load, stored
from portable.services.manifest import NAME
from portable.services.parameters import Value
from portable.services.planning import check_upgrade, moved, planned, put_back, replaced
from portable.services.repositories import repositories
from portable.services.runtimes import Report, Runtime, runtime
from portable.services.software import unused
from portable.services.wishes import Wish

__all__ = ["Health", "Services"]


def _silent(_: str) -> None:
    """Report to nobody."""


class Services:
    """The services of one project.

    Attributes:
        home: where they are kept.
    """

    def __init__(self, project: Path | str = ".", *, catalogue: Catalogue | None = None) -> None:
        """Take a project's folder; nothing is made before something is installed.

        Args:
            project: the folder of its `portable.toml`.
            catalogue: what can be installed; left out, the built-in repository and those that were added.
        """
        self.home = Home(Path(project))
        self._catalogue = catalogue

    @property
    def catalogue(self) -> Catalogue:
        """What can be installed; read when it is asked for, since much is done without it.

        Raises:
            IntegrityError: what is written down of an added repository is damaged.
        """
        if self._catalogue is None:
            self._catalogue = Catalogue(list(repositories(self.home)))
        return self._catalogue

    def install(
        self,
        service: str,
        *,
        name: str | None = None,
        on: str = "process",
        plan: str | None = None,
        parameters: Mapping[str, Value] | None = None,
        ports: Mapping[str, int] | None = None,
        listen: str | None = None,
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
            listen: the address of this machine that the ports are on, such as `"0.0.0.0"`; loopback when left out.
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
            service=last,
            name=name or last.name,
            on=on,
            plan=plan,
            parameters=parameters or {},
            ports=ports or {},
            listen=listen,
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
            begun = instance is None or instance.record.stage == "kept"
            if instance is None or begun:
                instance = self._begin(wish, instance)
            else:
                wish.check_same(instance)
            self._bring_up(instance, report, wish if begun else None)
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
            instance = planned(self.home, wish, kept)
            values = instance.values()
            if kept is None and instance.folder.is_dir():
                shutil.rmtree(instance.folder)
            make_folder(instance.folder)
            instance = Instance(self.home, instance.record, instance.copied(wish.service.folder))
            instance.keep(values)
            instance.save()
        return instance

    def _bring_up(self, instance: Instance, report: Report, begun: Wish | None = None) -> None:
        platform = runtime(instance.record.runtime)
        report(f"preparing {instance.name}")
        platform.prepare(instance, report)
        # Fetching can take minutes, and who chose a free port then may have lost it.
        if begun is not None and moved(instance, begun):
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
        write_binding(self.home.bindings / instance.name, outside(platform, instance))
        instance.record.stage = "installed"
        instance.record.wanted = True
        instance.save()
        instance.forget_other_copies()

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

    def status(self, names: Sequence[str] = (), *, timeout: float = LIVE_TIMEOUT) -> list[Health]:
        """Tell how instances are; quick, and changes nothing.

        Args:
            names: which; without any, all.
            timeout: how long each may take to answer, in seconds.

        Raises:
            NotFound: there is none of a name.
        """
        chosen = [load(self.home, name) for name in names] if names else self.instances()
        return healths(chosen, timeout=timeout)

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
        on: str | None = None,
        plan: str | None = None,
        parameters: Mapping[str, Value] | None = None,
    ) -> dict[str, str]:
        """Give what is applied for an instance, or what would be for a service that is not installed.

        Args:
            name: the instance's name, or that of a service in the repositories.
            on: the runtime, for a service; `process` where it is not said.
            plan: the plan, for a service.
            parameters: values of the manifest's parameters, for a service.

        Returns:
            Name of each file → its text; secrets are `***`.

        Raises:
            NotFound: there is neither.
            PreconditionFailed: the instance is on another runtime.
        """
        instance = stored(self.home, name) if re.fullmatch(NAME, name) else None
        if instance is None:
            service = self.catalogue.service(name)
            check(service)
            wish = Wish(service=service, name=service.name, on=on or "process", plan=plan, parameters=parameters or {})
            wish.check()
            instance = planned(self.home, wish)
        elif on not in {None, instance.record.runtime}:
            raise PreconditionFailed(
                f"{name} is installed on {instance.record.runtime}; leave the runtime out to see what is applied, or "
                f"name another service to see what would be"
            )
        return runtime(instance.record.runtime).render(instance)

    def backup(self, name: str, target: Path, *, report: Report = _silent) -> Backup:
        """Write a backup of an instance's data: by its manifest's command while it runs, else with it down meanwhile.

        Args:
            name: the instance's name.
            target: the file to make, readable by its owner alone.
            report: takes what goes on, in words.

        Raises:
            NotFound: there is no such instance.
            AlreadyExists: the file is there already.
            PreconditionFailed: the instance is not whole, keeps no data, or does not run.
        """
        load(self.home, name)
        with self.home.locked(name):
            instance = load(self.home, name)
            self._check_data(instance)
            with self._quiet(instance, report) as platform:
                report(f"backing up {name}")
                return backups.write(platform, instance, target)

    def restore(self, name: str, source: Path, *, report: Report = _silent) -> Backup:
        """Put a backup's data into an instance that is new: what that holds is replaced, or, by a dump, added to.

        Args:
            name: the instance's name.
            source: the backup's file.
            report: takes what goes on, in words.

        Raises:
            NotFound: there is no such instance.
            IntegrityError: the backup is damaged; nothing was restored.
            PreconditionFailed: the backup does not fit, or the instance is not whole or does not run.
        """
        load(self.home, name)
        with self.home.locked(name):
            instance = load(self.home, name)
            self._check_data(instance)
            report("checking the backup")
            head = backups.read_head(source)
            backups.check_matches(instance, head)
            with self._quiet(instance, report) as platform:
                report(f"restoring {name}")
                backups.restore(platform, instance, source)
            return head

    def _check_data(self, instance: Instance) -> None:
        _check_whole(instance)
        if not instance.service.manifest.persistent:
            raise PreconditionFailed(f"{instance.record.service} keeps no data, so there is nothing to back up")

    @contextlib.contextmanager
    def _quiet(self, instance: Instance, report: Report) -> Iterator[Runtime]:
        """Have a server as its backup needs it: running for a command, else down, and as it was afterwards."""
        platform = runtime(instance.record.runtime)
        (state,) = platform.states([instance])
        running = state.status in {"running", "starting"}
        if instance.service.manifest.backup is not None:
            if not running:
                raise PreconditionFailed(
                    f"{instance.name} is down; start it with: portable services up {instance.name}"
                )
            yield platform
            return
        if running:
            report(f"stopping {instance.name}")
            platform.stop(instance)
        try:
            yield platform
        finally:
            if running:
                self._bring_up(instance, report)

    def upgrade(
        self,
        name: str,
        *,
        parameters: Mapping[str, Value] | None = None,
        plan: str | None = None,
        ports: Mapping[str, int] | None = None,
        report: Report = _silent,
    ) -> Instance:
        """Have an instance run what the repository has now, or with other parameters; its data and secrets stay.

        Args:
            name: the instance's name.
            parameters: values to change.
            plan: another plan.
            ports: other numbers for its ports.
            report: takes what goes on, in words.

        Raises:
            NotFound: there is no such instance, or its service is in no repository any more.
            PreconditionFailed: the new version cannot take over the data of the old one; nothing was changed.
            AlreadyExists: a port is taken.
            Unavailable: the new version does not come up; the old one runs again.
        """
        load(self.home, name)
        with self.home.locked(name):
            old = load(self.home, name)
            _check_whole(old)
            service = self.catalogue.service(old.record.service)
            check(service)
            on = old.record.runtime
            wish = Wish(service=service, name=name, on=on, plan=plan, parameters=parameters or {}, ports=ports or {})
            wish.check()
            check_upgrade(old, service.manifest)
            platform = runtime(old.record.runtime)
            values = old.values()
            report(f"stopping {name}")
            platform.stop(old)
            upgraded = replaced(old, wish)
            try:
                self._bring_up(upgraded, report)
            except PortableError:
                report(f"going back to {old.record.version}")
                put_back(old, values)
                self._bring_up(old, report)
                raise
            with self.home.locked("shared"):
                unused(self.home, self._used)
        return upgraded

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
            instance.forget()

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
