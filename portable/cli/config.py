"""`portable config`: the config file, explained and checked without connecting to anything."""

from __future__ import annotations

import click

from portable.cli.invocation import Call, command, group

__all__ = ["config"]

config = group("config", "Check and explain the config file; nothing is connected.")


@command(config, "schema", example="portable config schema > portable.schema.json")
def schema(_: Call) -> None:
    """Print the JSON Schema of portable.toml, for editors."""
    from portable.cli.output import to_json
    from portable.config import Config

    click.echo(to_json(Config.schema()))


@command(config, "explain", example="portable config explain --profile aws")
def explain(call: Call) -> None:
    """Show each value in force, and where it came from; secrets are hidden."""
    from portable.cli.output import to_json

    values = call.loaded().explain(call.profile)
    structure = [{"path": one.path, "value": one.value, "origin": one.origin} for one in values]
    rows = [(one.path, one.value if isinstance(one.value, str) else to_json(one.value), one.origin) for one in values]
    call.show_table(("path", "value", "from"), rows, structure)


@command(config, "check", example="portable config check --all-profiles")
@click.option("--all-profiles", is_flag=True, help="Check every profile, not only the one in force.")
def check(call: Call, all_profiles: bool) -> None:
    """Check every resource against its binding: schemes, options, names and needs. Exits with 3 on a problem."""
    loaded = call.loaded()
    checked = loaded.profiles if all_profiles else [loaded.profile(call.profile).name]
    problems = [problem for problem in loaded.check_all() if problem.profile in checked]
    structure = [
        {"profile": one.profile, "resource": one.resource, "severity": one.severity, "message": one.message}
        for one in problems
    ]
    call.show({"profiles": checked, "problems": structure})
    if not call.as_json:
        for one in problems:
            click.echo(f"{one.severity}: {one.profile}: {one.resource}: {one.message}")
        if not problems:
            click.echo(f"no problems in {', '.join(checked)}")
    if any(one.severity == "error" for one in problems):
        from portable.cli.failures import CONFIG

        raise click.exceptions.Exit(CONFIG)
