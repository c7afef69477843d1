"""Listings of S3: objects and prefixes in one byte order, on servers that order them so and on those that do not."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

from portable.object_listing import behind
from portable.objects import ObjectInfo, Prefix
from portable_aws.names import Names
from portable_aws.s3_calls import S3Calls
from portable_objectstore.descriptions import unquoted
from portable_objectstore.hidden_keys import AREA, revealed, span_of
from portable_objectstore.listing import BEHIND_ALL, LAST, Item, around, cut, merged, text_behind

__all__ = ["S3Listing"]

_PROBE = 10


class S3Listing:
    """One listing.

    Args:
        calls: the bucket.
        names: how its objects are named.
        size: how many items one request asks for, 1,000 at most.
        timeout: seconds for each request.
        key_of: gives the key of a hidden name that does not tell it.
    """

    def __init__(
        self,
        calls: S3Calls,
        names: Names,
        *,
        size: int,
        timeout: float,
        key_of: Callable[[str], str | None],
    ) -> None:
        self._calls = calls
        self._names = names
        self._size = size
        self._timeout = timeout
        self._key_of = key_of

    def items(self, prefix: str, delimiter: str | None, after: bytes) -> Iterator[Item]:
        """Give objects and prefixes behind some bytes, in byte order."""
        shown = (
            self._in_folders(prefix, delimiter, after) if self._names.folders else self._flat(prefix, delimiter, after)
        )
        if not self._names.may_hide(prefix):
            return shown
        named = self._names_from(*span_of(prefix, after))
        return merged(revealed(named, self._key_of, prefix, delimiter, after), shown)

    def _names_from(self, start: str, after: str) -> Iterator[ObjectInfo]:
        """Give the hidden objects by their names."""
        if self._names.folders:
            folder, _, first = start.rpartition("/")
            yield from self._below(f"{folder}/", first, after.encode(), self._size)
            return
        for info, _ in self._answers(start, None, after):
            if info is not None:
                yield info

    def _flat(self, prefix: str, delimiter: str | None, after: bytes) -> Iterator[Item]:
        text, group = text_behind(after), around(after, prefix, delimiter)
        if group is not None:
            if any(self._names.is_shown(info.key) for info, _ in self._answers(group, None, text, size=1) if info):
                yield Prefix(group)
            text, after = group + LAST, group.encode() + BEHIND_ALL
        for info, shared in self._answers(prefix, delimiter, text):
            if info is not None:
                if self._names.is_shown(info.key) and info.key.encode() > after:
                    yield info
            elif behind(Prefix(shared)) > after and self._is_worth_showing(shared):
                yield Prefix(shared)

    def _is_worth_showing(self, shared: str) -> bool:
        """Say whether objects that are not hidden stand behind a prefix."""
        if shared.startswith(AREA):
            return False
        if not AREA.startswith(shared):
            return True
        before = next((info for info, _ in self._answers(shared, None, "", size=1)), None)
        later = next((info for info, _ in self._answers(shared, None, AREA + LAST, size=1)), None)
        return later is not None or (before is not None and self._names.is_shown(before.key))

    def _answers(
        self, prefix: str, delimiter: str | None, after: str, *, size: int | None = None
    ) -> Iterator[tuple[ObjectInfo | None, str]]:
        """Give what the server lists: objects, and prefixes as text, each request's in byte order."""
        arguments: dict[str, Any] = {"Prefix": prefix, "MaxKeys": size or self._size}
        if delimiter is not None:
            arguments["Delimiter"] = delimiter
        if after:
            arguments["StartAfter"] = after
        while True:
            answer = self._calls.call("list_objects_v2", timeout=self._timeout, **arguments)
            found: list[tuple[str, ObjectInfo | None]] = []
            found += [(entry["Key"], _info(entry)) for entry in answer.get("Contents", [])]
            found += [(entry["Prefix"], None) for entry in answer.get("CommonPrefixes", [])]
            found.sort(key=lambda pair: pair[0])
            for text, info in found:
                yield info, text
            if not answer.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = answer["NextContinuationToken"]
            # A token stands for where it starts.
            arguments.pop("StartAfter", None)

    def _in_folders(self, prefix: str, delimiter: str | None, after: bytes) -> Iterator[Item]:
        folder, slash, first = prefix.rpartition("/")
        folder += slash
        if "//" in folder or folder.startswith("/"):
            return iter(())
        if delimiter == "/":
            return self._one_level(folder, first, after)
        shown = (info for info in self._below(folder, first, after, self._size) if self._names.is_shown(info.key))
        return cut(shown, prefix, delimiter)

    def _one_level(self, folder: str, first: str, after: bytes) -> Iterator[Item]:
        for path, info in self._entries(folder, first, after, self._size):
            if info is not None:
                if self._names.is_shown(info.key) and info.key.encode() > after:
                    yield info
            else:
                # Folders outlive what was in them.
                inside = self._inside(path, after, _PROBE)
                if any(self._names.is_shown(found.key) for found in inside):
                    yield Prefix(path)

    def _below(self, folder: str, first: str, after: bytes, size: int) -> Iterator[ObjectInfo]:
        """Give the objects of a folder and the folders in it, of names that start so, in byte order."""
        for path, info in self._entries(folder, first, after, size):
            if info is None:
                yield from self._inside(path, after, size)
            elif info.key.encode() > after:
                yield info

    def _inside(self, path: str, after: bytes, size: int) -> Iterator[ObjectInfo]:
        """Give the objects of one folder of a listing that may start behind it, or inside it."""
        raw = path.encode()
        if raw > after:
            yield from self._below(path, "", b"", size)
        elif after.startswith(raw) and not after.startswith(raw + b"\xff"):
            yield from self._below(path, "", after, size)

    def _entries(self, folder: str, first: str, after: bytes, size: int) -> Iterator[tuple[str, ObjectInfo | None]]:
        """Give the files and folders of one folder in the byte order of keys, where a folder's ends with a slash.

        The server orders them by bare names. A folder waits until no name can come before it with its slash.
        """
        # The number tells a folder from a file of the same name, as other programs make them.
        waiting: list[tuple[str, int, ObjectInfo | None]] = []
        text = text_behind(after)
        start = ""
        if text.startswith(folder):
            name = text[len(folder) :].partition("/")[0]
            start = folder + name
            # Folders whose names the start is behind, but whose keys are not.
            for end in range(max(1, len(first)), len(name) + 1):
                if name[:end].startswith(first) and (end == len(name) or name[end] < "/"):
                    heapq.heappush(waiting, (f"{folder}{name[:end]}/", 0, None))
        elif text > folder:
            return
        arguments: dict[str, Any] = {"Prefix": folder + first, "Delimiter": "/", "MaxKeys": max(size, 4)}
        while True:
            if start:
                arguments["StartAfter"] = start
            answer = self._calls.call("list_objects_v2", timeout=self._timeout, **arguments)
            objects = answer.get("Contents", [])
            # An empty folder may be listed as an object that ends with a slash.
            found: list[tuple[str, str, ObjectInfo | None]] = []
            found += [(entry["Key"], entry["Key"], _info(entry)) for entry in objects if not entry["Key"].endswith("/")]
            found += [(entry["Prefix"][:-1], entry["Prefix"], None) for entry in answer.get("CommonPrefixes", [])]
            found.sort(key=lambda entry: entry[:2])
            truncated = bool(answer.get("IsTruncated")) and bool(found)
            if truncated and found[0][0] != found[-1][0]:
                # A file and a folder of one name may be torn apart: the last name comes whole with the next answer.
                last = found[-1][0]
                found = [entry for entry in found if entry[0] != last]
            for name, path, info in found:
                while waiting and waiting[0][0] < name:
                    ready = heapq.heappop(waiting)
                    yield ready[0], ready[2]
                heapq.heappush(waiting, (path, 0 if info is None else 1, info))
            if not truncated:
                break
            start = found[-1][0]
        while waiting:
            ready = heapq.heappop(waiting)
            yield ready[0], ready[2]


def _info(entry: dict[str, Any]) -> ObjectInfo:
    return ObjectInfo(entry["Key"], entry["Size"], unquoted(entry["ETag"]), entry["LastModified"].astimezone(UTC))
