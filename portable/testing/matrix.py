"""The support matrix: what a run of the conformance suites has proven of each provider."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from portable.contracts import CONTRACTS
from portable.registry import installed

__all__ = ["Case", "Collector", "Matrix", "Row"]

State = Literal["passed", "failed", "skipped"]

_PROPERTY = "portable_case"
_SIGNS = {"proven": "✓", "failed": "✗", "not declared": "·", "not proven": "?"}

_HEAD = """\
# Support matrix

Written by a run of the conformance suites (`make matrix`), never by hand. What every provider must keep is a
guarantee: a row counts the cases that passed, of the sync and the async face. What only some have is a capability:
✓ declared and proven, · not declared and refused before anything is sent, ✗ declared and not kept, ? declared and not
proven by this run.
"""


class Case(msgspec.Struct, frozen=True):
    """One case of a suite, as it ran against one URL.

    Attributes:
        kind: the suite's kind.
        scheme: of the URL.
        face: `"sync"` or `"aio"`.
        name: the case's name, in words.
        needs: the capabilities that it proves.
        lacks: the capabilities whose refusal it proves.
        declared: what the driver declares.
    """

    kind: str
    scheme: str
    face: str
    name: str
    needs: list[str]
    lacks: list[str]
    declared: list[str]


class Row(msgspec.Struct, kw_only=True):
    """What was proven of one kind at one provider.

    Attributes:
        kind: the kind.
        scheme: the provider.
        guarantees: each guarantee's case → its state, the worse one of the two faces.
        passed: how many cases of guarantees passed, each face for itself.
        ran: of how many.
        capabilities: each capability → `"proven"`, `"failed"`, `"not declared"` or `"not proven"`.
    """

    kind: str
    scheme: str
    guarantees: dict[str, State]
    passed: int
    ran: int
    capabilities: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether everything that must hold, or is declared, does."""
        return self.passed == self.ran and "failed" not in self.capabilities.values()


class Matrix:
    """What the cases of a run came to."""

    def __init__(self) -> None:
        self._cases: dict[str, tuple[Case, State]] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Take note of one phase of a test; what is no case of a suite is passed over."""
        told = next((value for name, value in report.user_properties if name == _PROPERTY), None)
        if told is None:
            return
        before = self._cases.get(report.nodeid)
        state: State = report.outcome
        # A skip shows in the set-up, a failure anywhere; a pass only counts where the case itself ran.
        if before is None or state == "failed" or (report.when == "call" and before[1] != "failed"):
            self._cases[report.nodeid] = (msgspec.convert(told, Case), state)

    def rows(self) -> list[Row]:
        """Give a row for each kind and provider that ran, in the order of the kinds, then by name."""
        groups: dict[tuple[str, str], list[tuple[Case, State]]] = {}
        for case, state in self._cases.values():
            groups.setdefault((case.kind, case.scheme), []).append((case, state))
        kinds = list(CONTRACTS)
        ordered = sorted(groups, key=lambda group: (kinds.index(group[0]), group[1]))
        return [_row(kind, scheme, groups[kind, scheme]) for kind, scheme in ordered]

    def markdown(self) -> str:
        """Write the matrix as a page of the docs."""
        lines = [_HEAD]
        # Drivers that only a test registers are there to prove the suites, not for anybody to choose.
        schemes = {scheme for adapter in installed() for scheme in adapter.schemes}
        rows = [row for row in self.rows() if row.scheme in schemes]
        for kind in dict.fromkeys(row.kind for row in rows):
            features = CONTRACTS[kind].capabilities.features()
            lines += [f"## {kind}", "", _line(["provider", "guarantees", *(f"`{name}`" for name in features)])]
            lines.append("|" + "---|" * (2 + len(features)))
            for row in rows:
                if row.kind == kind:
                    count = f"{row.passed}/{row.ran} {'✓' if row.passed == row.ran else '✗'}"
                    signs = [_SIGNS[row.capabilities[name]] for name in features]
                    lines.append(_line([f"`{row.scheme}:`", count, *signs]))
            lines.append("")
        return "\n".join(lines)


class Collector:
    """Follows a run of pytest, and tells the matrix of it; with pytest-xdist the workers' reports carry the cases.

    Attributes:
        matrix: what was collected so far.
    """

    def __init__(self, target: Path | None = None) -> None:
        """Follow a run.

        Args:
            target: where the page is written at the end of the run, or None.
        """
        self.matrix = Matrix()
        self._target = target

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say in a report which case of which suite it is about."""
        report = yield
        case = _case(item)
        if case is not None:
            report.user_properties.append((_PROPERTY, msgspec.to_builtins(case)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a report."""
        self.matrix.add(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page, in the process that has all reports."""
        if self._target is not None and not hasattr(session.config, "workerinput"):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._target.write_text(self.matrix.markdown(), encoding="utf-8")


def _case(item: pytest.Item) -> Case | None:
    from portable.testing import suite
    from portable.testing.aio import suite as aio_suite

    tested = getattr(item, "cls", None)
    if tested is None or not issubclass(tested, (suite.Suite, aio_suite.Suite)) or tested.kind not in CONTRACTS:
        return None
    opened = getattr(getattr(item, "instance", None), "_open_ones", [])
    capabilities = opened[0].capabilities if opened else None
    features = capabilities.features() if capabilities is not None else ()
    return Case(
        kind=tested.kind,
        scheme=tested.url.partition(":")[0],
        face="aio" if issubclass(tested, aio_suite.Suite) else "sync",
        name=_in_words(item.name),
        needs=_marked(item, "portable_needs"),
        lacks=_marked(item, "portable_lacks"),
        declared=[name for name in features if getattr(capabilities, name)],
    )


def _in_words(name: str) -> str:
    """Write a case's name as a sentence; what it is tried with is not told apart."""
    return name.partition("[")[0].removeprefix("test_").replace("_", " ")


def _marked(item: pytest.Item, mark: str) -> list[str]:
    return sorted({feature for one in item.iter_markers(mark) for feature in one.args})


def _row(kind: str, scheme: str, cases: list[tuple[Case, State]]) -> Row:
    guarantees: dict[str, State] = {}
    counted: list[State] = []
    for case, state in cases:
        if case.needs or case.lacks:
            continue
        counted.append(state)
        guarantees[case.name] = _worse(guarantees.get(case.name, "passed"), state)
    declared = {name for case, _ in cases for name in case.declared}
    return Row(
        kind=kind,
        scheme=scheme,
        guarantees=guarantees,
        passed=counted.count("passed"),
        ran=len(counted),
        capabilities={
            name: _proof(name in declared, _states(cases, name)) for name in CONTRACTS[kind].capabilities.features()
        },
    )


def _states(cases: Iterable[tuple[Case, State]], feature: str) -> list[State]:
    return [state for case, state in cases if feature in case.needs or feature in case.lacks]


def _proof(declared: bool, states: list[State]) -> str:  # noqa: FBT001 (one of two facts that make up the answer)
    if "failed" in states:
        return "failed"
    if not declared:
        return "not declared"
    return "proven" if "passed" in states else "not proven"


def _worse(one: State, other: State) -> State:
    order: list[State] = ["failed", "skipped", "passed"]
    return min(one, other, key=order.index)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
