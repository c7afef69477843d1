"""What a collection holds, and the writes that its batches and transactions are made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

__all__ = ["Check", "Create", "Delete", "Document", "Key", "Put", "Replace", "Update", "Write"]

T = TypeVar("T")

Key: TypeAlias = str | tuple[str, str]
"""A document's key: the value of its key field, or `(partition, key)` in a partitioned collection."""


class Document(msgspec.Struct, Generic[T], frozen=True):
    """One document.

    Attributes:
        key: the key, or `(partition, key)` in a partitioned collection.
        data: a dict, or a value of the collection's `type`.
        revision: opaque; changes with every write; pass it to `if_revision`.
        expires_at: when it is gone, aware, in UTC; None where it never expires.
    """

    key: Key
    data: T
    revision: str
    expires_at: datetime | None = None


class Create(msgspec.Struct, frozen=True):
    """Store `data`, whose key must be free."""

    data: Any


class Put(msgspec.Struct, frozen=True):
    """Store `data` whether or not its key is taken; with `if_revision` only over that revision."""

    data: Any
    if_revision: str | None = None


class Replace(msgspec.Struct, frozen=True):
    """Store `data`, whose key must be taken; with `if_revision` only over that revision."""

    data: Any
    if_revision: str | None = None


class Update(msgspec.Struct, frozen=True):
    """Change fields of the document at `key`, which must be there. Paths are dotted."""

    key: Key
    set: Mapping[str, Any] = msgspec.field(default_factory=dict)
    unset: tuple[str, ...] = ()
    increment: Mapping[str, int | float] = msgspec.field(default_factory=dict)
    append: Mapping[str, Any] = msgspec.field(default_factory=dict)
    if_revision: str | None = None


class Delete(msgspec.Struct, frozen=True):
    """Remove the document at `key`; missing is no error unless `if_revision` is given."""

    key: Key
    if_revision: str | None = None


class Check(msgspec.Struct, frozen=True):
    """In a transaction: the document at `key` must be at `revision`, or missing when that is None."""

    key: Key
    revision: str | None = None


Write: TypeAlias = Create | Put | Replace | Update | Delete | Check
"""Any entry of `write_many` (all but `Check`) or `transact`."""
