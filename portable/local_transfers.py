# Generated from portable/aio/local_transfers.py by tools/generate_sync.py; change that file, not this one.
"""Local files that become objects, and objects that become local files: in parallel parts, and to be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from portable._concurrency import Host, in_thread
from portable.deadlines import Deadline
from portable.errors import NotFound, PortableError
from portable.local_files import LocalSource, LocalTarget, UploadJournal
from portable.objects import ObjectInfo, Part
from portable.transfers import Target, fetch_ranges, part_size, store_ranges

if TYPE_CHECKING:
    from portable.drivers import BucketDriver

__all__ = ["download", "upload"]


def upload(
    target: Target, source: LocalSource, bucket: str, progress: Callable[[int, int], object] | None
) -> ObjectInfo:
    """Write a local file as an object, going on where an earlier upload of the same content stopped.

    Args:
        target: where it goes.
        source: the file.
        bucket: what tells this bucket from others.
        progress: told the bytes done and the bytes in all.
    """
    capabilities = target.driver.capabilities
    if source.size <= capabilities.part_bytes:
        info = target.put(in_thread(target.host, source.read, 0, source.size))
        if progress is not None:
            progress(source.size, source.size)
        return info
    part_bytes = part_size(source.size, capabilities.part_bytes, capabilities.max_parts)
    journal = in_thread(target.host, UploadJournal, source, bucket, target.key, part_bytes, progress)
    try:
        parts = _resumed(target, journal)
        store_ranges(
            target,
            journal.upload,
            source.read,
            source.size,
            part_bytes=part_bytes,
            done=parts,
            noted=journal.noted,
        )
        source.check_unchanged()
        info = target.commit(journal.upload, [parts[number] for number in sorted(parts)])
    except BaseException as error:
        if not journal.close(keep=_may_go_on(error)) and journal.upload:
            target.abort(journal.upload)
        raise
    journal.close(keep=False)
    return info


def download(
    driver: BucketDriver,
    host: Host,
    info: ObjectInfo,
    path: str | os.PathLike[str],
    *,
    bucket: str,
    progress: Callable[[int, int], object] | None,
    deadline: Deadline,
) -> None:
    """Read one version of an object into a local file, going on where an earlier download of it stopped.

    Args:
        driver: of the bucket.
        host: the threads that serve it.
        info: the object.
        path: the file to write.
        bucket: what tells this bucket from others.
        progress: told the bytes done and the bytes in all.
        deadline: the time that is left.
    """
    part_bytes = driver.capabilities.part_bytes
    local = in_thread(host, LocalTarget, path, bucket, info, part_bytes, progress)
    try:
        fetch_ranges(driver, host, info, part_bytes=part_bytes, done=local.done, write=local.write, deadline=deadline)
        in_thread(host, local.finish)
    except BaseException as error:
        local.give_up(keep=_may_go_on(error))
        raise


def _may_go_on(error: BaseException) -> bool:
    """Say whether the same transfer may succeed later: not where the backend has said no."""
    return not isinstance(error, PortableError) or error.retryable


def _resumed(target: Target, journal: UploadJournal) -> dict[int, Part]:
    if journal.upload:
        try:
            left = target.deadline.left()
            kept = target.driver.kept_parts(target.key, journal.upload, journal.parts, timeout=left)
        except NotFound:
            journal.parts = []
        else:
            journal.go_on(kept)
            return {part.number: part for part in kept}
    journal.start(target.begin())
    return {}
