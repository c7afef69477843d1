"""How far a group has come in one partition, where messages are done in any order."""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec

__all__ = ["Progress", "fitted"]

LONGEST_TEXT = 3500
"""Characters beside a committed offset: brokers take 4096 bytes (`offset.metadata.max.bytes`)."""


class _Beyond(msgspec.Struct, omit_defaults=True):
    """What is kept beside a committed offset.

    Attributes:
        to: everything before this offset is done,
        open: but these,
        tries: of which these were delivered and given back so often already.
    """

    to: int = 0
    open: list[int] = []
    tries: dict[int, int] = {}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Beyond).decode


class Progress:
    """What of a partition is done; it is changed under its owner's lock.

    The committed offset never goes past a message that is not done. What is done beyond it is written beside it, so
    that neither a rebalance nor a crash gives it again.

    Args:
        start: the committed offset, where reading starts.
        text: what was committed with it.
    """

    def __init__(self, start: int, text: str = "") -> None:
        self._following = start
        self._open: dict[int, None] = {}
        self._done_to = start
        self._before = _read(text)
        self._left_open = frozenset(self._before.open)
        self.tries = dict(self._before.tries)
        # What was committed last, and last trimmed.
        self.committed = start
        self.trimmed = start
        # Up to which commit it is kept: what was done after that, others will not learn.
        self.kept_to = math.inf

    @property
    def following(self) -> int:
        """The offset after the last message that was seen."""
        return self._following

    def see(self, offset: int) -> bool:
        """Learn of the next message; False where it was done before this consumer came."""
        self._following = offset + 1
        if offset < self._before.to and offset not in self._left_open:
            self._done_to = max(self._done_to, offset + 1)
            return False
        self._open[offset] = None
        return True

    def reach(self, offset: int) -> None:
        """Learn that there is no message before an offset which was not seen."""
        self._following = max(self._following, offset)

    def finish(self, offset: int) -> None:
        """Count a message as done."""
        if offset in self._open:
            del self._open[offset]
            if offset >= self._done_to:
                self._done_to = offset + 1
            if self.tries:
                self.tries.pop(offset, None)

    @property
    def position(self) -> int:
        """The offset before which everything is done."""
        return next(iter(self._open), self._following)

    def state(self, finishing: Collection[int] = ()) -> tuple[int, str]:
        """Give the offset and the text to commit, as they are once some more messages are done.

        Args:
            finishing: offsets of messages that count as done.
        """
        if not (finishing or self.tries or self._before.to > self._following) and self.position >= self._done_to:
            return self.position, ""
        done_to = max(self._done_to, max(finishing, default=-1) + 1)
        still = [offset for offset in self._open if offset not in finishing]
        start = still[0] if still else self._following
        tries = {offset: count for offset, count in self.tries.items() if offset not in finishing}
        # What was done before this consumer came, and was not seen again yet, is still done.
        seen_to = self._following
        if self._before.to > seen_to:
            still += [offset for offset in self._before.open if offset >= seen_to]
            done_to = max(done_to, self._before.to)
        known = [offset for offset in still if offset < done_to]
        if done_to <= start and not tries:
            return start, ""
        text = _encode(_Beyond(done_to if done_to > start else 0, known, tries)).decode()
        while len(text) > LONGEST_TEXT:
            # What does not fit is given again, should it come to that.
            known, tries = known[: len(known) // 2], {}
            text = _encode(_Beyond(still[len(known)], known)).decode()
        return start, text


def fitted(text: str, most: int) -> str:
    """Shorten what is kept beside an offset; what has no room is given again, should it come to that.

    Args:
        text: a text of `Progress.state`.
        most: how many characters there is room for.
    """
    beyond = _read(text) if len(text) > most else None
    while beyond is not None and len(text) > most:
        if beyond.tries:
            beyond = _Beyond(beyond.to, beyond.open)
        else:
            kept = len(beyond.open) // 2
            beyond = _Beyond(beyond.open[kept] if beyond.open else 0, beyond.open[:kept])
        text = _encode(beyond).decode()
    return text


def _read(text: str) -> _Beyond:
    try:
        return _decode(text) if text else _Beyond()
    except msgspec.MsgspecError:
        # Another program commits for this group, too.
        return _Beyond()
