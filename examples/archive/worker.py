"""A worker process: reads the files that the queue names, until it is told to stop or its parent is gone.

`run.py` starts several: python worker.py PROFILE NAME
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import PurePosixPath

from archive import CONFIG, Archive, Click, Event, FileRecord, Job, pieces

import portable
from portable.errors import AlreadyExists

__all__ = ["main"]

_WORD = re.compile(r"[^\W\d_]{3,30}")
# A document has its limits on every cloud: 400 KB on the narrowest.
_MOST_WORDS = 2000


def main(profile: str, name: str) -> None:
    """Handle jobs, eight at a time, until SIGTERM or the end of the standard input."""
    logging.basicConfig(level=logging.ERROR, format=f"{name}: %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    with portable.connect(CONFIG, profile=profile) as cloud:
        jobs = cloud.queue("jobs", type=Job)
        jobs.consume(functools.partial(process, cloud, name), concurrency=8, stop=stop)


def process(cloud: portable.Cloud, worker: str, message: portable.Message[Job]) -> None:
    """Read one file, and keep what is to be known of it.

    A job may come twice: a worker that was killed had perhaps done all of it but the acknowledgement. So every step
    may be repeated: the document is created by whoever comes first, and events and clicks are counted by path.
    """
    started = time.monotonic()
    job = message.body
    archive = Archive(cloud, job.run)
    extension = PurePosixPath(job.path).suffix.lower() or "none"
    record = _read(archive, job, extension, worker, message.delivery_count)
    try:
        archive.documents.create(record)
    except AlreadyExists:
        logging.getLogger("archive").info("%s was archived before", job.path)
    milliseconds = (time.monotonic() - started) * 1000
    archive.clicks.append(Click(job.run, job.path, worker, milliseconds), key=worker)
    archive.events.publish(Event(job.run, job.path), attributes={"extension": extension})


def _read(archive: Archive, job: Job, extension: str, worker: str, delivery: int) -> FileRecord:
    digest = hashlib.sha256()
    words: Counter[str] = Counter()
    for piece in pieces(archive, job.path, job.size):
        digest.update(piece)
        # A text has no NUL; what has one is a picture, a library …
        if b"\0" not in piece:
            words.update(_WORD.findall(piece.decode(errors="replace").lower()))
    frequent = words.most_common(_MOST_WORDS)
    return FileRecord(
        run=job.run,
        path=job.path,
        extension=extension,
        size=job.size,
        sha256=digest.hexdigest(),
        word_count=words.total(),
        words=[word for word, _ in frequent],
        counts=[count for _, count in frequent],
        worker=worker,
        delivery=delivery,
    )


def _watch_parent(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop.set()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
