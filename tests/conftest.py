"""What all tests share: fuzzing that gives the same answer on any machine, and no files left behind."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.docker_engine", "tests.kafka_broker", "tests.targets_table"]

settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("steady")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and the commands that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove the session's files at its end.

    A key of 1,024 bytes can be a path a thousand folders deep, and pytest's own clean-up, in some later session, would
    meet Python's recursion limit in it.
    """
    yield
    subprocess.run(["rm", "-rf", "--", str(tmp_path_factory.getbasetemp())], check=True)
