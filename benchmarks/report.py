"""What was measured: as JSON, as a plot, and as a table beside the targets of `targets.toml`."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.sampling import Figure

__all__ = ["Targets", "line", "missed", "plot", "write"]

_TARGETS = Path(__file__).with_name("targets.toml")


class Targets:
    """The most that each figure may be, or the least."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, float]] = tomllib.loads(_TARGETS.read_text(encoding="utf-8"))

    def of(self, name: str) -> str:
        """What is asked of a figure, in words; empty where nothing is."""
        target = self._by_name.get(name)
        if target is None:
            return ""
        return f"≤ {target['at_most']:g}" if "at_most" in target else f"≥ {target['at_least']:g}"

    def limit(self, name: str) -> float | None:
        """The number itself."""
        target = self._by_name.get(name)
        return None if target is None else next(iter(target.values()))

    def holds(self, figure: Figure) -> bool:
        """Whether a figure is what it must be."""
        target = self._by_name.get(figure.name, {})
        return figure.value <= target.get("at_most", figure.value) and figure.value >= target.get(
            "at_least", figure.value
        )

    def names(self, groups: Iterable[str]) -> list[str]:
        """The figures of some groups of which something is asked: their names begin with the group's."""
        return [name for name in self._by_name if name.split(":")[0].split()[0] in set(groups)]


def line(figure: Figure, targets: Targets) -> str:
    """One line of the table."""
    times = f"{_time(figure.ours):>9}  {_time(figure.theirs):>9}"
    wanted = targets.of(figure.name)
    verdict = "" if not wanted else "ok" if targets.holds(figure) else "MISSED"
    return f"{figure.name:<58} {_number(figure.value):>9} {figure.unit:<5} {times}  {wanted:<8} {verdict}".rstrip()


def _unit(figure: Figure) -> str:
    return "times theirs" if figure.unit == "times" else figure.unit


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.3g} µs"


def missed(figures: Sequence[Figure], targets: Targets, groups: Iterable[str]) -> list[str]:
    """Say of each target that was missed, or not measured, by how much."""
    found = [
        f"{figure.name}: {_number(figure.value)} {_unit(figure)}, and the target is {targets.of(figure.name)}"
        for figure in figures
        if not targets.holds(figure)
    ]
    measured = {figure.name for figure in figures}
    return found + [f"{name}: not measured" for name in targets.names(groups) if name not in measured]


def write(figures: Sequence[Figure], targets: Targets, path: Path, *, quick: bool, seconds: float) -> None:
    """Write the report as JSON."""
    rows: list[dict[str, Any]] = []
    for figure in figures:
        row = asdict(figure) | {"target": targets.of(figure.name) or None}
        rows.append(row | {"holds": targets.holds(figure) if row["target"] else None})
    report = {
        "quick": quick,
        "seconds": round(seconds, 1),
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "processors": os.cpu_count(),
            "load": os.getloadavg(),
            "sqlite": sqlite3.sqlite_version,
        },
        "figures": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def plot(figures: Sequence[Figure], targets: Targets, path: Path) -> None:
    """Draw each figure that has a target as a bar, in shares of its target: what reaches over the line is missed."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        print(
            f"no plot: matplotlib is missing; pip install -r {_TARGETS.with_name('requirements.txt')}", file=sys.stderr
        )
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [(figure, limit) for figure in figures if (limit := targets.limit(figure.name)) is not None]
    shares = [_share(figure, limit) for figure, limit in shown]
    canvas, axes = plt.subplots(figsize=(10, 1.5 + 0.25 * len(shown)), layout="constrained")
    colours = ["tab:green" if targets.holds(figure) else "tab:red" for figure, _ in shown]
    axes.barh([figure.name for figure, _ in shown], shares, color=colours)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlim(0, 1.6)
    axes.invert_yaxis()
    axes.set_xlabel("share of the target; over 1 it is missed")
    for place, (figure, _) in enumerate(shown):
        label = f" {_number(figure.value)} {figure.unit} ({targets.of(figure.name)})"
        axes.text(min(shares[place], 1.3), place, label, va="center", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    canvas.savefig(path)
    plt.close(canvas)


def _share(figure: Figure, limit: float) -> float:
    if limit == 0:
        return 2.0 if figure.value else 0.0
    return figure.value / limit
