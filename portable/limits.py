"""Limits of the real services, enforced on any backend: `guard.limits = ["aws", "gcp", "azure"]` in a profile.

`limits.toml` holds what each service refuses and the vendor's page that says so. A `Guard` is the strictest of the
services asked for, and refuses at the call what they would refuse, before anything is sent. Features that a service
lacks are no limits: `needs` and the driver's `capabilities` speak of them.

Sizes are counted as a driver stores them, by the row's `counts`:

- `bytes`: UTF-8, or as given; of a message or record, the body, the key, and every attribute's name and value.
- `characters`: Unicode code points.
- `body`: of a message, the body alone.
- `text`: as `bytes`, where a body that is not UTF-8 text of XML's characters is counted as its Base64.
- `envelope`: as `bytes`, where attributes, if there are any, are JSON in front of the body.
- `base64`: the Base64 of that envelope, or of the body alone where there are no attributes.
- `header`: names and values, each byte outside printable ASCII and each `%` as three.
- `identifier`: as `header`, and so is each byte of a name that no C# identifier has.
- `dynamodb`, `firestore`: the vendor's own sum over the fields of a document; elsewhere a document is its JSON.

A character that a service cannot carry is escaped by its driver, so it is not refused, but each of its bytes counts
as three. What a driver adds of its own (the mark of an encoded body, say) is the driver's to count.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, NoReturn

import msgspec

from portable.documents import Key
from portable.errors import ConfigError, LimitExceeded
from portable.objects import ObjectHeaders
from portable.quantities import Duration, Size
from portable.stored_sizes import DOCUMENT_SIZES, depth, message_size, metadata_size, numbers, text_size

__all__ = ["Guard", "Row", "check_name", "guard", "table"]

_LONGEST_ESCAPE = 12
"""Bytes of a character at its longest: four in UTF-8, each escaped."""

# JSON is at least a quarter of what any service counts for the same fields, but for its fixed share.
_JSON_SHARE = 4
_DOCUMENT_SHARE = 4096

_UNUSUAL_NUMBER = re.compile(rb"[0-9.](?:[0-9.]{38}|[eE][+-]?[0-9]{3})")

_ADVICE = {
    "max_message_bytes": "send less, or name a bucket in `offload`",
    "max_record_bytes": "append less, or put the data into a bucket and append its key",
    "max_document_bytes": "split the document, or put the large part into a bucket",
    "max_transaction_writes": "make several transactions",
    "max_in_values": "ask in several queries",
    "max_not_in_values": "leave the rest out after the query",
}


class _Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of `limits.toml`, `value` being what the row says and `bound` the number that it means."""

    name: str
    value: int | float | str
    source: str
    counts: Literal[
        "bytes", "characters", "body", "text", "envelope", "base64", "header", "identifier", "dynamodb", "firestore"
    ] = "bytes"
    overhead: int = 0
    per_attribute: int = 0
    escapes: str = ""
    kinds: tuple[str, ...] = ()
    handled: Literal["", "split", "driver"] = ""
    service: str = ""
    bound: float = 0

    @property
    def unit(self) -> str:
        """What the number counts, in words."""
        if self.name.endswith("_seconds"):
            return " s"
        if not self.name.endswith("_bytes"):
            return ""
        return " characters" if self.counts == "characters" else " bytes"


class _Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rule for the physical names of a service; `pattern` matches them whole, `min` and `max` are its length."""

    min: int
    max: int
    pattern: str
    rule: str
    unique: str
    source: str
    kinds: tuple[str, ...] = ()
    counts: Literal["characters", "bytes"] = "characters"


class _Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service: `schemes` are those of the URLs that lead to it."""

    title: str
    cloud: str
    kinds: tuple[str, ...]
    schemes: tuple[str, ...]
    names: tuple[_Names, ...] = ()
    limits: tuple[_Limit, ...] = ()

    def names_of(self, kind: str) -> _Names | None:
        """Find the rule for names of a kind."""
        return next((rule for rule in self.names if kind in (rule.kinds or self.kinds)), None)


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clouds: dict[str, dict[str, tuple[str, ...]]]
    services: dict[str, _Service]


class _RefusedNameError(LimitExceeded, ConfigError):
    """A name comes from the config, so whoever catches a `ConfigError` gets this one too."""


class Row(NamedTuple):
    """One row of the documentation's table.

    Attributes:
        service: the service's title.
        cloud: `aws`, `gcp`, `azure` or `self-hosted`.
        kinds: the kinds of resource that it is for.
        limit: the limit's name, as errors say it.
        value: as the vendor writes it, or the rule in words.
        counts: how it is measured, or what becomes of what is beyond it where nothing is refused.
        source: the vendor's page.
    """

    service: str
    cloud: str
    kinds: tuple[str, ...]
    limit: str
    value: str
    counts: str
    source: str


