"""News of changes: who is woken, by what, and what becomes of a watch that fails."""

from __future__ import annotations

import threading

import pytest

from portable.errors import Unavailable
from portable.news import Channel, News, Stop

PATIENCE = 60.0


def silent(news: News, stop: Stop) -> None:
    """A watch that hears nothing."""
    while not stop.wait(PATIENCE):
        pass


def test_news_wake_those_who_wait_for_them() -> None:
    news = News(silent)
    version, other = news.version("a"), news.version("b")
    woken = threading.Event()
    subscription = news.subscribe("a", woken.set)
    news.notify("a")
    assert woken.is_set()
    assert news.wait("a", version, PATIENCE)
    assert not news.wait("b", other, 0)
    subscription.close()
    subscription.close()
    news.notify_all()
    assert news.wait("b", other, PATIENCE)
    news.close()
    assert news.wait("a", news.version("a"), PATIENCE)


def test_without_a_watch_no_thread_is_started() -> None:
    channel = Channel(News(), "a")
    woken = threading.Event()
    before = threading.active_count()
    with_callback = channel.subscribe(woken.set)
    assert threading.active_count() == before
    version = channel.version()
    channel.notify()
    assert woken.is_set()
    assert channel.wait(version, PATIENCE)
    with_callback.close()


def test_a_callback_that_fails_fails_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    news = News(silent)
    heard: list[int] = []
    news.subscribe("a", lambda: 1 / 0)
    news.subscribe("a", lambda: heard.append(1))
    news.notify("a")
    assert heard == [1]
    assert "failed" in caplog.text
    news.close()


@pytest.mark.parametrize("failure", [Unavailable("not now"), ZeroDivisionError()])
def test_a_watch_that_fails_is_tried_again(failure: Exception) -> None:
    tried = threading.Semaphore(0)

    def failing(news: News, stop: Stop) -> None:
        tried.release()
        raise failure

    news = News(failing)
    woken = threading.Event()
    news.subscribe("a", woken.set)
    for _ in range(3):
        assert tried.acquire(timeout=PATIENCE)
    # Meanwhile everybody looks for himself.
    assert woken.wait(PATIENCE)
    news.close()


def test_a_watch_ends_when_nobody_waits_and_begins_again() -> None:
    began, ended = threading.Semaphore(0), threading.Semaphore(0)

    def watching(news: News, stop: Stop) -> None:
        began.release()
        while not stop.wait(0.001) and not news.is_lonely():
            pass
        ended.release()

    news = News(watching, linger=0.001)
    for _ in range(3):
        subscription = news.subscribe("a", lambda: None)
        assert began.acquire(timeout=PATIENCE)
        subscription.close()
        assert ended.acquire(timeout=PATIENCE)
    news.close()
