"""What a cluster keeps beside an offset, where it has little room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable_kafka.progress import Progress, fitted


def done(start: int, text: str, total: int) -> set[int]:
    """Give the offsets that whoever reads on from a commit counts as done."""
    progress = Progress(start, text)
    return {offset for offset in range(total) if offset < start or not progress.see(offset)}


@given(st.sets(st.integers(0, 299), min_size=1), st.sets(st.integers(0, 299), max_size=20), st.integers(64, 1024))
def test_what_has_no_room_counts_as_not_done(finished: set[int], tried: set[int], most: int) -> None:
    progress = Progress(0)
    for offset in range(300):
        progress.see(offset)
    for offset in finished:
        progress.finish(offset)
    progress.tries.update(dict.fromkeys(tried - finished, 2))
    start, text = progress.state()
    short = fitted(text, most)
    assert len(short) <= most
    assert done(start, short, 300) <= done(start, text, 300) <= finished | set(range(start))
    if len(text) <= most:
        assert short == text


@pytest.mark.parametrize("text", ["", "another program's", '{"to": 3}'])
def test_what_fits_or_is_not_ours_stays(text: str) -> None:
    assert fitted(text, 64) == text
