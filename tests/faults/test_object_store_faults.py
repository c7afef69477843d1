"""Uploads to object stores whose process is killed: they go on where they were, and leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from portable import open_bucket
from tests.targets import target

MIB = 1024 * 1024

# The fifth part of four at once is begun by who has noted one.
KILLED = """
import itertools, os, signal, sys
from portable import open_bucket

name, path = sys.argv[1:]
with open_bucket(sys.stdin.read(), name=name) as bucket:
    write, numbers = bucket._driver.write_part, itertools.count(1)

    def writing(*arguments, **how):
        if next(numbers) > 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*arguments, **how)

    bucket._driver.write_part = writing
    bucket.upload(path, "a.bin")
"""


def left_on_s3(bucket: Any, name: str) -> list[Any]:
    found: list[Any] = bucket.native.list_multipart_uploads(Bucket=name).get("Uploads", [])
    return found


def left_on_azure(bucket: Any, name: str) -> list[Any]:
    blob = bucket.native.get_container_client(name).get_blob_client("a.bin")
    return list(blob.get_block_list("uncommitted")[1])


def left_on_google(bucket: Any, name: str) -> list[Any]:
    return [blob.name for blob in bucket.native.list_blobs(name, prefix=".portable/")]


STORES = {"seaweedfs": left_on_s3, "azurite": left_on_azure, "fake-gcs-server": left_on_google}


@pytest.mark.parametrize("server", STORES)
def test_an_upload_goes_on_after_its_process_was_killed(server: str, tmp_path: Path) -> None:
    url, name = target(server, "bucket"), f"killed-{uuid.uuid4().hex[:12]}"
    data = b"".join(bytes([number]) * MIB for number in range(31))
    source = tmp_path / "file"
    source.write_bytes(data)
    with open_bucket(url, name=name, create="if_missing") as bucket:
        bucket.check()
        command = [sys.executable, "-c", KILLED, name, str(source)]
        # The URL holds a secret, which the list of processes would show.
        done = subprocess.run(command, input=url, text=True, capture_output=True, check=False, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not bucket.exists("a.bin")
        assert STORES[server](bucket, name), "what was written is there for who goes on"
        driver: Any = bucket._driver
        write, written = driver.write_part, []

        def writing(*arguments: Any, **how: Any) -> Any:
            written.append(arguments)
            return write(*arguments, **how)

        driver.write_part = writing
        bucket.upload(source, "a.bin")
        assert 0 < len(written) < 7
        assert bucket.get("a.bin") == data
        assert STORES[server](bucket, name) == []
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        bucket.delete("a.bin")
