"""The command's help: complete, with examples, and in step with the docs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from portable.cli.program import portable
from portable.cli.reference import page

ROOT = Path(__file__).parents[2]


def commands(parent: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in parent.list_commands(context):
        found = parent.get_command(context, name)
        assert found is not None
        inner = click.Context(found, parent=context, info_name=name)
        if isinstance(found, click.Group):
            yield from commands(found, inner)
        else:
            yield inner.command_path, found


ALL = dict(commands(portable, click.Context(portable, info_name="portable", **portable.context_settings)))


def test_every_command_of_the_contract_is_there() -> None:
    wanted = """
        init / config schema / config explain / config check / resources plan / resources create / resources check /
        doctor / conformance / worker / outbox relay / bucket put / bucket get / bucket cat / bucket rm / bucket ls /
        bucket cp / queue send / queue receive / queue peek / queue stats / queue redrive / queue purge /
        topic publish / stream append / stream tail / cache get / cache set / cache del / collection get /
        collection put / collection query / services search / services show / services install / services up /
        services down / services status / services binding / services logs / services upgrade / services backup /
        services restore / services uninstall / services render / services validate / services schema /
        services mirror / services repo add / services repo list / services repo remove / services repo index
    """
    assert set(ALL) == {f"portable {' '.join(name.split())}" for name in wanted.split("/")}


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_an_example_and_the_common_options(name: str) -> None:
    found = ALL[name]
    options = {option for parameter in found.params for option in parameter.opts}
    assert {"--config", "--profile", "--json"} <= options
    assert found.help
    assert found.epilog is not None
    assert found.epilog.startswith(f"Example: {name}")
    assert all(parameter.help for parameter in found.params if isinstance(parameter, click.Option))


@pytest.mark.parametrize("name", ALL)
def test_every_help_fits_a_terminal(name: str) -> None:
    result = click.Context(ALL[name], info_name=name, terminal_width=100, **portable.context_settings).get_help()
    assert max(map(len, result.splitlines())) <= 100


def test_the_reference_is_what_the_help_says() -> None:
    written = (ROOT / "docs" / "reference" / "command.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m portable.cli.reference docs/reference/command.md"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from portable.cli.program import run\n"
        "before = set(sys.modules)\n"
        "run(['--help'])\n"
        "assert not {'rich', 'sqlalchemy', 'pytest', 'portable.cli.bucket'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: portable" in done.stdout
