"""What a table of documents has columns for, where a backend keeps the keys of its indexes in columns.

The columns are `index_1`, `index_2` … in the order in which the indexes were declared; whoever writes a document keeps
them. A writer that knows fewer of them than there are would leave them stale, so each of its statements names the
column `layout_N`, which gets another number with every new index: the statement then fails, and the writer looks at
the layout again.
"""

from __future__ import annotations

import functools
from typing import Self

import msgspec

from portable.changes import Change
from portable.contracts import CollectionContract
from portable.errors import ConfigError
from portable.query_plan import index_fields

__all__ = ["DocumentLayout", "Fields", "dump_indexes", "load_indexes"]

Fields = tuple[tuple[str, ...], ...]


class DocumentLayout(msgspec.Struct, frozen=True, dict=True):
    """What the row of a collection in `portable_collections` says.

    Attributes:
        name: of the collection.
        key: the key field.
        partition: the partition field, or None.
        ttl: the field that expires documents, or None.
        number: the number of the layout, from 1.
        filled: how many of the indexes, from the first, have every document.
        timed: whether every document has its `expires`.
        indexes: the fields of each index; those of the first are in the column `index_1`, and so on.
    """

    name: str
    key: str
    partition: str | None
    ttl: str | None
    number: int = 1
    filled: int = 0
    timed: bool = True
    indexes: tuple[Fields, ...] = ()

    @functools.cached_property
    def columns(self) -> dict[Fields, str]:
        """The column of each index."""
        return {fields: f"index_{i}" for i, fields in enumerate(self.indexes, 1)}

    def wanted(self, contract: CollectionContract) -> Self:
        """The layout that also has what a contract declares; indexes are never taken away.

        Raises:
            ConfigError: the contract has another key or partition.
        """
        if (self.key, self.partition) != (contract.key, contract.partition):
            raise ConfigError(
                f"the collection {self.name!r} was made with key = {self.key!r} and partition = {self.partition!r}, "
                f"not {contract.key!r} and {contract.partition!r}, which cannot be changed; give it another name"
            )
        new = tuple(fields for fields in index_fields(contract) if fields not in self.columns)
        if not new and self.ttl == contract.ttl:
            return self
        return msgspec.structs.replace(
            self,
            ttl=contract.ttl,
            number=self.number + 1,
            timed=self.timed and self.ttl == contract.ttl,
            indexes=(*self.indexes, *new),
        )

    def serves(self, contract: CollectionContract) -> bool:
        """Whether the indexes that a contract declares are there and have every document."""
        return set(index_fields(contract)) <= set(self.indexes[: self.filled])

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to fill in."""
        return self.timed and self.filled == len(self.indexes)

    def changes(self, old: DocumentLayout | None) -> list[Change]:
        """Say what has to be done to an old layout to get this one."""
        found = []
        if old is None:
            found.append(Change("create", "collection", self.name))
        elif old.ttl != self.ttl or not old.timed:
            found.append(Change("change", "ttl", self.name, f"from {old.ttl or 'none'} to {self.ttl or 'none'}"))
        known = () if old is None else old.indexes[: old.filled]
        return found + [
            Change("create", "index", self.name, ", ".join(".".join(path) for path in fields))
            for fields in self.indexes
            if fields not in known
        ]


def dump_indexes(indexes: tuple[Fields, ...]) -> str:
    """Give the indexes as the JSON that `portable_collections` keeps: a list of lists of dotted paths."""
    return msgspec.json.encode([[".".join(path) for path in fields] for fields in indexes]).decode()


def load_indexes(text: str) -> tuple[Fields, ...]:
    """Give the indexes that a JSON text of `dump_indexes` stands for."""
    indexes = msgspec.json.decode(text, type=list[list[str]])
    return tuple(tuple(tuple(path.split(".")) for path in fields) for fields in indexes)
