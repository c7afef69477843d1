"""A broker that wants to know who comes, for the tests of Kafka's credentials and of Event Hubs.

It is started by the first test that asks for it, shared by all processes of the run, and ended when the run ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from portable.services import Services
from tests.targets import CannotStartError, _project, required, target

if TYPE_CHECKING:
    from tests.certificates import SigningKey

__all__ = [
    "AUDIENCE",
    "CONNECTION",
    "KEY",
    "NAMESPACE",
    "SECRET",
    "SecureBroker",
    "pytest_configure",
    "pytest_unconfigure",
    "secure_kafka",
]

FOLDER = "PORTABLE_TEST_KAFKA"
"""The variable that tells every process of a run the folder of its broker."""

_PREFIX = "portable-kafka-"
_OURS = pytest.StashKey[Path]()

SECRET = "s3cr3t-of-the-test"  # noqa: S105 (it protects nothing)
NAMESPACE = "portable-tests"
KEY = "c2VjcmV0LWtleS1vZi10aGUtdGVzdA=="
CONNECTION = f"Endpoint=sb://{NAMESPACE}.servicebus.windows.net/;SharedAccessKeyName=all;SharedAccessKey={KEY}"
AUDIENCE = f"https://{NAMESPACE}.servicebus.windows.net"
READY_WITHIN = 240.0

# Signed tokens are looked at by `SASL` and `SECURE`; `GOOGLE`, as nobody here can ask Google, looks at the form alone.
# Of text beside an offset there may be as much as on Event Hubs.
PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listeners}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listener.security.protocol.map=SASL:SASL_PLAINTEXT,SECURE:SASL_SSL,GOOGLE:SASL_SSL,MUTUAL:SSL,STALE:SSL,\
INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
{mechanisms}
sasl.oauthbearer.jwks.endpoint.url=file:{folder}/jwks.json
sasl.oauthbearer.expected.audience={audience}
sasl.oauthbearer.clock.skew.seconds=0
listener.name.google.sasl.oauthbearer.jwt.validator.class=org.apache.kafka.common.security.oauthbearer.ClientJwtValidator
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.mutual.ssl.client.auth=required
listener.name.stale.ssl.keystore.type=PEM
listener.name.stale.ssl.keystore.location={folder}/stale.pem
log.dirs={folder}/data
auto.create.topics.enable=false
offset.metadata.max.bytes=1024
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
"""

MECHANISMS = """listener.name.{name}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.{name}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_tester="{secret}" user_$ConnectionString="{connection}";
listener.name.{name}.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{name}.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;
listener.name.{name}.oauthbearer.sasl.server.callback.handler.class=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
listener.name.{name}.oauthbearer.connections.max.reauth.ms=3600000
"""

LISTENERS = ("sasl", "secure", "google", "mutual", "stale", "internal", "controller")


