"""The reference names every key that there is, with its default."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from portable.config import Config
from portable.contracts import CONTRACTS
from portable.quantities import Duration

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| (.*?) \|", PAGE, re.MULTILINE)}


@pytest.mark.parametrize("kind", CONTRACTS)
def test_every_contract_key_is_documented_with_its_kinds_and_default(kind):
    made: Any = CONTRACTS[kind]
    contract = made(topic="events") if kind == "subscription" else made()
    for key in contract.__struct_fields__:
        kinds, default = ROWS[key]
        assert kinds == "all" or kind in kinds.split(", ")
        if default.startswith("`"):
            written = tomllib.loads(f"value = {default.strip('`')}")["value"]
            value = getattr(contract, key)
            assert value == (
                Duration.parse(written) if isinstance(value, Duration) else written or type(value)(written)
            )


def test_the_page_documents_no_key_that_there_is_not():
    known = {"kind"}.union(*(contract.__struct_fields__ for contract in CONTRACTS.values()))
    assert set(ROWS) == known


def test_the_examples_of_the_page_are_read():
    example = re.search(r"```toml\n(default_profile.*?)```", PAGE, re.DOTALL)
    assert example is not None
    config = Config.from_dict(tomllib.loads(example[1]))
    assert config.profiles == ["local", "aws"]
