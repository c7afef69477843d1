"""OpenTelemetry: one span an operation, named by the conventions, with the context of senders and no values."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

# Providers are set once a process, so each application here is a process.
PROVIDERS = """
import asyncio, json
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))

import portable
from portable import aio, errors

def report(**more):
    spans = [
        {
            "name": span.name,
            "kind": span.kind.name,
            "attributes": dict(span.attributes),
            "trace": span.context.trace_id,
            "id": span.context.span_id,
            "parent": span.parent and span.parent.span_id,
            "status": span.status.status_code.name,
            "description": span.status.description,
            "events": len(span.events),
            "scope": span.instrumentation_scope.name,
        }
        for span in exporter.get_finished_spans()
    ]
    data = reader.get_metrics_data()
    print(json.dumps({"spans": spans, "metrics": data and json.loads(data.to_json()), **more}))
"""

EVERY_KIND = """
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
config = portable.Config.from_dict({
    "default_profile": "local",
    "profiles": {"local": {"default": "memory:", "bind": {"main": "sqlite:main.db"}}},
    "resources": {
        "photos": {"kind": "bucket"}, "jobs": {"kind": "queue"}, "events": {"kind": "topic"},
        "mailer": {"kind": "subscription", "topic": "events"}, "clicks": {"kind": "stream"},
        "sessions": {"kind": "cache"}, "users": {"kind": "collection"}, "main": {"kind": "database"},
    },
})
handled = []

def use(cloud):
    photos, jobs, users, sessions = (
        cloud.bucket("photos"), cloud.queue("jobs"), cloud.collection("users"), cloud.cache("sessions")
    )
    photos.put("k3y", b"v4lue", metadata={"m": "v4lue"})
    photos.get("k3y")
    list(photos.list("k3"))
    try:
        photos.head("k3y-missing")
    except errors.NotFound:
        pass
    jobs.send(b"v4lue", attributes={"n4me": "v4lue"})
    jobs.stats()
    sessions.set("k3y", "v4lue")
    sessions.get("k3y")
    users.put({"id": "k3y", "email": "v4lue"})
    users.where("id", "==", "k3y").first()
    cloud.topic("events").publish(b"v4lue")
    cloud.stream("clicks").append(b"v4lue", key="k3y")
    with cloud.stream("clicks").consumer("group") as consumer:
        consumer.poll()
        consumer.commit()

with portable.connect(config) as cloud:
    cloud.subscription("mailer").receive(wait=0.001)
    use(cloud)

    def handle(message):
        assert cloud.cache("sessions").get("k3y") == "v4lue"
        assert "traceparent" in message.attributes
        handled.append(message.attributes.get("n4me"))

    with trace.get_tracer("app").start_as_current_span("application"):
        cloud.queue("jobs").send_many([b"v4lue"])
    cloud.queue("jobs").consume(handle, max_messages=2)
    (message,) = cloud.subscription("mailer").receive()
    assert "traceparent" in message.attributes
    message.ack()
report(handled=handled)
"""

ASYNC = """
trace.set_tracer_provider(provider)

