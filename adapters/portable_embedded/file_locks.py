"""Who may change a key of a `file:` bucket: one writer at a time, over all threads and processes of the machine.

A key's writers share one of 64 stripes: a lock of this process, and a lock (`flock`) on the stripe's file under
`.portable/locks`, which the system gives back when its process dies. Readers take none.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from time import monotonic, sleep
from zlib import crc32

from portable.errors import DeadlineExceeded

__all__ = ["Stripes", "let_go", "lock_file", "stripes_of"]

STRIPES = 64
_SHORTEST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.005


class Stripes:
    """The stripes of one bucket in this process, shared by everything that has it open here.

    A lock on a file belongs to its descriptor, and a fork shares descriptors: a child opens its own.
    """

    def __init__(self, folder: Path) -> None:
        """Open nothing yet.

        Args:
            folder: the path of `.portable/locks`, which exists.
        """
        self._folder = folder
        self.users = 0
        self._locks = [threading.Lock() for _ in range(STRIPES)]
        self._files: list[int | None] = [None] * STRIPES

    def acquire(self, key: str, timeout: float) -> int:
        """Take the stripe of a key; gives what `release` needs.

        Raises:
            DeadlineExceeded: others had it for `timeout` seconds.
        """
        stripe = crc32(key.encode()) % STRIPES
        lock = self._locks[stripe]
        if not lock.acquire(blocking=False) and not lock.acquire(timeout=max(0.0, timeout)):
            raise _busy(key)
        try:
            file = self._files[stripe]
            if file is None:
                file = self._files[stripe] = self._open(stripe)
            lock_file(file, fcntl.LOCK_EX, timeout, key)
        except BaseException:
            lock.release()
            raise
        return stripe

    def release(self, stripe: int) -> None:
        """Give a stripe back."""
        file = self._files[stripe]
        if file is not None:
            fcntl.flock(file, fcntl.LOCK_UN)
        self._locks[stripe].release()

    def close(self) -> None:
        """Close every file, each once its holder is done."""
        for stripe, lock in enumerate(self._locks):
            with lock:
                file, self._files[stripe] = self._files[stripe], None
                if file is not None:
                    os.close(file)

    def forget(self) -> None:
        """Start anew in a forked child."""
        self._locks = [threading.Lock() for _ in range(STRIPES)]
        # Closing does not unlock: the parent still has the same open file.
        self.close()

    def _open(self, stripe: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        return os.open(self._folder / f"{stripe:02d}", flags, 0o666)


def lock_file(file: int, how: int, timeout: float, what: str) -> None:
    """Lock an open file, looking again and again while others have it.

    Raises:
        DeadlineExceeded: others had it for `timeout` seconds.
    """
    pause = 0.0
    until = 0.0
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            now = monotonic()
            until = until or now + timeout
            if now >= until:
                raise _busy(what) from None
            pause = min(_LONGEST_PAUSE, pause * 2 or _SHORTEST_PAUSE)
            sleep(pause)
        else:
            return


def _busy(what: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"others were writing to {what!r} until the timeout ran out; nothing was written")


_all: dict[tuple[int, int], Stripes] = {}
_all_lock = threading.Lock()


def stripes_of(folder: Path) -> tuple[Stripes, tuple[int, int]]:
    """Give this process's stripes of a `.portable/locks`, and what `let_go` needs."""
    stat = folder.stat()
    identity = (stat.st_dev, stat.st_ino)
    with _all_lock:
        stripes = _all.get(identity)
        if stripes is None:
            stripes = _all[identity] = Stripes(folder)
        stripes.users += 1
        return stripes, identity


def let_go(identity: tuple[int, int]) -> None:
    """Close the stripes when their last user is gone."""
    with _all_lock:
        stripes = _all[identity]
        stripes.users -= 1
        if stripes.users == 0:
            del _all[identity]
            stripes.close()


def _in_child() -> None:
    global _all_lock  # noqa: PLW0603 (the parent's may be held by a thread that is not here)
    _all_lock = threading.Lock()
    for stripes in _all.values():
        stripes.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
