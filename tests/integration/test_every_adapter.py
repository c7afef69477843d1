"""What holds for every adapter alike: it loads no other vendor's SDK, and nothing that it says holds a secret."""

from __future__ import annotations

import json
import logging
import pprint
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest

import portable
from portable.errors import PortableError
from portable.registry import Adapter

PATIENCE = 60.0

MARK = "c2VjcmV0"
SECRET = f"{MARK}TWFyazEyMzQ1Njc4OTA="
"""Azure's keys are base64, and its client refuses others before they are sent."""

ADAPTERS: dict[str, tuple[str, Adapter]] = {
    one.name: (one.module, one.load()) for one in entry_points(group="portable.adapters")
}

SDKS = {
    "aws": {"boto3", "botocore"},
    "azure": {"azure"},
    "embedded": set[str](),
    "gcp": {"google.cloud"},
    "kafka": {"confluent_kafka", "kafka"},
    "memcached": {"pymemcache"},
    "nats": {"nats"},
    "rabbitmq": {"pika"},
    "redis": {"redis"},
    "sql": {"psycopg", "pymysql"},
}

AMAZON = f"region=eu-west-1&endpoint=http://{{at}}&access_key_id=AKIDEXAMPLE&secret_access_key={SECRET}"
MICROSOFT = f"endpoint=http://{{at}}/account&account_key={SECRET}"
PLANTED = {
    "s3": f"s3://name?{AMAZON}",
    "sqs": f"sqs://name?{AMAZON}",
    "sns": f"sns://name?{AMAZON}",
    "dynamodb": f"dynamodb://name?{AMAZON}",
    "kinesis": f"kinesis://name?{AMAZON}",
    "az": f"az://account/name?{MICROSOFT}",
    "azqueue": f"azqueue://account/name?{MICROSOFT}",
    "cosmos": f"cosmos://account/name?endpoint=https://{{at}}&account_key={SECRET}",
    "eventhubs": (
        "eventhubs://namespace/name?endpoint={at}&connection_string=Endpoint%3Dsb%3A%2F%2Fnamespace.servicebus.windows.net%2F"
        f"%3BSharedAccessKeyName%3Dapp%3BSharedAccessKey%3D{SECRET}"
    ),
    "kafka": f"kafka://app:{SECRET}@{{at}}/name?sasl=plain",
    "redis": f"redis://app:{SECRET}@{{at}}",
    "rediss": f"rediss://app:{SECRET}@{{at}}",
    "amqp": f"amqp://app:{SECRET}@{{at}}",
    "amqps": f"amqps://app:{SECRET}@{{at}}",
    "nats": f"nats://app:{SECRET}@{{at}}",
    "memcached": f"memcached://app:{SECRET}@{{at}}",
    "postgresql": f"postgresql://app:{SECRET}@{{at}}/app",
    "mssql": f"mssql://app:{SECRET}@{{at}}/app",
    "mysql": f"mysql://app:{SECRET}@{{at}}/app",
    "mariadb": f"mariadb://app:{SECRET}@{{at}}/app",
}
"""Scheme → a URL with a secret in it; nobody listens at `{at}`."""

WITHOUT_SECRETS = {"file", "firestore", "gs", "memory", "pubsub", "sqlite"}
"""No option of theirs is one: Google's clients take the path of a key file."""

PAIRS = sorted(
    (scheme, kind)
    for _, adapter in ADAPTERS.values()
    for scheme, kinds in adapter.schemes.items()
    for kind in kinds
    # The topic of such a subscription is bound to `sns:`, which is here.
    if scheme not in WITHOUT_SECRETS and (scheme, kind) != ("sqs", "subscription")
)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that refuses connections for as long as the test runs."""
    with socket.socket() as held:
        # Bound, so that nobody else gets it, and never listening.
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_an_adapter_loads_no_other_vendors_sdk(name: str) -> None:
    _, adapter = ADAPTERS[name]
    modules = sorted({path.partition(":")[0] for kinds in adapter.schemes.values() for path in kinds.values()})
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *modules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    others = {sdk for other, sdks in SDKS.items() if other != name for sdk in sdks}
    assert set(json.loads(done.stdout)) & others == set()


def test_every_adapter_is_looked_at() -> None:
    assert set(SDKS) == set(ADAPTERS)
    assert {scheme for scheme, _ in PAIRS} == set(PLANTED)


@pytest.mark.parametrize(("scheme", "kind"), PAIRS)
def test_nothing_that_is_said_holds_a_secret(
    scheme: str, kind: str, nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "portable")
    url = PLANTED[scheme].format(at=nowhere)
    how: dict[str, Any] = {"timeout": 2.0, "retries": 0, "create": "never"}
    if kind == "database":
        how = {}
    else:
        how["name"] = "name"
    if kind == "subscription":
        how["topic"] = "events"
    with getattr(portable, f"open_{kind}")(url, **how) as resource:
        with pytest.raises(PortableError) as caught:
            resource.check(timeout=2.0)
        error: BaseException | None = caught.value
        said = [repr(resource), str(resource), resource.url, pprint.pformat(resource), caplog.text]
        while error is not None:
            said += [str(error), repr(error), *traceback.format_exception(error)]
            error = error.__cause__ or error.__context__
    assert [one for one in said if MARK in one] == []
