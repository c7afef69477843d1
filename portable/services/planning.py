"""What an installation or an upgrade comes to: everything decided and refused before a server is touched."""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Collection, Mapping

import msgspec

from portable.errors import PreconditionFailed
from portable.services.home import Home
from portable.services.instances import Contained, Instance, Record, stored
from portable.services.manifest import Manifest
from portable.services.parameters import Value, decided
from portable.services.ports import LOOPBACK, choose_port, is_free
from portable.services.wishes import Wish

__all__ = ["check_upgrade", "moved", "planned", "put_back", "replaced"]


def planned(home: Home, wish: Wish, kept: Instance | None = None) -> Instance:
    """Decide everything of an instance, and make nothing.

    Args:
        home: the project's services.
        wish: what is asked for, checked.
        kept: what `--keep-data` left of an earlier installation.

    Raises:
        ConfigError: a parameter has no value.
        AlreadyExists: a port is taken.
    """
    manifest = wish.service.manifest
    plan = wish.plan or (kept.record.plan if kept else next(iter(manifest.plans)))
    values = decided(
        manifest.parameters, wish.parameters, manifest.plans[plan].parameters, kept.values() if kept else {}
    )
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
        ports=_ports(home, wish, {}),
        software=kept.record.software if kept else None,
        prepared=kept.record.prepared if kept else 0,
        listen=wish.listen or (kept.record.listen if kept else LOOPBACK),
        container=kept.record.container if kept else None,
        copy=kept.record.copy + 1 if kept else 1,
    )
    return Instance(home, record, wish.service, values)


def _ports(home: Home, wish: Wish, held: Mapping[str, int]) -> dict[str, int]:
    taken = _taken(home, wish.name)
    ports: dict[str, int] = {}
    for port in wish.service.manifest.ports:
        wanted = wish.ports.get(port)
        if port in held and wanted in {None, held[port]}:
            ports[port] = held[port]
        else:
            ports[port] = choose_port(wanted, {*taken, *held.values(), *ports.values()}, name=f"{port} of {wish.name}")
    return ports


def moved(instance: Instance, wish: Wish) -> bool:
    """Choose other ports where, since they were chosen, other programs have taken some; say whether any is another.

    Args:
        instance: one that never ran.
        wish: what was asked for, and so which ports are not ours to choose.

    Raises:
        AlreadyExists: a port that was asked for is taken.
    """
    with instance.home.locked("shared"):
        held = {name: number for name, number in instance.record.ports.items() if is_free(number)}
        if held == instance.record.ports:
            return False
        instance.record.ports = _ports(instance.home, wish, held)
        instance.save()
    return True


def _taken(home: Home, name: str) -> Collection[int]:
    others = [stored(home, other) for other in home.names() if other != name]
    return {port for one in others if one is not None for port in one.record.ports.values()}


def check_upgrade(old: Instance, manifest: Manifest) -> None:
    """Refuse where the data of the old version would not be read.

    Raises:
        PreconditionFailed: the repository has an older revision, or a version that does not take over this one's data.
    """
    record = old.record
    if manifest.revision < record.revision:
        raise PreconditionFailed(
            f"{old.name} is of revision {record.revision}, and the repository has the older {manifest.revision}"
        )
    if manifest.version == record.version or not manifest.persistent:
        return
    if not any(fnmatch.fnmatchcase(record.version, pattern) for pattern in manifest.upgrades_from):
        taken = ", ".join(manifest.upgrades_from) or "none"
        raise PreconditionFailed(
            f"{manifest.name} {manifest.version} does not take over the data of {record.version} (it takes {taken}); "
            f"back up, uninstall, install and restore"
        )


def replaced(old: Instance, wish: Wish) -> Instance:
    """Put a manifest in place of an instance's own, keeping its values, ports and data; the old copy stays beside it.

    Raises:
        ConfigError: a new parameter has no value.
        AlreadyExists: a port is taken.
    """
    manifest, home = wish.service.manifest, old.home
    plan = wish.plan or (old.record.plan if old.record.plan in manifest.plans else next(iter(manifest.plans)))
    kept = {name: value for name, value in old.values().items() if name in manifest.parameters}
    if plan != old.record.plan:
        for name in manifest.plans[plan].parameters:
            kept.pop(name, None)
    values = decided(manifest.parameters, wish.parameters, manifest.plans[plan].parameters, kept)
    with home.locked("shared"):
        same = (old.record.version, old.record.revision) == (manifest.version, manifest.revision)
        record = msgspec.structs.replace(
            old.record,
            repository=wish.service.repository,
            revision=manifest.revision,
            version=manifest.version,
            plan=plan,
            parameters={},
            ports=_ports(home, wish, old.record.ports),
            software=old.record.software if same else None,
            prepared=len(manifest.process.setup) if manifest.process else 0,
            container=old.record.container if same else _without_image(old.record.container),
            copy=old.record.copy + 1,
        )
        instance = Instance(home, record, wish.service)
        instance.service = instance.copied(wish.service.folder)
        instance.keep(values)
        instance.save()
    return instance


def _without_image(contained: Contained | None) -> Contained | None:
    return msgspec.structs.replace(contained, image="", built=False) if contained is not None else None


def put_back(old: Instance, values: dict[str, Value]) -> None:
    """Undo `replaced`: the manifest, the record and the values are what they were."""
    old.keep(values)
    old.save()
    old.forget_other_copies()
