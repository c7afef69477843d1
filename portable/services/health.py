"""Whether a server is well: its probes, asked through its runtime."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec

from portable.errors import PortableError, Unavailable
from portable.quantities import Duration
from portable.services.bindings import outside
from portable.services.instances import Instance
from portable.services.manifest import Probe
from portable.services.probing import Answer, ask, wait_until
from portable.services.runtimes import Runtime, State, Status, runtime
from portable.services.templates import expanded

__all__ = ["LIVE_TIMEOUT", "Health", "healths", "probe", "wait_ready"]

LIVE_TIMEOUT = 0.2
"""Seconds that a server gets to answer, if nothing else is said: a look at many has to be quick."""

_LAST_LINES = 5


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
        endpoints: each port that applications use: `host:port`.
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


def wait_ready(platform: Runtime, instance: Instance) -> None:
    """Wait until a server is ready, and does the work that it is for.

    Raises:
        Unavailable: it ended, or was not ready in time; the message has its last words.
    """
    probes = instance.service.manifest.probes
    timeout = Duration.parse(probes.start_timeout)

    def alive() -> None:
        (state,) = platform.states([instance])
        if state.status in {"failed", "stopped"}:
            raise Unavailable(f"{instance.name} ended at its start{_last_words(platform, instance)}")

    try:
        wait_until(lambda: probe(platform, instance, probes.ready), timeout=timeout, alive=alive)
        wait_until(lambda: probe(platform, instance, probes.functional), timeout=timeout, alive=alive)
    except Unavailable as error:
        if error.message.startswith("not ready"):
            raise Unavailable(f"{instance.name} is {error.message}{_last_words(platform, instance)}") from error
        raise


def _last_words(platform: Runtime, instance: Instance) -> str:
    lines = [line for line in platform.logs(instance, lines=_LAST_LINES, follow=False) if line.strip()]
    text = "".join(f"\n  {line[:300]}" for line in lines)
    return f"; its log ends with:{text}" if text else ""


def probe(platform: Runtime, instance: Instance, question: Probe, *, timeout: float | None = None) -> None:
    """Ask a server one of its manifest's questions.

    Raises:
        PortableError: it is not well.
    """
    lookup = platform.lookup(instance)
    if question.resource is not None:
        from portable.services.neutral import is_served, work  # noqa: PLC0415 (`status` is quicker without drivers)

        binding = outside(platform, instance)
        if is_served(question.resource, binding):
            work(question.resource, binding, timeout if timeout is not None else Duration.parse(question.timeout))
            return

    def run(asked: Probe, seconds: float) -> Answer:
        return platform.execute(
            instance,
            [expanded(text, lookup) for text in asked.command or ()],
            environment={name: expanded(text, lookup) for name, text in asked.environment.items()},
            stdin=expanded(asked.input or "", lookup).encode(),
            timeout=seconds,
        )

    ask(question, address=functools.partial(platform.address, instance), lookup=lookup, run=run, timeout=timeout)


def healths(instances: Sequence[Instance], *, timeout: float = LIVE_TIMEOUT) -> list[Health]:
    """Tell how instances are, asking those that run all at once; each may take `timeout` seconds to answer."""
    if not instances:
        return []
    runtimes = {name: runtime(name) for name in {one.record.runtime for one in instances}}
    states: dict[str, State] = {}
    for name, platform in runtimes.items():
        several = [one for one in instances if one.record.runtime == name]
        states |= {one.name: state for one, state in zip(several, platform.states(several), strict=True)}

    def told(instance: Instance) -> Health:
        platform, state = runtimes[instance.record.runtime], states[instance.name]
        running = state.status in {"running", "starting"}
        well = _answers(platform, instance, timeout) if running else None
        # A server that answers has started, whatever the platform still waits for.
        seen: Status = "running" if well and running else state.status
        status, detail = _status(instance, seen)
        ports = instance.service.manifest.ports
        addresses = {name: platform.address(instance, name) for name, port in ports.items() if port.scope != "internal"}
        return Health(
            name=instance.name,
            service=instance.record.service,
            version=instance.record.version,
            plan=instance.record.plan,
            runtime=instance.record.runtime,
            status=status,
            healthy=well,
            since=state.since,
            endpoints={port: f"{host}:{number}" for port, (host, number) in addresses.items()},
            detail=detail or state.detail,
        )

    with ThreadPoolExecutor(max_workers=min(16, len(instances))) as pool:
        return list(pool.map(told, instances))


def _answers(platform: Runtime, instance: Instance, timeout: float) -> bool:
    probes = instance.service.manifest.probes
    try:
        probe(platform, instance, probes.live or probes.ready, timeout=timeout)
    except PortableError:
        return False
    return True


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
