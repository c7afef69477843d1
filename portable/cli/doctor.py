"""`portable doctor`: a report on the environment, and a probe of every resource."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, command

if TYPE_CHECKING:
    from portable.checks import CheckResult

__all__ = ["doctor"]

_REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+).*extra\s*==\s*['"]([a-z0-9-]+)['"]""")


@command(None, "doctor", example="portable doctor --profile aws --write")
@click.option("--write", is_flag=True, help="Also prove that writing is allowed; nothing is left behind.")
@click.option("--timeout", type=float, default=5.0, show_default=True, help="Seconds for each resource.")
def doctor(call: Call, write: bool, timeout: float) -> None:
    """Report on the environment, and probe every resource of the profile. Exits with 1 when a probe fails."""
    from portable.cli.output import working

    environment = _environment()
    # Shown before the config is read, which may be what is wrong.
    _show_facts(call, environment)
    with call.cloud() as cloud:
        place = {"config": _config_file(call), "profile": cloud.profile}
        _show_facts(call, place)
        with working("probing every resource"):
            found = cloud.check(timeout, write=write)
    if call.as_json:
        call.show({"environment": environment | place, "resources": [_structure(one) for one in found]})
    else:
        click.echo()
        _show(call, found)
    if not all(one.ok for one in found):
        from portable.cli.failures import FAILED

        raise click.exceptions.Exit(FAILED)


def _environment() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    from portable.registry import adapters

    schemes = sorted({scheme for adapter in adapters() for scheme in adapter.schemes} - {"*"})
    return {
        "portable": version("portable-cloud"),
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()})",
        "extras": ", ".join(name for name, packages in _extras().items() if all(map(_installed, packages))) or "none",
        "schemes": ", ".join(schemes),
    }


def _show_facts(call: Call, facts: dict[str, str]) -> None:
    for name, value in facts.items():
        call.show_text(f"{name:<10}{value}")


def _extras() -> dict[str, list[str]]:
    """Give each extra of ours, and the packages that it brings."""
    from importlib.metadata import requires

    found: dict[str, list[str]] = {}
    for requirement in requires("portable-cloud") or ():
        match = _REQUIREMENT.match(requirement)
        if match and match[1] != "portable-cloud":
            found.setdefault(match[2], []).append(match[1])
    return found


def _installed(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _config_file(call: Call) -> str:
    return str(call.loaded().path or "none: the embedded default")


def _structure(result: CheckResult) -> dict[str, Any]:
    from portable.cli.failures import described

    return {
        "resource": result.resource,
        "kind": result.kind,
        "ok": result.ok,
        "seconds": round(result.seconds, 4),
        "url": result.url,
        "error": described(result.error) if result.error is not None else None,
    }


def _show(call: Call, found: list[CheckResult]) -> None:
    if not found:
        click.echo("no resource is declared; `portable init` writes a config to start from")
        return
    rows = [
        (
            one.resource,
            one.kind,
            "ok" if one.ok else "FAILED",
            f"{one.seconds * 1000:.0f} ms",
            one.url if one.error is None else str(one.error),
        )
        for one in found
    ]
    call.show_table(("resource", "kind", "state", "took", "where"), rows, None)
