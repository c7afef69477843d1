"""What a user asks of an installation, checked before anything is made."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec

from portable.config.source import nearest
from portable.errors import AlreadyExists, ConfigError
from portable.services.instances import Instance
from portable.services.parameters import Value, check_value
from portable.services.ports import LOOPBACK
from portable.services.reading import Service
from portable.services.runtimes import RUNTIMES

__all__ = ["Wish"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """An installation as it is asked for.

    Attributes:
        service: what is installed.
        name: the instance's name.
        on: the runtime's name.
        plan: the plan's name, or None for the manifest's first.
        parameters: values that the user gave.
        ports: numbers that the user gave.
        listen: the address of this machine that the ports are on, or None for the loopback address.
    """

    service: Service
    name: str
    on: str
    plan: str | None = None
    parameters: Mapping[str, Value] = {}
    ports: Mapping[str, int] = {}
    listen: str | None = None

    def check(self) -> None:
        """Refuse what no installation of the service can have.

        Raises:
            ConfigError: a runtime, plan, port or parameter is not known, or a value is wrong.
        """
        manifest = self.service.manifest
        if self.on not in RUNTIMES:
            raise ConfigError(f"no runtime {self.on!r}{nearest(self.on, RUNTIMES)}")
        if self.listen is not None:
            self._check_listen(self.listen)
        if self.plan is not None and self.plan not in manifest.plans:
            raise ConfigError(f"{manifest.name} has no plan {self.plan!r}{nearest(self.plan, manifest.plans)}")
        for port, number in self.ports.items():
            if port not in manifest.ports:
                raise ConfigError(f"{manifest.name} has no port {port!r}{nearest(port, manifest.ports)}")
            if not 1 <= number <= 65535:
                raise ConfigError(f"port {port}: {number} is not a number of 1 to 65535")
        for name, value in self.parameters.items():
            if name not in manifest.parameters:
                raise ConfigError(f"{manifest.name} has no parameter {name!r}{nearest(name, manifest.parameters)}")
            check_value(name, manifest.parameters[name], value)

    def _check_listen(self, address: str) -> None:
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            raise ConfigError(f"{address!r} is no IPv4 address to listen on; give one such as 0.0.0.0") from None
        if self.on == "process" and address != LOOPBACK:
            raise ConfigError(f"the process runtime listens on {LOOPBACK} alone, not on {address}")

    def check_same(self, instance: Instance) -> None:
        """Refuse where the instance that is there is another than the one asked for.

        Raises:
            AlreadyExists: it is; the message says in what, and shows no secret.
        """
        record = instance.record
        values = instance.values()
        differing = [name for name, value in self.parameters.items() if values.get(name) != value]
        differing += [f"port {name}" for name, number in self.ports.items() if record.ports.get(name) != number]
        differing += ["service"] if record.service != self.service.name else []
        differing += ["runtime"] if record.runtime != self.on else []
        differing += ["address to listen on"] if self.listen not in {None, record.listen} else []
        differing += ["plan"] if self.plan not in {None, record.plan} else []
        if differing:
            raise AlreadyExists(
                f"{instance.name} is installed already, as {record.service} with another {', '.join(differing)}; it is "
                f"left as it is. Uninstall it first, or install this one beside it with --as NAME"
            )
