"""What `portable config check` finds without connecting: every resource under every profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from portable.bindings import Binding, Shared
from portable.config.bound import Bound, check_option_names, read_options
from portable.config.profiles import Profile
from portable.config.references import check_reference
from portable.config.services import ServiceNotInstalledError
from portable.contracts import SubscriptionContract
from portable.errors import PortableError
from portable.registry import provider

if TYPE_CHECKING:
    from portable.config.config import Config

__all__ = ["Problem", "check_profile"]


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a resource under a profile.

    Attributes:
        profile: the profile's name.
        resource: the resource's name.
        message: what is wrong, where, and what to do.
        severity: `"warning"` where it cannot be told here, as of a service that is installed elsewhere.
    """

    profile: str
    resource: str
    message: str
    severity: Literal["error", "warning"] = "error"


def check_profile(config: Config, name: str) -> list[Problem]:
    """Check every resource under a profile: its binding, options, physical name, and what its driver can do."""
    profile = config.profile(name, resolve=_placeholder)
    problems = []
    for resource, kind in profile.declared().items():
        try:
            _check(profile, resource, kind)
        except ServiceNotInstalledError as error:
            problems.append(Problem(name, resource, error.message, "warning"))
        except PortableError as error:
            problems.append(Problem(name, resource, error.message))
    return problems


def _placeholder(scheme: str, argument: str) -> str:
    """Stand in for what a reference gives: a number is a good port, path, host and password alike."""
    check_reference(scheme, argument)
    return "0"


def _check(profile: Profile, resource: str, kind: str) -> None:
    place = profile.place(resource, profile.contract(resource, kind))
    if (place.at.url or "").startswith("${"):
        # The reference gives the scheme too, so nothing more can be told; but it must be one that is resolved.
        profile.check_references(place)
        return
    bound = profile.bound(resource, kind)
    driver_class = provider(bound.url.scheme, kind).load()
    shared = Shared()
    try:
        options = _options(bound, driver_class)
        if options is not None:
            driver = driver_class(_binding(profile, bound, options, shared))
            profile.check_needs(bound, driver.capabilities)
    finally:
        shared.close()


def _options(bound: Bound, driver_class: Any) -> Any:
    """Read the options that hold no reference; None where one that must be given does."""
    check_option_names(bound, driver_class.Options)
    # A reference stands for an option's value here, and never for its name: what nobody wrote is of a service.
    referenced = bound.referenced - bound.unwritten
    known = {name: value for name, value in bound.options.items() if name not in referenced}
    shared = {name: value for name, value in bound.shared_options.items() if name not in referenced}
    fields = msgspec.structs.fields(driver_class.Options)
    if any(field.required and field.encode_name in referenced for field in fields):
        return None
    return read_options(msgspec.structs.replace(bound, options=known, shared_options=shared), driver_class.Options)


def _binding(profile: Profile, bound: Bound, options: Any, shared: Shared) -> Binding[Any]:
    topic: Binding[Any] | None = None
    if isinstance(bound.contract, SubscriptionContract):
        there = profile.bound(bound.contract.topic, "topic")
        there_options = _options(there, provider(there.url.scheme, "topic").load())
        topic = None if there_options is None else _binding(profile, there, there_options, shared)
    return Binding(
        resource=bound.resource,
        kind=bound.kind,
        name=bound.physical,
        url=bound.url,
        options=options,
        contract=bound.contract,
        create=bound.create,
        shared=shared,
        topic=topic,
    )
