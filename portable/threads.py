"""Threads of one cloud: a bounded pool for calls that block, and a thread of its own for a call that waits."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from portable.errors import Closed

__all__ = ["Pool", "in_own_thread"]

T = TypeVar("T")


class Pool:
    """A bounded pool of threads that starts none before its first call."""

    def __init__(self, threads: int = 32) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """Run `call` in a thread of the pool, in the context of the caller.

        Raises:
            Closed: the pool is closed.
        """
        with self._lock:
            if self._closed:
                raise Closed("the cloud is closed; connect again")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="portable")
            # Under the lock, so that `close` ends no executor that is about to be asked.
            return self._executor.submit(contextvars.copy_context().run, functools.partial(call, *args, **kwargs))

    def forget(self) -> None:
        """Drop the threads of a parent process, after a fork."""
        self._lock = threading.Lock()
        self._executor = None

    def close(self) -> None:
        """Stop every thread, once the calls under way are done."""
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)


def in_own_thread(call: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Run `call` in a thread made for it, for calls that wait."""
    future: Future[T] = Future()
    run = functools.partial(contextvars.copy_context().run, call, *args, **kwargs)

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(run())
        except BaseException as error:  # noqa: BLE001 (whatever it is, it belongs to whoever waits for the future)
            future.set_exception(error)

    threading.Thread(target=work, name="portable-wait", daemon=True).start()
    return future
