"""`portable conformance`: prove what a live service keeps of the neutral API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from portable.cli.invocation import Call, command

if TYPE_CHECKING:
    from portable.testing.conforming import Outcome

__all__ = ["conformance"]

_KINDS = ("bucket", "queue", "topic", "subscription", "stream", "cache", "collection", "database")


@command(None, "conformance", example="portable conformance --url sqlite:/tmp/trial.db --kind queue")
@click.option("--url", required=True, help="Where to run; every case makes resources of its own and leaves them there.")
@click.option("--kind", type=click.Choice(_KINDS), required=True, help="The kind of resource.")
@click.option(
    "--only", default="", metavar="EXPRESSION", help="Only the cases that this expression chooses, as for pytest -k."
)
@click.option("--verbose", "-v", is_flag=True, help="Show all that there is to say of each failure.")
def conformance(call: Call, url: str, kind: str, only: str, verbose: bool) -> None:
    """Run the conformance suite of a kind, with both faces, and print the matrix. Exits with 1 when a case fails."""
    from portable.cli.output import progress
    from portable.errors import ConfigError

    try:
        from portable.testing.conforming import run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the conformance suites need the package {error.name!r}; "
            "install it with: pip install 'portable-cloud[testing]'"
        ) from error
    from portable.config import Profile
    from portable.registry import provider

    # A URL that nobody serves is told of once, not by every case.
    place = Profile.single(kind, url, {"topic": "events"} if kind == "subscription" else {})
    provider(place.bound(kind, kind).url.scheme, kind).load()
    with progress(f"proving {kind}, percent", 100) as report:
        outcome = run(kind, url, lambda done, total: report(done * 100 // total), only=only)
    _show(call, outcome, verbose=verbose)
    if not outcome.ok:
        from portable.cli.failures import FAILED

        raise click.exceptions.Exit(FAILED)


def _show(call: Call, outcome: Outcome, *, verbose: bool) -> None:
    row = outcome.row
    if call.as_json:
        call.show(
            {
                "kind": row.kind if row else None,
                "provider": row.scheme if row else None,
                "guarantees": row.guarantees if row else {},
                "capabilities": row.capabilities if row else {},
                "passed": row.passed if row else 0,
                "ran": row.ran if row else 0,
                "failures": [{"case": one.case, "message": one.message} for one in outcome.failures],
                "ok": outcome.ok,
            }
        )
        return
    if row is not None:
        call.show_table(("state", "guarantee"), [(state, name) for name, state in row.guarantees.items()], None)
        click.echo()
        call.show_table(("state", "capability"), [(state, name) for name, state in row.capabilities.items()], None)
        click.echo(f"\n{row.kind} at {row.scheme}: {row.passed} of {row.ran} cases of guarantees passed")
    else:
        click.echo("no case ran")
    for one in outcome.failures:
        click.echo(f"failed: {one.case}: {one.message}")
        if verbose:
            click.echo(one.detail)
