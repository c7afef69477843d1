"""Whether a server is well: its probes, asked through its runtime."""

from __future__ import annotations

from portable.errors import PortableError, Unavailable
from portable.quantities import Duration
from portable.services.instances import Instance
from portable.services.manifest import Probe
from portable.services.probing import Answer, ask, wait_until
from portable.services.runtimes import Runtime
from portable.services.templates import expanded

__all__ = ["answers", "probe", "wait_ready"]

_LAST_LINES = 5


def wait_ready(runtime: Runtime, instance: Instance) -> None:
    """Wait until a server is ready, and does the work that it is for.

    Raises:
        Unavailable: it ended, or was not ready in time; the message has its last words.
    """
    probes = instance.service.manifest.probes
    timeout = Duration.parse(probes.start_timeout)

    def alive() -> None:
        (state,) = runtime.states([instance])
        if state.status in {"failed", "stopped"}:
            raise Unavailable(f"{instance.name} ended at its start{_last_words(runtime, instance)}")

    try:
        wait_until(lambda: probe(runtime, instance, probes.ready), timeout=timeout, alive=alive)
        wait_until(lambda: probe(runtime, instance, probes.functional), timeout=timeout, alive=alive)
    except Unavailable as error:
        if error.message.startswith("not ready"):
            raise Unavailable(f"{instance.name} is {error.message}{_last_words(runtime, instance)}") from error
        raise


def _last_words(runtime: Runtime, instance: Instance) -> str:
    lines = [line for line in runtime.logs(instance, lines=_LAST_LINES, follow=False) if line.strip()]
    text = "".join(f"\n  {line[:300]}" for line in lines)
    return f"; its log ends with:{text}" if text else ""


def probe(runtime: Runtime, instance: Instance, question: Probe, *, timeout: float | None = None) -> None:
    """Ask a server one of its manifest's questions.

    Raises:
        PortableError: it is not well.
    """
    lookup = runtime.lookup(instance)

    def run(asked: Probe, seconds: float) -> Answer:
        return runtime.execute(
            instance,
            [expanded(text, lookup) for text in asked.command or ()],
            environment={name: expanded(text, lookup) for name, text in asked.environment.items()},
            stdin=expanded(asked.input or "", lookup).encode(),
            timeout=seconds,
        )

    address = runtime.address(instance, question.port) if question.port is not None else None
    ask(question, address=address, lookup=lookup, run=run, timeout=timeout)


def answers(runtime: Runtime, instance: Instance, *, timeout: float) -> bool:
    """Tell whether a server answers at all, as fast as that can be told."""
    probes = instance.service.manifest.probes
    try:
        probe(runtime, instance, probes.live or probes.ready, timeout=timeout)
    except PortableError:
        return False
    return True
