"""What the drivers need of a client library: a producer, transactions, consumers and the administration of topics.

Each library has one file that offers it: `confluent.py`, `kafka_python.py`. All of their methods raise errors of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from portable.errors import ConfigError, PortableError, Unavailable
from portable_kafka.options import Connection

__all__ = [
    "Admin",
    "Batch",
    "Consumer",
    "Engine",
    "Headers",
    "Made",
    "NewTopic",
    "Outbound",
    "Place",
    "Producer",
    "Rebalancing",
    "engine",
]

T = TypeVar("T")

Headers = list[tuple[str, bytes | None]]
Place = tuple[str, int]
"""A topic and the number of one of its partitions."""

Made = Callable[[str, int, int, int, bytes | None, bytes | None, Headers | None], T]
"""Makes of topic, partition, offset, timestamp in milliseconds, key, value and headers what a caller wants."""


Outbound = tuple[str, int, bytes | None, bytes, Headers | None]
"""One message on its way: topic, partition, key, value, headers. A plain tuple, for it is made for each message."""


class Batch(Protocol):
    """Messages that are sent together: a list of them, or what makes each when its turn comes. Iterated over once."""

    def __iter__(self) -> Iterator[Outbound]:
        """Give them in order."""
        ...

    def __len__(self) -> int:
        """Say how many they are."""
        ...


class NewTopic(NamedTuple):
    """A topic to be made; `replication` is None for the brokers' default."""

    name: str
    partitions: int
    replication: int | None
    config: dict[str, str]


class Rebalancing(Unavailable):
    """A group that comes together anew takes no commits: poll, for its members have to take part, and try again."""


class Consumer(Protocol):
    """One consumer. It serves one thread at a time, but for `commit`, `committed` and `identity`."""

    def assign(self, places: Mapping[Place, int]) -> None:
        """Read exactly these partitions, each from an offset, from now on."""
        ...

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        assigned: Callable[[list[Place]], None],
        revoked: Callable[[list[Place]], None],
        lost: Callable[[list[Place]], None],
    ) -> None:
        """Share the partitions of topics with the other members of the group; the callbacks run within `poll`."""
        ...

    def poll(self, count: int, timeout: float, make: Made[T]) -> list[T]:
        """Give up to `count` messages; wait for the first only.

        Ends early where partitions were read to their end (`ends`), or their offset is out of range (`astray`).
        """
        ...

    def ends(self) -> dict[Place, int]:
        """Give, once, the partitions that were read to their end, and the offset of what will be next there."""
        ...

    def astray(self) -> set[Place]:
        """Give, once, the assigned partitions whose offset is out of range; only where there is no group."""
        ...

    def seek(self, place: Place, offset: int) -> None:
        """Go on at an offset."""
        ...

    def pause(self, places: Sequence[Place]) -> None:
        """Fetch nothing of partitions for now; what was fetched is not given."""
        ...

    def resume(self, places: Sequence[Place]) -> None:
        """Fetch from partitions again."""
        ...

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        """Keep offsets, each with a text, for the group.

        Raises:
            LeaseLost: this consumer is no member of the group any more.
            Rebalancing: the group comes together anew; it can after a poll or some.
        """
        ...

    def committed(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, str]]:
        """Give what the group has kept, for those that it has."""
        ...

    def edge(self, place: Place, *, timeout: float) -> tuple[int, int]:
        """Give the first offset of a partition that is kept and the one that will be next."""
        ...

    def moments(self, places: Mapping[Place, int], *, timeout: float) -> dict[Place, int | None]:
        """Give the first offset at or after a moment, in milliseconds since the epoch; None where all is older."""
        ...

    def identity(self) -> Any:
        """What a transaction needs to know of the member that this is."""
        ...

    def close(self) -> None:
        """Leave the group and drop the connections."""
        ...


class Producer(Protocol):
    """Sends messages; serves any number of threads."""

    @property
    def native(self) -> Any:
        """The library's own."""
        ...

    def send(self, messages: Batch, *, timeout: float) -> list[int | PortableError]:
        """Send messages, in order within a partition, and wait until the brokers have them; give their offsets."""
        ...

    def reach(self, topics: Sequence[str], *, timeout: float) -> None:
        """Learn where the partitions of topics are, and send nothing."""
        ...

    def close(self) -> None:
        """Drop the connections; what is still on its way may not arrive."""
        ...


class Transactions(Protocol):
    """Writes messages and commits offsets in one step; serves one thread at a time."""

    def write(
        self,
        messages: Sequence[Outbound],
        offsets: Mapping[Place, tuple[int, str]],
        member: Consumer,
        *,
        timeout: float,
    ) -> None:
        """Do both, or none of it.

        Raises:
            LeaseLost: the consumer is no member of the group any more, and nothing was done.
        """
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


class Admin(Protocol):
    """Looks after topics; serves any number of threads."""

    def partitions(self, names: Sequence[str], *, timeout: float) -> dict[str, int]:
        """Give how many partitions topics have, for those that there are."""
        ...

    def create(self, topics: Sequence[NewTopic], *, timeout: float) -> None:
        """Make topics; one that is there already stays as it is."""
        ...

    def edges(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, int]]:
        """Give the first offset that is kept and the one that will be next."""
        ...

    def trim(self, places: Mapping[Place, int], *, timeout: float) -> None:
        """Remove what is before offsets."""
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


class Engine(Protocol):
    """One client library, for one cluster."""

    def producer(self) -> Producer:
        """Make a producer, without any I/O."""
        ...

    def transactions(self, name: str) -> Transactions:
        """Make a producer with transactions of a name that no other has, without any I/O."""
        ...

    def consumer(self, group: str | None) -> Consumer:
        """Make a consumer, without any I/O. One of a group starts at the oldest message where nothing is committed."""
        ...

    def admin(self) -> Admin:
        """Make a client for topics, without any I/O."""
        ...


_ENGINES = {
    "confluent": ("confluent_kafka", "portable_kafka.confluent", "ConfluentEngine"),
    "kafka-python": ("kafka", "portable_kafka.kafka_python", "KafkaPythonEngine"),
}


def engine(name: str | None, where: Connection) -> Engine:
    """Give the engine of a name, or the best that is installed.

    Raises:
        ConfigError: its library is not installed.
    """
    for known, (library, module, cls) in _ENGINES.items():
        if name in {None, known} and importlib.util.find_spec(library) is not None:
            made: Engine = getattr(importlib.import_module(module), cls)(where)
            return made
    raise ConfigError(
        f"the engine {name or 'confluent'} is not installed; install it with: pip install "
        + ("kafka-python" if name == "kafka-python" else "'portable-cloud[kafka]'")
    )
