"""`portable resources`: what the backends lack of what the contracts ask for, shown and made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, command, group

if TYPE_CHECKING:
    from portable.changes import Change
    from portable.cloud import Cloud
    from portable.resource import Resource

__all__ = ["resources"]

resources = group("resources", "Show, make and check queues, subscriptions, tables and the like.")


@command(resources, "plan", example="portable resources plan --profile aws")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def plan(call: Call, names: tuple[str, ...]) -> None:
    """Show what `create` would make or change, of all resources or of those named."""
    with call.cloud() as cloud:
        _show(call, [(one, _planned(one)) for one in _chosen(cloud, names)])


@command(resources, "create", example="portable resources create jobs mailer --profile aws")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def create(call: Call, names: tuple[str, ...]) -> None:
    """Make what is missing, and show it; again it does nothing."""
    from portable.cli.output import progress

    with call.cloud() as cloud:
        chosen = _chosen(cloud, names)
        done = []
        with progress("making resources", len(chosen)) as report:
            for number, one in enumerate(chosen, 1):
                changes = _planned(one)
                if changes:
                    _placed(one, "create", one._driver.create)  # noqa: SLF001 (administration has no neutral method)
                done.append((one, changes))
                report(number)
        _show(call, done, past=True)


@command(resources, "check", example="portable resources check --profile aws")
@click.argument("names", metavar="[NAME]...", nargs=-1)
def check(call: Call, names: tuple[str, ...]) -> None:
    """Exit with 1 when anything is missing or not as the contract asks."""
    with call.cloud() as cloud:
        planned = [(one, _planned(one)) for one in _chosen(cloud, names)]
        _show(call, planned)
    if any(changes for _, changes in planned):
        from portable.cli.failures import FAILED

        raise click.exceptions.Exit(FAILED)


def _chosen(cloud: Cloud, names: tuple[str, ...]) -> list[Resource[Any]]:
    """Give the resources to look at: topics before their subscriptions, else in the order of the config."""
    declared = cloud.resources()
    known = {one.name for one in declared}
    for name in names:
        if name not in known:
            from portable.config.source import nearest
            from portable.errors import ConfigError

            raise ConfigError(f"no resource {name!r} is declared{nearest(name, known)}")
    chosen = [one for one in declared if not names or one.name in names]
    return sorted(chosen, key=lambda one: one.kind == "subscription")


def _planned(resource: Resource[Any]) -> list[Change]:
    changes: list[Change] = _placed(resource, "plan", resource._driver.plan)  # noqa: SLF001 (administration has no neutral method)
    return changes


def _placed(resource: Resource[Any], operation: str, call: Any) -> Any:
    from portable.errors import PortableError

    try:
        return call()
    except PortableError as error:
        raise resource._placed(error, operation)  # noqa: SLF001, B904 (says where it was, in the same error)


def _show(call: Call, planned: list[tuple[Resource[Any], list[Change]]], *, past: bool = False) -> None:
    structure = [
        {
            "resource": one.name,
            "kind": one.kind,
            "url": one.url,
            "changes": [
                {"action": change.action, "what": change.what, "name": change.name, "detail": change.detail}
                for change in changes
            ],
        }
        for one, changes in planned
    ]
    if call.as_json:
        call.show(structure)
        return
    rows = [
        (one.name, change.action, f"{change.what} {change.name}", change.detail)
        for one, changes in planned
        for change in changes
    ]
    if rows:
        call.show_table(("resource", "action", "what", "detail"), rows, structure)
    else:
        click.echo(
            "nothing to do: everything is as the contract asks" if past else "everything is as the contract asks"
        )