@dataclass(frozen=True)
class SecureBroker:
    """A broker with a listener for each way to come.

    Attributes:
        ports: of the listeners: `sasl` in clear; `secure` by TLS; `google` by TLS, for tokens of Google's form;
            `mutual` by a certificate of the client's own; `stale` with a certificate that is over; `internal` for all.
        folder: where `ca.pem`, `other-ca.pem`, `client.pem` and `client.key` are.
        signing: the key that signs tokens.
    """

    ports: dict[str, int]
    folder: Path
    signing: SigningKey

    def at(self, listener: str) -> str:
        """Give host and port of a listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    def token(self, **claims: Any) -> str:
        """Give a signed JSON Web Token that the broker believes."""
        return self.signing.token(**{"aud": AUDIENCE, **claims})


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder of the run's broker, in the process that starts the others; remove what killed runs left."""
    if hasattr(config, "workerinput") or FOLDER in os.environ:
        return
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            _end(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    config.stash[_OURS] = folder
    os.environ[FOLDER] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the broker that the run started."""
    folder = config.stash.get(_OURS, None)
    if folder is not None:
        del os.environ[FOLDER]
        _end(folder)


@pytest.fixture(scope="session")
def secure_kafka() -> SecureBroker:
    """A broker whose users are `tester`, with the password `SECRET`, and `$ConnectionString`, with `CONNECTION`."""
    target("kafka")
    folder = Path(os.environ[FOLDER])
    with required("kafka"), (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = folder / "ports.json"
        if not known.exists():
            if (folder / "log").exists():
                raise CannotStartError("the broker did not start before")
            _start(_written(folder))
    return _known(folder)


def _start(broker: SecureBroker) -> None:
    """Start the broker, and wait until it answers."""
    folder = broker.folder
    jars = next(Services(_project()).home.packages.rglob("kafka_2.13-*.jar")).parent
    java = ["java", "-Xmx256m", f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file:{folder}/jwks.json"]
    java += ["-cp", f"{jars}/*"]
    with (folder / "log").open("wb") as log:
        how = ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(folder / "server.properties")]
        for bits in (256, 512):
            how += ["--add-scram", f"SCRAM-SHA-{bits}=[name=tester,iterations=4096,password={SECRET}]"]
        subprocess.run([*java, "kafka.tools.StorageTool", *how], check=True, stdout=log, stderr=log)
        process = subprocess.Popen(
            [*java, "kafka.Kafka", str(folder / "server.properties")], stdout=log, stderr=log, start_new_session=True
        )
    (folder / "pid").write_text(str(process.pid))
    deadline = time.monotonic() + READY_WITHIN
    while not _answers(broker):
        if process.poll() is not None or time.monotonic() > deadline:
            said = (folder / "log").read_text(errors="replace")[-500:]
            raise CannotStartError(f"the broker did not start: {said}")
        time.sleep(0.05)
    # Whoever waits for its end is not the process that goes first.
    process.returncode = 0
    (folder / "ports.json").write_text(json.dumps(broker.ports))


def _known(folder: Path) -> SecureBroker:
    from tests.certificates import SigningKey

    return SecureBroker(
        json.loads((folder / "ports.json").read_text()), folder, SigningKey((folder / "signing.pem").read_text())
    )


def _end(folder: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "pid").read_text())
        # The number may be another's by now.
        if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _answers(broker: SecureBroker) -> bool:
    with contextlib.suppress(OSError):
        for name in ("sasl", "secure", "google", "mutual", "stale", "internal"):
            with socket.create_connection(("127.0.0.1", broker.ports[name]), 1):
                pass
        return True
    return False


def _free_ports() -> dict[str, int]:
    with contextlib.ExitStack() as stack:
        probes = {name: stack.enter_context(socket.socket()) for name in LISTENERS}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


def _written(folder: Path) -> SecureBroker:
    """Write what the broker reads."""
    # Every process of a run has this module, and few need certificates.
    from tests.certificates import Certificate, SigningKey

    ports, signing = _free_ports(), SigningKey()
    places = {name.upper(): f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items()}
    asking = [MECHANISMS.format(name=name, secret=SECRET, connection=CONNECTION) for name in ("sasl", "secure")]
    google = MECHANISMS.format(name="google", secret=SECRET, connection=CONNECTION)
    (folder / "server.properties").write_text(
        PROPERTIES.format(
            controller=ports["controller"],
            listeners=",".join(places.values()),
            advertised=",".join(place for name, place in places.items() if name != "CONTROLLER"),
            mechanisms="".join([*asking, google]),
            folder=folder,
            audience=AUDIENCE,
        )
    )
    (folder / "jwks.json").write_text(signing.keys)
    (folder / "signing.pem").write_text(signing.pem)
    authority, other = Certificate("Authority"), Certificate("Another authority")
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "other-ca.pem").write_bytes(other.pem)
    client = Certificate("client", authority)
    (folder / "client.pem").write_bytes(client.pem)
    (folder / "client.key").write_bytes(client.key_pem)
    for name, days in (("server", 1), ("stale", -1)):
        server = Certificate("127.0.0.1", authority, days=days)
        (folder / f"{name}.pem").write_bytes(server.key_pem + server.pem)
    return SecureBroker(ports, folder, signing)
