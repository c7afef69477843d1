"""What `update` does to a document's fields.

The parts of one update name fields of their own: no path twice, none inside another. So their order does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from portable.document_values import Values, split_path
from portable.documents import Update
from portable.errors import InvalidArgument

__all__ = ["Changes", "read"]

Path = tuple[str, ...]


class Changes(msgspec.Struct, frozen=True):
    """A checked update.

    Attributes:
        set: values to put at paths; missing parents are made.
        unset: paths to remove; missing ones are no error.
        increment: what to add to the number at a path; a missing one starts at 0.
        append: a value to add at the end of the list at a path; a missing one is made.
        values: what was seen in the values.
    """

    set: dict[Path, Any]
    unset: tuple[Path, ...]
    increment: dict[Path, int | float]
    append: dict[Path, Any]
    values: Values

    def apply(self, data: dict[str, Any]) -> None:
        """Change a document in place.

        Raises:
            InvalidArgument: a field on the way is no dict, or the field itself is no number or list.
        """
        for path, value in self.set.items():
            _parent(data, path)[path[-1]] = _copy(value)
        for path in self.unset:
            _remove(data, path)
        for path, by in self.increment.items():
            parent = _parent(data, path)
            parent[path[-1]] = _sum(parent.get(path[-1], 0), by, path)
        for path, value in self.append.items():
            parent = _parent(data, path)
            found = parent.setdefault(path[-1], [])
            if type(found) is not list:
                raise InvalidArgument(f"append: {'.'.join(path)} is a {type(found).__name__}, not a list")
            found.append(_copy(value))


def read(entry: Update, *, plain: Callable[[Any], Any], fixed: Mapping[str, str]) -> Changes:
    """Check an update.

    Args:
        entry: what the caller wants.
        plain: takes a value of the collection's type apart.
        fixed: the fields that cannot be changed, and what each is.

    Raises:
        InvalidArgument: a path or value is wrong, two paths meet, a fixed field is named, or there is nothing to do.
    """
    unset: Any = entry.unset
    if isinstance(unset, (str, bytes)) or not isinstance(unset, Iterable):
        raise InvalidArgument(f"unset takes a list of paths, such as ['address.city'], not {unset!r}")
    for name in ("set", "increment", "append"):
        if not isinstance(getattr(entry, name), Mapping):
            raise InvalidArgument(f"{name} takes a dict by path, not {type(getattr(entry, name)).__name__}")
    values = Values()
    changes = Changes(
        set={split_path(path): values.value(plain(value), f"set {path}") for path, value in entry.set.items()},
        unset=tuple(split_path(path) for path in unset),
        increment={split_path(path): _number(values, by, path) for path, by in entry.increment.items()},
        append={split_path(path): values.value(plain(value), f"append {path}") for path, value in entry.append.items()},
        values=values,
    )
    _check_paths([*changes.set, *changes.unset, *changes.increment, *changes.append], fixed)
    return changes


def _number(values: Values, by: object, path: str) -> int | float:
    if isinstance(by, bool) or not isinstance(by, (int, float)):
        raise InvalidArgument(f"increment {path}: takes an int or a float, not {type(by).__name__}")
    number: int | float = values.value(by, f"increment {path}")
    return number


def _check_paths(paths: list[Path], fixed: Mapping[str, str]) -> None:
    if not paths:
        raise InvalidArgument("the update changes nothing; give set, unset, increment or append")
    ordered = sorted(paths)
    for one, next_one in pairwise(ordered):
        if next_one[: len(one)] == one:
            raise InvalidArgument(
                f"the update names {'.'.join(one)!r} and {'.'.join(next_one)!r}; each field may be changed once"
            )
    for path in paths:
        if path[0] in fixed:
            raise InvalidArgument(
                f"update cannot change {'.'.join(path)!r}, which is the {fixed[path[0]]} field; "
                "put or replace the whole document"
            )


def _parent(data: dict[str, Any], path: Path) -> dict[str, Any]:
    parent = data
    for depth, name in enumerate(path[:-1], 1):
        found = parent.setdefault(name, {})
        if type(found) is not dict:
            raise InvalidArgument(
                f"update {'.'.join(path)!r}: {'.'.join(path[:depth])} is a {type(found).__name__}, not a dict"
            )
        parent = found
    return parent


def _remove(data: dict[str, Any], path: Path) -> None:
    parent: Any = data
    for name in path[:-1]:
        parent = parent.get(name)
        if type(parent) is not dict:
            return
    parent.pop(path[-1], None)


def _sum(number: Any, by: float, path: Path) -> int | float:
    where = ".".join(path)
    if type(number) not in {int, float}:
        raise InvalidArgument(f"increment: {where} is a {type(number).__name__}, not an int or a float")
    total: int | float = number + by
    if not math.isfinite(total):
        raise InvalidArgument(f"increment: {where} would leave the range of a float")
    if type(total) is int and not -(2**63) <= total < 2**63:
        raise InvalidArgument(f"increment: {where} would not fit 64 bits")
    return total


def _copy(value: Any) -> Any:
    # The same changes may be applied to several documents, or again after a conflict.
    if type(value) is dict:
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if type(value) is list else value
