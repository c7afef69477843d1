"""What services run on. A runtime drives a platform's own tool, and knows nothing of commands or catalogues.

Rendering is apart from applying: `render` gives what would be applied, as text, from the instance alone; `prepare`,
`start`, `stop` and `remove` apply it, and can each be repeated after an interruption.
"""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Literal, Protocol

import msgspec

from portable.config.source import nearest
from portable.errors import ConfigError
from portable.services.instances import Instance
from portable.services.probing import Answer
from portable.services.templates import Lookup

__all__ = ["RUNTIMES", "Report", "Runtime", "State", "Status", "runtime"]

Report = Callable[[str], None]
"""Takes what goes on, in words."""

Status = Literal["running", "starting", "stopping", "stopped", "failed"]


class State(msgspec.Struct, frozen=True):
    """How an instance is, as its platform sees it.

    Attributes:
        status: `failed` is what its platform has given up on.
        since: when it came to this, where that is known.
        detail: what the platform says of it; empty where there is nothing to say.
    """

    status: Status
    since: dt.datetime | None = None
    detail: str = ""


class Runtime(Protocol):
    """Runs instances."""

    name: str

    def check(self) -> None:
        """Refuse where the platform is not there or not permitted, saying what to do."""
        ...

    def render(self, instance: Instance) -> dict[str, str]:
        """Give what would be applied: name of each file → its text; secrets are `***`."""
        ...

    def prepare(self, instance: Instance, report: Report) -> None:
        """Get the software, write the files, and run the setup steps that are not done yet."""
        ...

    def start(self, instance: Instance) -> None:
        """Have the server run; one that runs already is left alone."""
        ...

    def stop(self, instance: Instance) -> None:
        """Have the server end as its manifest says, and wait for that."""
        ...

    def states(self, instances: Sequence[Instance]) -> list[State]:
        """Tell how instances are, in order; cheap."""
        ...

    def lookup(self, instance: Instance) -> Lookup:
        """Give the values of references as the server's own machine or container sees them."""
        ...

    def address(self, instance: Instance, port: str) -> tuple[str, int]:
        """Tell where a port is reached from here."""
        ...

    def execute(
        self,
        instance: Instance,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: bytes | IO[bytes] = b"",
        stdout: IO[bytes] | None = None,
        timeout: float,
    ) -> Answer:
        """Run one of the software's programs beside the server; `stdout` takes its output in place of the answer."""
        ...

    def logs(self, instance: Instance, *, lines: int, follow: bool) -> Iterator[str]:
        """Give the last lines that the server wrote, and, to follow, the coming ones."""
        ...

    def save_volumes(self, instance: Instance, target: IO[bytes]) -> None:
        """Write a tar of the volumes of an instance that is down."""
        ...

    def load_volumes(self, instance: Instance, source: IO[bytes]) -> None:
        """Have the volumes of an instance that is down hold what a tar holds, and nothing else."""
        ...

    def remove(self, instance: Instance, *, keep_data: bool) -> None:
        """Remove everything that `prepare` and `start` made, but the volumes where they are to be kept."""
        ...


RUNTIMES = {
    "process": "portable.services.runtimes.process:ProcessRuntime",
    "docker": "portable.services.runtimes.docker:DockerRuntime",
}
"""Name → where its class is."""


def runtime(name: str) -> Runtime:
    """Give a runtime.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in RUNTIMES:
        raise ConfigError(f"no runtime {name!r}{nearest(name, RUNTIMES)}")
    module, _, attribute = RUNTIMES[name].partition(":")
    found: Runtime = getattr(importlib.import_module(module), attribute)()
    return found
