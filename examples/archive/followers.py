"""Those who follow what the workers do: two subscriptions of the topic, and a consumer of the stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from archive import Archive, Click, Event

import portable

__all__ = ["Followers"]

GROUP = "dashboard"


class Followers:
    """Three threads that count what arrives. Whatever arrives twice counts once.

    Attributes:
        everything: the paths that the subscription to all events was told of.
        sources: the paths that the filtered one was told of.
        clicks: for each path who dealt with it, and when (seconds since the epoch); the first time.
        repeated: how many clicks were for a path that had one already.
    """

    def __init__(self, archive: Archive) -> None:
        """Start the threads."""
        self.everything: set[str] = set()
        self.sources: set[str] = set()
        self.clicks: dict[str, tuple[Click, float]] = {}
        self.repeated = 0
        self._archive = archive
        self._stop = threading.Event()
        self._arrived = threading.Condition()
        self._error: Exception | None = None
        self._threads = [
            threading.Thread(target=self._guarded, args=(follow,), daemon=True)
            for follow in (self._follow_everything, self._follow_sources, self._follow_clicks)
        ]
        for thread in self._threads:
            thread.start()

    def counts(self) -> tuple[int, int, int]:
        """Count the paths in `everything`, `sources` and `clicks`."""
        return len(self.everything), len(self.sources), len(self.clicks)

    def wait(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait until something holds of what arrived; say whether it does.

        Raises:
            Exception: what made one of the threads end.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._error is not None or done(), timeout)
        if self._error is not None:
            raise self._error
        return done()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, follow: Callable[[], object]) -> None:
        try:
            follow()
        except Exception as error:  # noqa: BLE001 (the thread that waits raises it)
            with self._arrived:
                self._error = error
                self._arrived.notify_all()

    def _follow_everything(self) -> None:
        self._archive.everything.consume(lambda message: self._told(self.everything, message), stop=self._stop)

    def _follow_sources(self) -> None:
        self._archive.sources.consume(lambda message: self._told(self.sources, message), stop=self._stop)

    def _told(self, paths: set[str], message: portable.Message[Event]) -> None:
        event = message.body
        # An earlier run that was interrupted may have left some.
        if event.run == self._archive.run:
            with self._arrived:
                paths.add(event.path)
                self._arrived.notify_all()

    def _follow_clicks(self) -> None:
        with self._archive.clicks.consumer(GROUP) as consumer:
            while not self._stop.is_set():
                records = consumer.poll(timeout=0.25)
                if not records:
                    continue
                with self._arrived:
                    for record in records:
                        self._clicked(record)
                    self._arrived.notify_all()
                consumer.commit()

    def _clicked(self, record: portable.Record[Click]) -> None:
        click = record.data
        if click.run != self._archive.run:
            return
        if click.path in self.clicks:
            self.repeated += 1
        else:
            self.clicks[click.path] = (click, record.timestamp.timestamp())