@functools.cache
def _data() -> _Data:
    text = importlib.resources.files("portable").joinpath("limits.toml").read_text(encoding="utf-8")
    data = msgspec.convert(tomllib.loads(text), _Data)
    return msgspec.structs.replace(
        data,
        services={
            name: msgspec.structs.replace(
                service,
                limits=tuple(
                    msgspec.structs.replace(limit, service=service.title, bound=_bound(limit))
                    for limit in service.limits
                ),
            )
            for name, service in data.services.items()
        },
    )


def _bound(limit: _Limit) -> float:
    if limit.name.endswith("_seconds"):
        return Duration.parse(limit.value)
    if limit.name.endswith("_bytes"):
        return Size.parse(limit.value)
    if isinstance(limit.value, str):
        raise TypeError(f"{limit.name} = {limit.value!r}: only names that end with _bytes or _seconds have units")
    return limit.value


def guard(limits: Iterable[str], kind: str) -> Guard | None:
    """Make what refuses whatever the services named would refuse of a kind.

    Args:
        limits: clouds (`aws`, `gcp`, `azure`) and services by their own names (`kafka`, `memcached`, `sqs`, …).
        kind: the kind of the resource.

    Returns:
        The guard, or None where none of them has anything to refuse.

    Raises:
        ConfigError: a name is neither a cloud nor a service.
    """
    names = tuple(limits)
    if not names:
        return None
    data = _data()
    services: dict[str, _Service] = {}
    for name in names:
        if name in data.clouds:
            services |= {service: data.services[service] for service in data.clouds[name].get(kind, ())}
        elif name in data.services:
            services |= {name: data.services[name]} if kind in data.services[name].kinds else {}
        else:
            known = (*data.clouds, *data.services)
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"guard.limits: {name!r} is neither a cloud nor a service with known limits; {hint}")
    made = Guard(kind, services.values())
    return made if made.refuses else None


def check_name(service: str, kind: str, name: str) -> None:
    """Refuse a physical name that its own service would refuse, before the network is asked.

    Args:
        service: the service's name in `limits.toml`, or the scheme of the binding's URL; one without a rule (`file`,
            `memory`) takes every name.
        kind: the kind of the resource.
        name: the physical name.

    Raises:
        LimitExceeded: the name breaks the rule; it is a `ConfigError` too.
    """
    for known, held in _data().services.items():
        rule = held.names_of(kind) if service == known or service in held.schemes else None
        if rule is not None:
            _check_name(held.title, rule, kind, name)


def _check_name(title: str, rule: _Names, kind: str, name: str) -> None:
    size = text_size(name, rule.counts)
    if rule.min <= size <= rule.max and re.fullmatch(rule.pattern, name):
        return
    raise _RefusedNameError(
        f"{kind} name {name!r} ({size} {rule.counts}): {title} takes {rule.min} to {rule.max} {rule.counts} of "
        f"{rule.rule}, unique {rule.unique} ({rule.source}); give the binding another name"
    )


def table() -> list[Row]:
    """Give every row for the documentation, service by service: the rules for names, then the limits."""
    handled = {"split": "more are sent in several calls", "driver": "the driver finds another way"}
    rows: list[Row] = []
    for service in _data().services.values():
        rows += (
            Row(
                service.title,
                service.cloud,
                rule.kinds or service.kinds,
                "name",
                f"{rule.min} to {rule.max}: {rule.rule}; unique {rule.unique}",
                rule.counts,
                rule.source,
            )
            for rule in service.names
        )
        rows += (
            Row(
                service.title,
                service.cloud,
                limit.kinds or service.kinds,
                limit.name,
                f"{limit.value:,}" if isinstance(limit.value, int) else str(limit.value),
                handled[limit.handled] if limit.handled else limit.counts if limit.name.endswith("_bytes") else "",
                limit.source,
            )
            for limit in service.limits
        )
    return rows


