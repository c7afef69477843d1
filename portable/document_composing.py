"""Between documents as callers have them and documents as drivers store them: keys, types, limits.

It is the same for both faces of a collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from portable import document_updates
from portable.capabilities import CollectionCapabilities
from portable.contracts import CollectionContract
from portable.document_values import Values, expiry, find
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify
from portable.documents import Check, Create, Delete, Document, Key, Put, Replace, Update
from portable.errors import IntegrityError, InvalidArgument, LimitExceeded

if TYPE_CHECKING:
    from portable.limits import Guard

__all__ = ["DocumentComposer"]

LONGEST_KEY = 1024
_BUILTINS = (bytes, bytearray, datetime, Decimal)
_SAFE_INT = 2**53


class DocumentComposer:
    """Makes what the driver of one collection is given, and what its callers get.

    Args:
        contract: which fields are the key, the partition and the ttl.
        type: what documents are; None for dicts.
        capabilities: what the driver takes.
        guard: what the clouds that the collection keeps to would refuse.
        require: refuses a capability that is not declared, saying what needs it.
    """

    def __init__(
        self,
        contract: CollectionContract,
        type: Any,
        capabilities: CollectionCapabilities,
        guard: Guard | None,
        require: Callable[[str, str], None],
    ) -> None:
        self._key = contract.key
        self._partition = contract.partition
        self._ttl = contract.ttl
        self._type = type
        self._largest = capabilities.max_document_bytes
        self._longest = min(LONGEST_KEY, capabilities.max_key_bytes or LONGEST_KEY)
        self._guard = guard
        self._require = require
        self._fixed = {contract.key: "key"}
        if contract.partition is not None:
            self._fixed[contract.partition] = "partition"
        if contract.ttl is not None:
            self._fixed[contract.ttl] = "ttl"

    def write(self, entry: Any) -> Save | Modify | Remove | Verify:
        """Make the write of any entry of a batch or transaction.

        Raises:
            InvalidArgument: it is none, or what it holds is wrong.
        """
        if isinstance(entry, (Create, Put, Replace)):
            return self.save(entry)
        if isinstance(entry, Update):
            return self.modification(entry)
        if isinstance(entry, Delete):
            return Remove(self.document_id(entry.key), _revision(entry.if_revision))
        if isinstance(entry, Check):
            return Verify(self.document_id(entry.key), _revision(entry.revision))
        raise InvalidArgument(f"a write is Create, Put, Replace, Update, Delete or Check, not {type(entry).__name__}")

    def save(self, entry: Create | Put | Replace) -> Save:
        """Make the write of a whole document.

        Raises:
            InvalidArgument: it cannot be stored, has no key, or does not fit the type.
            Unsupported: it holds what the contract does not declare.
        """
        values = Values()
        normal = values.document(self._plain(entry.data))
        if self._type is not None:
            self._fit(normal)
        if values.big is not None:
            self._require("big_int", f"the integer {values.big}, which is beyond ±2⁵³,")
        exists, revision = None, None
        if isinstance(entry, Create):
            exists = False
        else:
            revision = _revision(entry.if_revision)
            exists = True if isinstance(entry, Replace) else None
        return self._whole(normal, special=values.special, exists=exists, revision=revision)

    def modification(self, entry: Update) -> Modify:
        """Make the write of an update; what it makes of a document is checked as a whole document is.

        Raises:
            InvalidArgument: a path, a value or the key is wrong.
        """
        changes = document_updates.read(entry, plain=self._plain, fixed=self._fixed)
        if changes.values.big is not None:
            self._require("big_int", f"the integer {changes.values.big}, which is beyond ±2⁵³,")

        def change(data: dict[str, Any]) -> Save:
            changes.apply(data)
            for path in changes.increment:
                total = find(data, path)
                if type(total) is int and abs(total) > _SAFE_INT:
                    self._require("big_int", f"{'.'.join(path)} = {total}, which is beyond ±2⁵³,")
            if self._type is not None:
                self._fit(data)
            return self._whole(data, special=True)

        return Modify(self.document_id(entry.key), change, _revision(entry.if_revision))

    def document_id(self, key: Any) -> DocumentId:
        """Check a key, and say where its document is.

        Raises:
            InvalidArgument: it is no key of this collection.
        """
        if self._partition is None:
            # The usual key takes the short way: each is a few hundred nanoseconds.
            if type(key) is not str or not key.isascii() or not 0 < len(key) <= self._longest:
                self._check_key(key, "key")
            id_ = ("", key)
        else:
            if not isinstance(key, tuple) or len(key) != 2:
                raise InvalidArgument(f"a key of this collection is the pair (partition, key), not {key!r}")
            self._check_key(key[0], "partition")
            self._check_key(key[1], "key")
            id_ = (key[0], key[1])
        if self._guard is not None:
            self._guard.key(self._public(id_))
        return id_

    def document(self, stored: Stored) -> Document[Any]:
        """Make what a caller gets of what a driver gave.

        Raises:
            IntegrityError: it does not fit the type.
        """
        data: Any = stored.data
        expires = None if self._ttl is None else expiry(data, self._ttl)
        if self._type is not None:
            try:
                data = msgspec.convert(data, self._type)
            except msgspec.ValidationError as error:
                raise IntegrityError(
                    f"the stored document {self._public(stored.id)!r} does not fit {_type_name(self._type)}: {error}"
                ) from error
        key = stored.id[1] if self._partition is None else stored.id
        return Document(key, data, stored.revision, expires)

    def documents(self, found: Sequence[Stored]) -> Iterable[Document[Any]]:
        """Make what a caller gets of what a driver gave, as `document` does each, and faster.

        Raises:
            IntegrityError: one does not fit the type.
        """
        if self._type is None and self._ttl is None and self._partition is None:
            return [Document(one.id[1], one.data, one.revision) for one in found]
        return map(self.document, found)

    def _whole(
        self, data: dict[str, Any], *, special: bool, exists: bool | None = None, revision: str | None = None
    ) -> Save:
        """Make the write of a whole document, once the services that it must fit had their look."""
        id_ = self._id_of(data)
        expires = None
        if self._ttl is not None:
            expires = data.get(self._ttl)
            if expires is not None and not isinstance(expires, datetime):
                raise InvalidArgument(
                    f"the ttl field {self._ttl!r} is an aware datetime or None, not {type(expires).__name__}"
                )
        save = Save(id_, data, special, expires, exists, revision)
        if self._guard is not None or self._largest is not None:
            encoded = save.json().encode()
            if self._largest is not None and len(encoded) > self._largest:
                raise LimitExceeded(f"the document has {len(encoded)} bytes as JSON, and {self._largest} is the most")
            if self._guard is not None:
                self._guard.document(self._public(id_), encoded, data)
        return save

    def _plain(self, value: Any) -> Any:
        """Take a value of the type apart."""
        if self._type is None:
            return value
        try:
            return msgspec.to_builtins(value, builtin_types=_BUILTINS)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgument(f"the document cannot be stored: {error}") from error

    def _fit(self, data: dict[str, Any]) -> None:
        try:
            msgspec.convert(data, self._type)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"the document does not fit {_type_name(self._type)}: {error}") from error

    def _check_key(self, key: object, what: str) -> None:
        if not isinstance(key, str):
            raise InvalidArgument(f"a {what} is a str, not {type(key).__name__}")
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"the {what} holds a lone surrogate and is no valid Unicode") from error
        if size == 0:
            raise InvalidArgument(f"a {what} has at least one character")
        if size > self._longest:
            raise LimitExceeded(f"the {what} has {size} bytes in UTF-8, and {self._longest} is the most")

    def _id_of(self, data: dict[str, Any]) -> DocumentId:
        fields = (self._key,) if self._partition is None else (self._partition, self._key)
        for name in fields:
            if name not in data:
                raise InvalidArgument(f"the document has no field {name!r}, which is its {self._fixed[name]}")
        key = data[self._key]
        return self.document_id(key if self._partition is None else (data[self._partition], key))

    def _public(self, id_: DocumentId) -> Key:
        return id_[1] if self._partition is None else id_


def _type_name(type_: Any) -> str:
    return getattr(type_, "__name__", str(type_))


def _revision(revision: object) -> str | None:
    if revision is not None and not isinstance(revision, str):
        raise InvalidArgument(f"a revision is the str that a document carries, not {type(revision).__name__}")
    return revision
