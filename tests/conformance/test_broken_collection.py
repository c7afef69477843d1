"""The suite of collections notices every broken driver, by the case that is meant to."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.broken import collection
from tests.conformance.broken.run import SOUND, outcomes

CAUGHT_BY = {f"Test{driver.__name__}": case for driver, case in collection.DEFECTS.items()}


def test_every_defect_is_caught() -> None:
    found: dict[tuple[str, str], set[str]] = {}
    for (suite, case), outcome in outcomes(Path(collection.__file__), CAUGHT_BY).items():
        found.setdefault((suite, case.partition("[")[0]), set()).add(outcome)
    # A case with parameters notices a defect when it fails for any of them.
    noticed = {suite: "failed" in found[suite, case] for suite, case in CAUGHT_BY.items()}
    assert noticed == dict.fromkeys(CAUGHT_BY, True)
    assert all(found[SOUND, case] == {"passed"} for case in CAUGHT_BY.values())
