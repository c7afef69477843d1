"""A profile: where each resource of a config is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from portable.capabilities import Capabilities
from portable.config.bound import Bound
from portable.config.places import Place, default_url, final_url, physical_name
from portable.config.references import Resolve, holds_reference, parse_url, resolved, resolver, written_options
from portable.config.source import Keys, Source, nearest
from portable.config.tables import (
    Declared,
    Placed,
    ProfileTable,
    check_resource_name,
    read_contract,
    read_create,
)
from portable.contracts import CONTRACTS, Contract, SubscriptionContract
from portable.errors import ConfigError, LimitExceeded, PortableError
from portable.registry import Provider, provider, schemes
from portable.urls import Url

if TYPE_CHECKING:
    from portable.config.config import Config

__all__ = ["EMBEDDED", "Profile"]

EMBEDDED = "sqlite:.portable/app.db?durability=process"
"""Where everything is that no config speaks of."""

_EMBEDDED_CONTRACTS = {"collection": {"allow_scan": True}}


class Profile:
    """Where each resource is, and how what is bound there behaves.

    It is safe with threads, and connects to nothing; references are resolved each time a resource is bound.

    Attributes:
        name: its name.
        table: what it says, inheritance applied.
        resources: what is declared, by name.
        source: where all of that was written.
    """

    def __init__(
        self,
        name: str,
        table: ProfileTable,
        resources: dict[str, Declared],
        source: Source,
        *,
        resolve: Resolve | None = None,
        undeclared: Literal["refused", "embedded", "beside"] = "refused",
    ) -> None:
        """Take the profile from a config; `load` and `single` call this.

        Args:
            name: its name.
            table: what it says, inheritance applied.
            resources: what is declared.
            source: where all of that was written.
            resolve: gives what a reference stands for.
            undeclared: what becomes of names that are not declared: an error, a place in the embedded default, or one
                beside the single resource that there is.
        """
        self.name = name
        self.table = table
        self.source = source
        self.resources = resources
        self._given = resolve
        self._undeclared = undeclared

    @classmethod
    def load(cls, config: str | Path | Config | None = None, *, profile: str | None = None) -> Profile:
        """Load a profile of a config.

        Args:
            config: a path, a `Config`, or None for the one in force: `$PORTABLE_CONFIG`, else the nearest
                `portable.toml` from the working directory upwards, else the embedded default.
            profile: its name, or None: `$PORTABLE_PROFILE`, else the config's `default_profile`.

        Raises:
            ConfigError: there is no such config or profile, or something in it is wrong.
        """
        from portable.config.config import Config  # noqa: PLC0415 (it makes profiles, and so imports this module)

        if config is None or isinstance(config, (str, Path)):
            config = Config.load(config)
        if not isinstance(config, Config):
            raise ConfigError(f"a config is a path or a portable.Config, not {type(config).__name__}")
        return config.profile(profile)

    @classmethod
    def single(cls, kind: str, url: str, options: dict[str, Any]) -> Self:
        """Make the profile of one resource that no config speaks of, as `open_bucket` and its like do.

        Args:
            kind: its kind.
            url: its binding.
            options: `name`, `create`, keys of the contract, and options of the binding.

        Raises:
            ConfigError: the URL or a key of the contract is wrong.
        """
        source = Source(None, Path.cwd(), label=f"open_{kind}")
        if not isinstance(url, str):
            raise source.error(("url",), f"a URL is needed here, not {type(url).__name__}")
        contract_type = CONTRACTS[kind]
        contract_keys = {name: value for name, value in options.items() if name in contract_type.__struct_fields__}
        rest = {name: value for name, value in options.items() if name not in contract_keys}
        name, create = rest.pop("name", None), rest.pop("create", None)
        if name is not None and (not isinstance(name, str) or not name):
            raise source.error(("name",), "a string is needed here")
        if isinstance(create, bool):
            create = "if_missing" if create else "never"
        placed = Placed((), url, rest, name, None if create is None else read_create(create, ("create",), source))
        contract = read_contract(kind, contract_keys, keys=(), source=source)
        resource = name or kind
        table = ProfileTable(bind={resource: placed}, default=msgspec.structs.replace(placed, name=None))
        return cls("single", table, {resource: Declared(kind, contract)}, source, undeclared="beside")

    @classmethod
    def embedded(cls, folder: Path) -> Self:
        """Make the profile that needs no config: any name, under `.portable/` of a folder."""
        source = Source(None, folder, label="the embedded default (there is no portable.toml)")
        return cls("embedded", ProfileTable(default=Placed((), EMBEDDED)), {}, source, undeclared="embedded")

    def __repr__(self) -> str:
        """Show the name alone."""
        return f"<Profile {self.name!r}>"

    def declared(self) -> dict[str, str]:
        """Give the kind of each declared resource, in the order of the config."""
        return {name: declared.kind for name, declared in self.resources.items()}

    def services(self) -> list[str]:
        """Name the services that the profile binds with `service:NAME`, each once; not those behind a reference."""
        placed = [*self.table.bind.values(), *([self.table.default] if self.table.default is not None else [])]
        urls = [one.url for one in placed if (one.url or "").startswith("service:")]
        return list(dict.fromkeys(Url.parse(url).path for url in urls if url and not holds_reference(url)))

    def contract(self, name: str, kind: str, overrides: dict[str, Any] | None = None) -> Contract:
        """Give what is asked of a resource.

        Args:
            name: the resource's name.
            kind: the kind that the caller takes it for.
            overrides: keys of its contract that the caller gave; what a config declares is not overridden.

        Raises:
            ConfigError: it is not declared, or is of another kind, or declared otherwise.
        """
        found = self.resources.get(name)
        if found is None:
            return self._undeclared_contract(name, kind, overrides or {})
        if found.kind != kind:
            raise self.source.error(
                ("resources", name), f"{name!r} is a {found.kind}, not a {kind}; use cloud.{found.kind}({name!r})"
            )
        for key, value in (overrides or {}).items():
            if getattr(found.contract, key) != value:
                raise self.source.error(("resources", name, key), f"the config says otherwise than {key}={value!r}")
        return found.contract

    def bound(self, name: str, kind: str, contract_overrides: dict[str, Any] | None = None) -> Bound:
        """Bind a resource: find its place, resolve its references, and check what can be without connecting.

        Args:
            name: the resource's name.
            kind: the kind that the caller takes it for.
            contract_overrides: keys of its contract that the caller gave, where there is no config.

        Raises:
            ConfigError: it is not declared or bound, or its binding is wrong.
            PortableError: a secret manager does not give what a reference names.
        """
        contract = self.contract(name, kind, contract_overrides)
        place = self.place(name, contract)
        try:
            bound = self._bound(name, kind, contract, place)
            self._check_names(bound, place)
        except PortableError as error:
            if error.resource is None:
                error.message = f"{self.source.where(place.keys)}: {error.message}"
                error.resource = name
            raise
        return bound

    def place(self, name: str, contract: Contract) -> Place:
        """Find where a resource is written to be.

        Raises:
            ConfigError: the profile neither binds nor covers it.
        """
        own = self.table.bind.get(name)
        if own is not None and own.url is not None:
            return Place(own, own)
        if isinstance(contract, SubscriptionContract):
            topic = self.contract(contract.topic, "topic")
            there = self.place(contract.topic, topic)
            return Place(there.at, own, of_topic=True, by_default=there.by_default)
        if self.table.default is not None:
            return Place(self.table.default, by_default=True)
        hint = f'add {name} = "…" to [profiles.{self.name}.bind], or a default to [profiles.{self.name}]'
        error = self.source.error(("profiles", self.name, "bind"), f"the profile does not bind {name!r}; {hint}")
        error.resource = name
        raise error

    def check_references(self, place: Place) -> None:
        """Check the references of a binding of which no more can be told offline.

        Raises:
            ConfigError: one of them is not written as one, or nobody resolves it.
        """
        try:
            resolved([place.at.url, place.at.options, place.own and place.own.options], self._resolve())
        except ConfigError as error:
            raise self.source.error(place.keys, error.message) from None

    def where(self, keys: Keys) -> str:
        """Name the place where a value of the profile was written, and the profile that it was inherited from."""
        owner = next(iter(keys[1:2]), self.name)
        return self.source.origin(keys) + (f" (profiles.{owner})" if owner != self.name else "")

    def subscriptions(self, topic: str) -> list[Bound]:
        """Bind the subscriptions that are declared of a topic.

        Raises:
            ConfigError: the binding of one of them is wrong.
        """
        return [
            self.bound(name, declared.kind)
            for name, declared in self.resources.items()
            if isinstance(declared.contract, SubscriptionContract) and declared.contract.topic == topic
        ]

    def check_needs(self, bound: Bound, capabilities: Capabilities) -> None:
        """Check that a driver can do what is needed of it.

        Raises:
            ConfigError: it cannot; the message names the profile, the driver and the missing capabilities.
        """
        missing = [need for need in bound.contract.needs if not getattr(capabilities, need, False)]
        if missing:
            keys = ("resources", bound.resource, "needs") if self._undeclared == "refused" else ("needs",)
            error = self.source.error(
                keys,
                f"profile {self.name!r} binds {bound.resource!r} to {bound.url.scheme}:, which lacks what it needs: "
                f"{', '.join(missing)}",
            )
            error.resource = bound.resource
            raise error

    def _resolve(self) -> Resolve:
        """Give what resolves the references of one binding."""
        return self._given or resolver(self.source.folder)

    def _undeclared_contract(self, name: str, kind: str, overrides: dict[str, Any]) -> Contract:
        if self._undeclared == "refused":
            of_kind = [one for one, declared in self.resources.items() if declared.kind == kind]
            hint = nearest(str(name), of_kind or self.resources)
            raise self.source.error(("resources",), f"no {kind} {name!r} is declared{hint}")
        if self._undeclared == "beside":
            return CONTRACTS[kind](**overrides)
        check_resource_name(name, (), self.source)
        if kind == "subscription" and "topic" not in overrides:
            raise self.source.error((), f"{name!r}: name its topic: cloud.subscription({name!r}, topic=…)")
        return read_contract(kind, _EMBEDDED_CONTRACTS.get(kind, {}) | overrides, keys=(name,), source=self.source)

    def _bound(self, name: str, kind: str, contract: Contract, place: Place) -> Bound:
        text = place.at.url or ""
        resolve = self._resolve()
        parsed = parse_url(text, resolve)
        written = default_url(parsed, kind, name) if place.by_default else parsed
        url = final_url(written, self.source.folder, kind)
        segments = self._provided(text, url.scheme, kind).place_segments
        options = url.options | resolved(place.at.options, resolve)
        written_names = written_options(text) | {key: holds_reference(of) for key, of in place.at.options.items()}
        shared = {}
        if place.of_topic or written is not parsed or (place.by_default and self._undeclared == "beside"):
            # The URL was written for another kind, whose options this one need not have.
            shared, options = options, {}
        own = place.own or Placed(place.at.keys)
        if place.own is not None and place.own is not place.at:
            options = resolved(own.options, resolve)
            written_names |= {key: holds_reference(of) for key, of in own.options.items()}
        physical = resolved(own.name, resolve) or (physical_name(written, segments) if own is place.at else None)
        physical = physical or name
        embedded = written.host is None
        create = own.create or place.at.create or self.table.create or ("if_missing" if embedded else "never")
        return Bound(
            resource=name,
            kind=kind,
            contract=contract,
            url=url,
            options=options,
            physical=physical,
            create=create == "if_missing",
            strict=bool(self.table.strict),
            limits=self.table.limits or (),
            shared_options=shared,
            referenced=frozenset(key for key in shared | options if written_names.get(key, True)),
            unwritten=frozenset(key for key in shared | options if key not in written_names),
            keys=place.keys,
            source=self.source,
        )

    def _provided(self, text: str, scheme: str, kind: str) -> Provider:
        try:
            return provider(scheme, kind)
        except ConfigError:
            if not text.startswith("${"):
                raise
            offered = ", ".join(f"{one}:" for one in schemes(kind))
            raise ConfigError(f"what the reference gives is no URL of a {kind}, which can be {offered}") from None

    def _check_names(self, bound: Bound, place: Place) -> None:
        """Refuse a physical name that the service itself, or one that the guard names, would refuse."""
        if bound.url.host is None and not bound.limits:
            return
        from portable.limits import check_name, guard  # noqa: PLC0415 (reads the table of limits)

        try:
            if bound.url.host is not None:
                check_name(bound.url.scheme, bound.kind, bound.physical)
            if kept := guard(bound.limits, bound.kind):
                kept.name(bound.physical)
        except LimitExceeded as error:
            if holds_reference(place.at.url or "") or holds_reference(getattr(place.own, "name", None)):
                raise ConfigError("the service does not take the name that the reference gives") from None
            raise ConfigError(error.message) from error