class Guard:
    """What refuses, for one kind, whatever any of some services would refuse.

    Every method returns None, or raises `LimitExceeded` that names the limit, what was asked, what is allowed, the
    service and the page that says so. Only the methods of the guard's own kind have anything to refuse. They cost
    little: what is far below every limit is seen by its length alone.
    """

    def __init__(self, kind: str, services: Iterable[_Service]) -> None:
        """Gather the limits; `guard` calls this.

        Args:
            kind: the kind of the resource.
            services: those whose limits are kept.
        """
        self._kind = kind
        self._limits: dict[str, list[_Limit]] = {}
        self._names: list[tuple[str, _Names]] = []
        for service in services:
            if (rule := service.names_of(kind)) is not None:
                self._names.append((service.title, rule))
            for limit in service.limits:
                if kind in (limit.kinds or service.kinds) and not limit.handled:
                    self._limits.setdefault(limit.name, []).append(limit)
        for name, limits in self._limits.items():
            limits.sort(key=lambda limit: limit.bound, reverse=name.startswith("min_"))
        self._escapes = {
            limit: re.compile(limit.escapes) for limits in self._limits.values() for limit in limits if limit.escapes
        }
        keys = ("max_key_bytes", "max_sort_key_bytes", "max_partition_bytes", "max_composite_key_bytes")
        # Half, because Base64 makes four bytes of three; and a composite key has one character more.
        self._small_body = self._least("max_message_bytes", "max_record_bytes") // 2
        self._short_key = self._least(*keys) // _LONGEST_ESCAPE - 1
        self._small_value = self._least("max_value_bytes")
        self._small_document = self._least("max_document_bytes") // _JSON_SHARE - _DOCUMENT_SHARE
        self._flat = self._least("max_depth")

    @property
    def refuses(self) -> bool:
        """Whether there is anything to refuse at all."""
        return bool(self._limits or self._names)

    def name(self, physical_name: str) -> None:
        """Check the physical name of the resource itself."""
        for title, rule in self._names:
            _check_name(title, rule, self._kind, physical_name)

    def key(self, key: Key) -> None:
        """Check the key of an object, a cache entry or a document, a pair `(partition, key)` included."""
        if isinstance(key, str):
            if len(key) > self._short_key:
                self._text("max_key_bytes", key)
                self._text("max_composite_key_bytes", key)
        elif max(map(len, key)) > self._short_key // 2:
            self._text("max_partition_bytes", key[0])
            self._text("max_sort_key_bytes", key[1])
            self._text("max_composite_key_bytes", "".join((key[0], "\n", key[1])))

    def metadata(self, headers: ObjectHeaders) -> None:
        """Check the metadata and the other headers of an object."""
        if headers.metadata:
            self._headers("max_metadata_bytes", headers.metadata)
        if "max_system_metadata_bytes" in self._limits:
            self._headers(
                "max_system_metadata_bytes",
                {
                    name.replace("_", "-"): value
                    for name in headers.__struct_fields__
                    if name != "metadata" and (value := getattr(headers, name)) is not None
                },
            )

    def object_size(self, size: int) -> None:
        """Check the length of an object, in bytes."""
        self._at_most("max_object_bytes", size)

    def parts(self, part_bytes: int, count: int) -> None:
        """Check a multipart upload: the bytes of every part but the last, and how many parts there are."""
        if count > 1:
            self._at_least("min_part_bytes", part_bytes)
        self._at_most("max_part_bytes", part_bytes)
        self._at_most("max_parts", count)

    def sign(self, expires: float) -> None:
        """Check for how many seconds a signed URL is to hold."""
        self._at_most("max_sign_seconds", expires)

    def message(
        self,
        body: bytes,
        attributes: Mapping[str, str] | None = None,
        delay: float = 0.0,
        ordering_key: str | None = None,
        dedup_id: str | None = None,
    ) -> None:
        """Check a message: its size with its attributes, its delay in seconds, its ordering key and dedup id."""
        if attributes or len(body) > self._small_body:
            self._content("max_message_bytes", body, attributes or {}, None)
        if delay:
            self._at_most("max_delay_seconds", delay)
        if ordering_key:
            self._text("max_ordering_key_bytes", ordering_key)
        if dedup_id:
            self._text("max_dedup_id_bytes", dedup_id)

    def visibility(self, seconds: float) -> None:
        """Check how many seconds a received message is to stay hidden."""
        self._at_least("min_visibility_seconds", seconds)
        self._at_most("max_visibility_seconds", seconds)

    def deliveries(self, count: int) -> None:
        """Check after how many deliveries a message is to be dead."""
        self._at_most("max_deliveries", count)

    def retention(self, seconds: float) -> None:
        """Check for how many seconds messages or records are to be kept."""
        self._at_least("min_retention_seconds", seconds)
        self._at_most("max_retention_seconds", seconds)

    def record(self, data: bytes, key: str | None = None, attributes: Mapping[str, str] | None = None) -> None:
        """Check a record of a stream: its size with its key and attributes, and the length of the key."""
        if attributes or key or len(data) > self._small_body:
            self._content("max_record_bytes", data, attributes or {}, key)
        if key:
            self._text("max_record_key_bytes", key)

    def value(self, value: bytes) -> None:
        """Check a value of a cache, encoded."""
        size = len(value)
        for limit in self._limits.get("max_value_bytes", ()) if size > self._small_value else ():
            if size + limit.overhead > limit.bound:
                _refuse(limit, size + limit.overhead)

    def ttl(self, seconds: float) -> None:
        """Check after how many seconds a cache entry is to expire."""
        self._at_most("max_ttl_seconds", seconds)

    def counter(self, amount: int) -> None:
        """Check a counter, or what is added to it or taken from it."""
        self._at_most("max_counter", abs(amount))

    def document(self, key: Key, encoded: bytes, data: Mapping[str, Any]) -> None:
        """Check a document: its key, its size, its depth and its numbers.

        Args:
            key: the key, or the pair `(partition, key)`.
            encoded: the document as JSON.
            data: the document's fields.
        """
        self.key(key)
        if len(encoded) > self._small_document:
            whole = key if isinstance(key, str) else "".join(key)
            for limit in self._limits.get("max_document_bytes", ()):
                size = DOCUMENT_SIZES[limit.counts](whole, encoded, data)
                if size > limit.bound:
                    _refuse(limit, size)
        if encoded.count(b"{") + encoded.count(b"[") > self._flat:
            self._at_most("max_depth", depth(data))
        if "max_number_digits" in self._limits and _UNUSUAL_NUMBER.search(encoded):
            for number in numbers(data):
                self._at_most("max_number_digits", len("".join(map(str, number.as_tuple().digits)).strip("0")))
                if number:
                    self._at_most("max_number_exponent", number.adjusted())
                    self._at_least("min_number_exponent", number.adjusted())

    def query_in(self, count: int, *, negated: bool = False) -> None:
        """Check how many values `in` lists, or `not-in` where `negated`."""
        self._at_most("max_not_in_values" if negated else "max_in_values", count)

    def transaction(self, writes: int, size: int = 0) -> None:
        """Check how many writes a transaction has, and how many bytes its documents have together."""
        self._at_most("max_transaction_writes", writes)
        self._at_most("max_transaction_bytes", size)

    def _least(self, *names: str) -> int:
        """Find the smallest of some limits, what framing takes left out."""
        rooms = (int(limit.bound) - limit.overhead for name in names for limit in self._limits.get(name, ()))
        return min(rooms, default=1 << 62)

    def _at_most(self, name: str, asked: float) -> None:
        if (limits := self._limits.get(name)) and asked > limits[0].bound:
            _refuse(limits[0], asked)

    def _at_least(self, name: str, asked: float) -> None:
        if (limits := self._limits.get(name)) and asked < limits[0].bound:
            _refuse(limits[0], asked)

    def _text(self, name: str, text: str) -> None:
        for limit in self._limits.get(name, ()):
            size = text_size(text, limit.counts, self._escapes.get(limit))
            if size > limit.bound:
                _refuse(limit, size)

    def _headers(self, name: str, headers: Mapping[str, str]) -> None:
        for limit in self._limits.get(name, ()):
            size = metadata_size(headers, limit.counts)
            if size > limit.bound:
                _refuse(limit, size)

    def _content(self, name: str, body: bytes, attributes: Mapping[str, str], key: str | None) -> None:
        for limit in self._limits.get(name, ()):
            size = message_size(body, attributes, key, limit.counts)
            size += limit.overhead + limit.per_attribute * len(attributes)
            if size > limit.bound:
                _refuse(limit, size)
        if attributes:
            self._at_most("max_attributes", len(attributes))
            self._headers("max_attributes_bytes", attributes)
            for attribute, value in attributes.items():
                self._text("max_attribute_name_bytes", attribute)
                self._text("max_attribute_value_bytes", value)


def _refuse(limit: _Limit, asked: float) -> NoReturn:
    edge = "at least" if limit.name.startswith("min_") else "at most"
    advice = f"; {_ADVICE[limit.name]}" if limit.name in _ADVICE else ""
    how = f", counted as {limit.counts}" if limit.counts not in {"bytes", "characters"} else ""
    raise LimitExceeded(
        f"{limit.name}: {_written(asked)}{limit.unit} asked{how}, {limit.service} takes {edge} "
        f"{_written(limit.bound)}{limit.unit} ({limit.source}){advice}"
    )


def _written(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.15g}"
