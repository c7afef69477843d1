"""A broker that wants a password, for the tests of Kafka's credentials."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from portable.services import Services
from tests.targets import CannotStartError, _project, required, target

__all__ = ["SECRET", "sasl_broker"]

SECRET = "s3cr3t-of-the-test"  # noqa: S105 (it protects nothing)
READY_WITHIN = 120.0

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=SASL_PLAINTEXT://127.0.0.1:{main},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:{main},INTERNAL://127.0.0.1:{internal}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_tester="{secret}";
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
"""


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def sasl_broker() -> Iterator[str]:
    """Run a broker whose user `tester` has the password `SECRET`; gives host and port."""
    target("kafka")
    jars = next(Services(_project()).home.packages.rglob("kafka_2.13-*.jar")).parent
    folder = Path(tempfile.mkdtemp(prefix="kafka-"))
    main, internal, controller = _free_ports(3)
    (folder / "server.properties").write_text(
        PROPERTIES.format(main=main, internal=internal, controller=controller, folder=folder, secret=SECRET)
    )
    java = ["java", "-Xmx256m", "-cp", f"{jars}/*"]
    process: subprocess.Popen[bytes] | None = None
    try:
        with required("kafka"), (folder / "log").open("wb") as log:
            how = ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(folder / "server.properties")]
            subprocess.run([*java, "kafka.tools.StorageTool", *how], check=True, stdout=log, stderr=log)
            process = subprocess.Popen(
                [*java, "kafka.Kafka", str(folder / "server.properties")], stdout=log, stderr=log
            )
            deadline = time.monotonic() + READY_WITHIN
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", main), 1):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (folder / "log").read_text(errors="replace")[-500:]
                    raise CannotStartError(f"the broker did not start: {said}")
                time.sleep(0.05)
        yield f"127.0.0.1:{main}"
    finally:
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