async def main():
    async with aio.open_queue("memory:", name="jobs", type=dict[str, str]) as queue:
        async def handle(message):
            await queue.stats()
            raise KeyError("v4lue")

        await queue.send({"k3y": "v4lue"})
        await queue.consume(handle, max_messages=1)
        task = asyncio.ensure_future(queue.receive(wait=60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    async with aio.open_collection("memory:", name="users") as users:
        await users.put({"id": "k3y"})
        assert [one.key async for one in users.query(allow_scan=True)] == ["k3y"]

asyncio.run(main())
report()
"""

METRICS_ONLY = """
metrics.set_meter_provider(MeterProvider([reader]))
with portable.open_cache("memory:", name="sessions") as cache:
    for number in range(3):
        cache.set("k3y", number)
    cache.get("k3y")
    try:
        cache.ttl("missing")
    except errors.NotFound:
        pass
report()
"""

NOT_SET = """
with portable.open_queue("memory:", name="jobs") as queue:
    queue.send(b"1", attributes={"a": "b"})
    report(hooks=len(queue._hooks), attributes=queue.receive()[0].attributes)
"""

NOT_INSTALLED = """
import json, sys
import portable
with portable.open_queue("memory:") as queue:
    queue.send(b"1")
    print(json.dumps({"hooks": len(queue._hooks), "loaded": [m for m in sys.modules if m.startswith("opentelemetry")]}))
"""


def run(script: str, cwd: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(PROVIDERS + EVERY_KIND, tmp_path_factory.mktemp("telemetry"))


def named(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [span for span in answer["spans"] if span["name"] == name]


def test_each_operation_is_one_span(every_kind: dict[str, Any]) -> None:
    spans = [span["name"] for span in every_kind["spans"] if span["scope"] == "portable"]
    for once in (
        "put photos",
        "get photos",
        "list photos",
        "head photos",
        "send jobs",
        "send_many jobs",
        "stats jobs",
        "set sessions",
        "put users",
        "first users",
        "publish events",
        "append clicks",
        "consumer clicks",
        "poll clicks",
        "commit clicks",
    ):
        assert spans.count(once) == 1, once
    assert spans.count("process jobs") == 2
    assert spans.count("ack jobs") == 2


@pytest.mark.parametrize(
    ("name", "kind", "attributes"),
    [
        ("send jobs", "PRODUCER", {"messaging.system": "memory", "messaging.destination.name": "jobs"}),
        ("publish events", "PRODUCER", {"messaging.operation.name": "publish"}),
        ("append clicks", "PRODUCER", {"messaging.destination.name": "clicks"}),
        ("poll clicks", "CONSUMER", {"messaging.operation.name": "poll"}),
        ("receive mailer", "CONSUMER", {"messaging.destination.name": "mailer"}),
        ("process jobs", "CONSUMER", {"messaging.operation.name": "process"}),
        ("stats jobs", "CLIENT", {"messaging.operation.name": "stats"}),
        ("set sessions", "CLIENT", {"db.system.name": "memory", "db.operation.name": "set"}),
        ("put users", "CLIENT", {"db.collection.name": "users", "db.operation.name": "put"}),
        ("put photos", "CLIENT", {"portable.provider": "memory", "portable.operation": "put"}),
    ],
)
def test_spans_follow_the_conventions(
    every_kind: dict[str, Any], name: str, kind: str, attributes: dict[str, str]
) -> None:
    for span in named(every_kind, name):
        assert span["kind"] == kind
        assert attributes.items() <= span["attributes"].items()
        assert span["attributes"]["portable.resource"] == name.split()[1]
    assert named(every_kind, name)


def test_a_failure_is_its_class_and_no_more(every_kind: dict[str, Any]) -> None:
    (span,) = named(every_kind, "head photos")
    assert (span["status"], span["description"], span["events"]) == ("ERROR", "NotFound", 0)
    assert span["attributes"]["error.type"] == "NotFound"
    assert {span["status"] for span in every_kind["spans"] if span["name"] != "head photos"} == {"UNSET"}


def test_whoever_handles_a_message_joins_the_trace_of_its_sender(every_kind: dict[str, Any]) -> None:
    senders = [named(every_kind, "send jobs")[0], named(every_kind, "send_many jobs")[0]]
    processes = named(every_kind, "process jobs")
    assert [(span["trace"], span["parent"]) for span in processes] == [(one["trace"], one["id"]) for one in senders]
    (application,) = named(every_kind, "application")
    assert senders[1]["parent"] == application["id"]
    inside = [span for span in named(every_kind, "get sessions") if span["parent"]]
    assert [span["parent"] for span in inside] == [span["id"] for span in processes]
    assert every_kind["handled"] == ["v4lue", None], "attributes of the application are what they were"


def test_no_key_and_no_value_is_recorded(every_kind: dict[str, Any]) -> None:
    told = json.dumps([every_kind["spans"], every_kind["metrics"]])
    for secret in ("k3y", "v4lue", "n4me"):
        assert secret not in told


def points(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    (resource,) = answer["metrics"]["resource_metrics"]
    (scope,) = [scope for scope in resource["scope_metrics"] if scope["scope"]["name"] == "portable"]
    (metric,) = [metric for metric in scope["metrics"] if metric["name"] == name]
    found: list[dict[str, Any]] = metric["data"]["data_points"]
    return found


def test_operations_are_counted_and_timed(tmp_path: Any) -> None:
    answer = run(PROVIDERS + METRICS_ONLY, tmp_path)
    assert answer["spans"] == [], "no tracer is set"
    counts = {
        (point["attributes"]["db.operation.name"], point["attributes"].get("error.type")): point["value"]
        for point in points(answer, "portable.operations")
    }
    assert counts == {("set", None): 3, ("get", None): 1, ("ttl", "NotFound"): 1}
    for point in points(answer, "portable.operation.duration"):
        assert point["count"] == counts[point["attributes"]["db.operation.name"], point["attributes"].get("error.type")]
        assert 0 <= point["sum"] < 60


def test_the_async_face_does_the_same(tmp_path: Any) -> None:
    answer = run(PROVIDERS + ASYNC, tmp_path)
    (sender,), (process,) = named(answer, "send jobs"), named(answer, "process jobs")
    assert process["parent"] == sender["id"]
    assert (process["status"], process["events"]) == ("ERROR", 0)
    assert [span["parent"] for span in named(answer, "stats jobs")] == [process["id"]]
    assert [span["attributes"].get("error.type") for span in named(answer, "receive jobs")][-1] == "CancelledError"
    assert len(named(answer, "put users")) == 1
    assert "v4lue" not in json.dumps(answer)
    assert "k3y" not in json.dumps(answer)


def test_without_a_provider_nothing_is_done(tmp_path: Any) -> None:
    answer = run(PROVIDERS + NOT_SET, tmp_path)
    assert (answer["hooks"], answer["spans"], answer["metrics"]) == (0, [], None)
    assert answer["attributes"] == {"a": "b"}
    assert run(NOT_INSTALLED, tmp_path) == {"hooks": 0, "loaded": []}


OUTBOX = """
trace.set_tracer_provider(provider)
config = portable.Config.from_dict({
    "default_profile": "local",
    "profiles": {"local": {"default": "memory:", "bind": {"main": "sqlite:main.db"}}},
    "resources": {"jobs": {"kind": "queue"}, "main": {"kind": "database"}},
})
with portable.connect(config) as cloud:
    main = cloud.database("main")
    with trace.get_tracer("app").start_as_current_span("application"), main.begin() as connection:
        main.outbox(connection).send("jobs", b"1")
    main.relay(until_empty=True)
    cloud.queue("jobs").consume(lambda message: None, max_messages=1)
report()
"""


def test_what_left_through_an_outbox_is_of_the_trace_of_its_transaction(tmp_path: Any) -> None:
    answer = run(PROVIDERS + OUTBOX, tmp_path)
    (application,) = named(answer, "application")
    (processed,) = named(answer, "process jobs")
    assert (processed["trace"], processed["parent"]) == (application["trace"], application["id"])
