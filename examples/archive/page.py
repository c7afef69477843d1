"""The page: one HTML file with its charts inside, and nothing to load."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from followers import Followers
from report import Totals
from verify import Finding

__all__ = ["Outcome", "page"]

_WIDTH, _HEIGHT, _BINS = 720, 220, 48
_COLOURS = ("#3b82c4", "#e08a3c", "#5aa469", "#a06cb4", "#c8553d", "#7a7f87")
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td { padding: .15rem .5rem; border-bottom: 1px solid #8884; }
td + td { text-align: right; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.wrong { color: #c8553d; }
"""


@dataclass(frozen=True)
class Outcome:
    """All that the page tells."""

    run: str
    profile: str
    folder: str
    totals: Totals
    followers: Followers
    killed: Mapping[str, float]
    hot: list[tuple[str, int]]
    largest: list[tuple[str, int]]
    findings: list[Finding]
    steps: list[tuple[str, str, float]]


def page(outcome: Outcome) -> str:
    """Write the page."""
    totals = outcome.totals
    extensions = totals.extension_bytes.most_common(8)
    verdict = "".join(
        f"<tr class={'wrong' if one.wrong else 'right'}><td>{escape(one.what)}"
        f"<td>{f'{len(one.wrong):,} wrong' if one.wrong else 'yes'}"
        for one in outcome.findings
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Archive {escape(outcome.run)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>
<h1>{totals.files:,} files, {totals.words:,} words</h1>
<p>{escape(outcome.folder)}, archived on the profile <b>{escape(outcome.profile)}</b>, run {escape(outcome.run)}.</p>
<h2>Files by worker, over time</h2>
{_timeline(outcome.followers, outcome.killed)}
<h2>Is it all there?</h2><table>{verdict}</table>
<h2>Bytes by extension</h2>
{_bars(extensions)}
<h2>Hot terms</h2>{_table(outcome.hot)}
<h2>Largest sources</h2>{_table(outcome.largest)}
<h2>Steps</h2>{_table((f"{name}: {what}", f"{seconds:.2f} s") for name, what, seconds in outcome.steps)}
</html>
"""


def _table(rows: Iterable[tuple[str, object]]) -> str:
    cells = (f"<tr><td>{escape(name)}<td>{_number(value)}" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _timeline(followers: Followers, killed: Mapping[str, float]) -> str:
    """Draw stacked bars of what each worker did, and a line where one was killed."""
    taken = [(click.worker, at) for click, at in followers.clicks.values()]
    if not taken:
        return "<p>Nothing was done.</p>"
    moments = [at for _, at in taken] + list(killed.values())
    first, last = min(moments), max(moments)
    span = max(last - first, 0.001)
    bins = Counter((worker, min(int((at - first) / span * _BINS), _BINS - 1)) for worker, at in taken)
    workers = sorted({worker for worker, _ in taken}, key=lambda name: (len(name), name))
    top = max(sum(bins[worker, i] for worker in workers) for i in range(_BINS))
    scale, step = (_HEIGHT - 40) / top, _WIDTH / _BINS
    drawn = []
    for i in range(_BINS):
        y = float(_HEIGHT - 20)
        for colour, worker in enumerate(workers):
            if height := bins[worker, i] * scale:
                y -= height
                drawn.append(_bar(i * step, y, step - 1, height, _COLOURS[colour % len(_COLOURS)]))
    for name, at in killed.items():
        x = (at - first) / span * _WIDTH
        anchor = "start" if x < _WIDTH / 2 else "end"
        drawn.append(
            f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{_HEIGHT - 20}" stroke="currentColor" stroke-dasharray="4 3"/>'
            f'<text x="{x:.1f}" y="12" dx="{4 if anchor == "start" else -4}" text-anchor="{anchor}">'
            f"{escape(name)} killed</text>"
        )
    drawn += [
        f'<text x="0" y="{_HEIGHT - 4}">0 s</text>',
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{span:.1f} s</text>',
    ]
    legend = " ".join(
        f'<span style="color:{_COLOURS[i % len(_COLOURS)]}">■</span> {escape(name)}' for i, name in enumerate(workers)
    )
    return _svg(_HEIGHT, drawn, "files by worker over time") + f"<p>{legend}</p>"


def _bars(rows: list[tuple[str, int]]) -> str:
    most = max((value for _, value in rows), default=1)
    drawn = []
    for i, (name, value) in enumerate(rows):
        y = i * 24
        # A few large files would make all the others vanish on a linear scale.
        width = math.log1p(value) / math.log1p(most or 1) * (_WIDTH - 220)
        drawn.append(f'<text x="90" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        drawn.append(_bar(100, y + 3, width, 16, _COLOURS[0]))
        drawn.append(f'<text x="{106 + width:.1f}" y="{y + 15}">{value:,}</text>')
    return _svg(len(rows) * 24, drawn, "bytes by extension, on a logarithmic scale")


def _bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _svg(height: int, drawn: list[str], title: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img"><title>{title}</title>{"".join(drawn)}</svg>'
