"""News of other processes: PostgreSQL tells them; at MySQL one thread a process looks for all who wait."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from time import monotonic

from portable.errors import PortableError
from portable.news import News, Stop
from portable_sql.servers import Server

__all__ = ["CHANNEL", "Listener", "Looker", "Teller"]

CHANNEL = "portable"
"""The channel of PostgreSQL's `NOTIFY`; its payload is the name of one of ours."""

QUIET = 0.01
"""Seconds: whoever is told of a channel looks again so much later, and until then nobody has to tell of it again."""

LOOK_ANYWAY = 5.0
"""Seconds after which everybody looks though nothing was heard: a connection pooler in between may swallow news."""

CONNECTS_WITHIN = 10.0
TICK = 0.1
SOONEST, LATEST = 0.01, 0.25
"""Seconds between two looks: at once after there was something, and the longer the less there is."""


class Teller:
    """Tells other processes of channels, once what they are told of is committed.

    It is not done by the statement that writes: while a transaction with a notification commits, its wait for the disk
    included, every other such one waits. Nor is it done each time in a burst, for whoever hears of a channel looks
    again a moment later. A process that dies in between has others look after `LOOK_ANYWAY` at the latest.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._since: dict[str, float] = {}

    def tell(self, channels: Sequence[str], *, timeout: float) -> None:
        """Tell of channels, but for those that everybody is going to look at anyway."""
        now = monotonic()
        due = [channel for channel in channels if now - self._since.get(channel, 0.0) >= QUIET]
        if not due:
            return
        # What was written is safe, heard of or not.
        with contextlib.suppress(PortableError):
            self._server.fetch(_TELL, (CHANNEL, due), timeout=timeout, again=True)
            self._since.update(dict.fromkeys(due, now))


# A notification takes a number from the server's clock of transactions, and so would wait for the disk.
_TELL = """SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, channel)
    FROM unnest(%s::text[]) AS channel"""


class Listener:
    """A connection that listens, and is nobody else's; satisfies `portable.news.Watch`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __call__(self, news: News, stop: Stop) -> None:
        """Tell `news` what is heard; ends when nobody has waited for a while."""
        connection = self._server.connect(monotonic() + CONNECTS_WITHIN)
        raw = connection.raw
        try:
            connection.begin_call(monotonic() + CONNECTS_WITHIN)
            connection.execute(f"LISTEN {CHANNEL}")
            connection.begin_call(float("inf"))
            news.notify_all()
            again: dict[str, float] = {}
            heard_at = monotonic()
            while not stop.is_set() and not news.is_lonely():
                wait = min(again.values(), default=monotonic() + TICK) - monotonic()
                for notice in raw.notifies(timeout=max(0.0, min(wait, TICK)), stop_after=1):
                    news.notify(notice.payload)
                    again[notice.payload] = monotonic() + 2 * QUIET
                now = monotonic()
                for channel in [name for name, moment in again.items() if moment <= now]:
                    del again[channel]
                    news.notify(channel)
                if now - heard_at > LOOK_ANYWAY:
                    heard_at = now
                    news.notify_all()
        except connection.FAILURES as error:
            if isinstance(error, PortableError):
                raise
        finally:
            self._server.drop(connection)


class Looker:
    """Looks which of the channels that anybody waits on have something; satisfies `portable.news.Watch`.

    Args:
        look: gives those of some channels that have something now.
    """

    def __init__(self, look: Callable[[list[str]], list[str]]) -> None:
        self._look = look

    def __call__(self, news: News, stop: Stop) -> None:
        """Tell `news` what is found; ends when nobody has waited for a while."""
        pause = SOONEST
        known: set[str] = set()
        while not stop.wait(pause) and not news.is_lonely():
            channels = news.waited_for()
            found = self._look(channels) if channels else []
            for channel in found:
                news.notify(channel)
            fresh = bool(found) or not known.issuperset(channels)
            known = set(channels)
            pause = SOONEST if fresh else min(LATEST, pause * 1.5)
