"""Every row of `limits.toml` at its edge, the union of services, names, and what the errors say."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import portable.limits
import portable.stored_sizes
from portable.contracts import CONTRACTS
from portable.errors import ConfigError, InvalidArgument, LimitExceeded
from portable.limits import Guard, check_name, guard, table
from portable.objects import ObjectHeaders
from portable.quantities import Duration, Size

DATA = tomllib.loads(Path(portable.limits.__file__).with_name("limits.toml").read_text())
SERVICES = DATA["services"]
CLOUDS = DATA["clouds"]
ROWS = [
    pytest.param(service, kind, row, id=f"{service}-{kind}-{row['name']}")
    for service, held in SERVICES.items()
    for row in held.get("limits", ())
    for kind in row.get("kinds", held["kinds"])
]
ENFORCED = [
    pytest.param(service, kind, row, id=f"{service}-{kind}-{row['name']}")
    for service, held in SERVICES.items()
    for row in held.get("limits", ())
    for kind in row.get("kinds", held["kinds"])
    if "handled" not in row
]
HANDLED = [
    pytest.param(service, kind, row, id=f"{service}-{kind}-{row['name']}")
    for service, held in SERVICES.items()
    for row in held.get("limits", ())
    for kind in row.get("kinds", held["kinds"])
    if "handled" in row
]
NAMES = [
    pytest.param(service, kind, rule, id=f"{service}-{kind}")
    for service, held in SERVICES.items()
    for rule in held.get("names", ())
    for kind in rule.get("kinds", held["kinds"])
]
steady = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
"""The same examples everywhere, however slow the machine."""
HUGE = Size.parse("8MiB")
"""Beyond it a test does not make the bytes themselves, but says that they are there."""


class Claimed(bytes):
    """Bytes that say they are longer than they are, so that half a gigabyte costs nothing."""

    length = 0

    def __len__(self):
        return self.length


def blob(size: int) -> bytes:
    if size <= HUGE:
        return b"a" * size
    claimed = Claimed()
    claimed.length = size
    return claimed


class ClaimedText(str):  # noqa: SLOT000  # it carries a length of its own
    """The same for text."""

    length = 0

    def __len__(self):
        return self.length


def text(size: int) -> str:
    if size <= HUGE:
        return "a" * size
    claimed = ClaimedText("a")
    claimed.length = size
    return claimed


def bound(row: dict[str, Any]) -> Any:
    if row["name"].endswith("_seconds"):
        return Duration.parse(row["value"])
    return Size.parse(row["value"]) if row["name"].endswith("_bytes") else row["value"]


def made(service: str, kind: str) -> Guard:
    held = guard([service], kind)
    assert held is not None
    return held


def body_of(row: dict[str, Any], stored: int) -> bytes:
    """A body that is stored in that many bytes, or in the most below it that Base64 can make."""
    room = stored - row.get("overhead", 0)
    return blob(room // 4 * 3 if row.get("counts") == "base64" else room)


def document(size: int, counts: str) -> tuple[str, bytes, dict[str, Any]]:
    """The key, JSON and fields of a document that is stored in that many bytes."""
    frame = {"bytes": len('{"f":""}'), "dynamodb": 1, "firestore": len("k") + 1 + 16 + 32 + len("f") + 1 + 1}[counts]
    fields = {"f": text(size - frame)}
    if size > HUGE:
        return "k", blob(size), fields
    return "k", json.dumps(fields, separators=(",", ":")).encode(), fields


def nested(levels: int) -> tuple[str, bytes, dict[str, Any]]:
    fields: dict[str, Any] = {}
    for _ in range(levels):
        fields = {"f": fields}
    return "k", json.dumps(fields).encode(), fields


def number(exponent: int) -> tuple[str, bytes, dict[str, Any]]:
    fields = {"n": Decimal((0, (1,), exponent))}
    return "k", json.dumps({"n": str(fields["n"])}).encode(), fields


def digits(count: int) -> tuple[str, bytes, dict[str, Any]]:
    fields = {"n": Decimal("7" * count)}
    return "k", json.dumps({"n": str(fields["n"])}).encode(), fields


CALLS: dict[str, Callable[[Guard, dict[str, Any], Any], None]] = {
    "max_key_bytes": lambda held, row, n: held.key(text(n)),
    "max_composite_key_bytes": lambda held, row, n: held.key((text(n - 2), "b")),
    "max_partition_bytes": lambda held, row, n: held.key((text(n), "b")),
    "max_sort_key_bytes": lambda held, row, n: held.key(("a", text(n))),
    "max_metadata_bytes": lambda held, row, n: held.metadata(ObjectHeaders(metadata={"a": text(n - 1)})),
    "max_system_metadata_bytes": lambda held, row, n: held.metadata(
        ObjectHeaders(cache_control=text(n - len("cache-control")))
    ),
    "max_object_bytes": lambda held, row, n: held.object_size(n),
    "min_part_bytes": lambda held, row, n: held.parts(n, 2),
    "max_part_bytes": lambda held, row, n: held.parts(n, 2),
    "max_parts": lambda held, row, n: held.parts(Size.parse("8MiB"), n),
    "max_sign_seconds": lambda held, row, n: held.sign(n),
    "max_message_bytes": lambda held, row, n: held.message(body_of(row, n)),
    "max_attributes": lambda held, row, n: held.message(b"", {f"a{i}": "" for i in range(n)}),
    "max_attributes_bytes": lambda held, row, n: held.message(
        b"", {"a": text(n // 3), "b": text(n // 3), "c": text(n - 2 * (n // 3) - 3)}
    ),
    "max_attribute_name_bytes": lambda held, row, n: held.message(b"", {text(n): ""}),
    "max_attribute_value_bytes": lambda held, row, n: held.message(b"", {"a": text(n)}),
    "max_delay_seconds": lambda held, row, n: held.message(b"", None, n),
    "max_ordering_key_bytes": lambda held, row, n: held.message(b"", None, 0.0, text(n)),
    "max_dedup_id_bytes": lambda held, row, n: held.message(b"", None, 0.0, None, text(n)),
    "min_visibility_seconds": lambda held, row, n: held.visibility(n),
    "max_visibility_seconds": lambda held, row, n: held.visibility(n),
    "max_deliveries": lambda held, row, n: held.deliveries(n),
    "min_retention_seconds": lambda held, row, n: held.retention(n),
    "max_retention_seconds": lambda held, row, n: held.retention(n),
    "max_record_bytes": lambda held, row, n: held.record(body_of(row, n)),
    "max_record_key_bytes": lambda held, row, n: held.record(b"", text(n)),
    "max_value_bytes": lambda held, row, n: held.value(body_of(row, n)),
    "max_ttl_seconds": lambda held, row, n: held.ttl(n),
    "max_counter": lambda held, row, n: held.counter(-n),
    "max_document_bytes": lambda held, row, n: held.document(*document(n, row.get("counts", "bytes"))),
    "max_depth": lambda held, row, n: held.document(*nested(n)),
    "max_number_digits": lambda held, row, n: held.document(*digits(n)),
    "max_number_exponent": lambda held, row, n: held.document(*number(n)),
    "min_number_exponent": lambda held, row, n: held.document(*number(n)),
    "max_in_values": lambda held, row, n: held.query_in(n),
    "max_not_in_values": lambda held, row, n: held.query_in(n, negated=True),
    "max_transaction_writes": lambda held, row, n: held.transaction(n),
    "max_transaction_bytes": lambda held, row, n: held.transaction(1, n),
}
"""By the limit's name: the call that asks for exactly `n` of what the row limits."""


@pytest.mark.parametrize(("service", "kind", "row"), ENFORCED)
def test_every_limit_takes_its_value_and_refuses_the_next(service, kind, row):
    held, edge, call = made(service, kind), bound(row), CALLS[row["name"]]
    # Base64 grows by four, so the first size beyond the edge is four away.
    step = 4 if row.get("counts") == "base64" else 1
    call(held, row, edge)
    with pytest.raises(LimitExceeded) as caught:
        call(held, row, edge - step if row["name"].startswith("min_") else edge + step)
    said = str(caught.value)
    assert said.startswith(f"{row['name']}: ")
    assert SERVICES[service]["title"] in said
    assert row["source"] in said
    assert isinstance(caught.value, InvalidArgument)


@pytest.mark.parametrize(("service", "kind", "row"), HANDLED)
def test_what_is_handled_is_not_refused(service, kind, row):
    held = guard([service], kind)
    names = {entry["name"] for entry in SERVICES[service]["limits"] if "handled" not in entry}
    assert row["name"] not in names
    if held is not None and row["name"] in CALLS:
        CALLS[row["name"]](held, row, bound(row) + 1)


def test_ten_times_the_attributes_are_no_refusal_where_they_are_packed():
    made("sqs", "queue").message(b"", {f"a{i}": "x" for i in range(100)})


@pytest.mark.parametrize(("service", "kind", "row"), ROWS)
def test_every_row_says_where_it_is_from(service, kind, row):
    assert row["source"].startswith("https://")
    assert kind in SERVICES[service]["kinds"]
    assert SERVICES[service]["cloud"] in {"aws", "gcp", "azure", "self-hosted"}
    assert bound(row)
    assert row["name"].startswith(("max_", "min_"))


@pytest.mark.parametrize(("service", "kind", "rule"), NAMES)
def test_every_rule_for_names_says_what_it_is(service, kind, rule):
    assert rule["source"].startswith("https://")
    assert rule["rule"]
    assert rule["unique"]
    assert kind in SERVICES[service]["kinds"]


def test_services_and_clouds_name_kinds_that_there_are():
    kinds = {*CONTRACTS, "project"}
    for service in SERVICES.values():
        assert kinds.issuperset(service["kinds"])
    for services in CLOUDS.values():
        assert set(services) == set(CONTRACTS)
        for kind, names in services.items():
            for name in names:
                assert kind in SERVICES[name]["kinds"]


def test_nothing_to_keep_to_is_no_guard():
    assert guard([], "queue") is None
    assert guard(["memcached"], "bucket") is None
    assert guard(["google-project"], "bucket") is None
    assert guard(["mysql"], "collection") is not None


@pytest.mark.parametrize(
    ("name", "said"), [("asw", "did you mean 'aws'"), ("kafak", "'kafka'"), ("%%", "known are aws, gcp, azure")]
)
def test_an_unknown_name_is_a_config_error_with_the_nearest(name, said):
    with pytest.raises(ConfigError, match=said):
        guard(["aws", name], "queue")


@steady
@given(st.lists(st.sampled_from([*CLOUDS, *SERVICES]), min_size=1, max_size=4), st.integers(0, 2_000_000))
def test_a_guard_is_the_strictest_of_what_it_was_asked_for(names, size):
    body = b"a" * size
    each = [refused(guard([name], "queue"), body) for name in names]
    assert refused(guard(names, "queue"), body) == any(each)


def refused(held: Guard | None, body: bytes) -> bool:
    try:
        if held is not None:
            held.message(body)
    except LimitExceeded:
        return True
    return False


def test_the_union_says_whose_limit_it_is():
    held = guard(["aws", "gcp", "azure"], "queue")
    assert held is not None
    with pytest.raises(LimitExceeded, match="Azure Queue Storage takes at most 65,536 bytes"):
        held.message(b"a" * 50_000)
    with pytest.raises(LimitExceeded, match=r"max_visibility_seconds: 601 s asked, Google Pub/Sub takes at most 600 s"):
        held.visibility(601)
    with pytest.raises(LimitExceeded, match="Amazon SQS takes at most 900 s"):
        held.message(b"", delay=900.5)
    held.message(b"a" * 40_000, {"type": "order.paid"}, 900, "customer-7", "once")


def test_the_whole_message_reads_as_a_sentence():
    with pytest.raises(LimitExceeded) as caught:
        made("sns", "topic").message(b"a" * 262_145)
    assert str(caught.value) == (
        "max_message_bytes: 262,145 bytes asked, counted as text, Amazon SNS takes at most 262,144 bytes "
        "(https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html); send less, or name a bucket in `offload`"
    )


@pytest.mark.parametrize("body", [b"\xff", b"\x00", "\ufffe".encode(), b"\xed\xa0\x80"])
def test_sqs_counts_what_is_no_xml_text_as_base64(body):
    held = made("sqs", "queue")
    held.message(body * (786_432 // len(body)))
    with pytest.raises(LimitExceeded):
        held.message(body * (786_436 // len(body)))
    held.message("ü\n\t😀".encode() * 131_072)


def test_sqs_counts_names_types_and_values_of_attributes():
    held, room = made("sqs", "queue"), 1_048_576 - len("name") - len("String") - len("värde".encode())
    held.message(b"a" * room, {"name": "värde"})
    with pytest.raises(LimitExceeded):
        held.message(b"a" * (room + 1), {"name": "värde"})


def test_storage_queue_counts_the_envelope_with_attributes():
    held, envelope = made("storagequeue", "queue"), len(b'{"type":"order"}')
    held.message(b"\xff" * (49_152 - envelope), {"type": "order"})
    with pytest.raises(LimitExceeded, match="counted as base64"):
        held.message(b"\xff" * (49_153 - envelope), {"type": "order"})


def test_kinesis_counts_the_key_and_the_envelope():
    held, beside = made("kinesis", "stream"), len("user-1") + len(b'{"a":"b"}')
    held.record(b"a" * (1_048_576 - beside), "user-1", {"a": "b"})
    with pytest.raises(LimitExceeded):
        held.record(b"a" * (1_048_577 - beside), "user-1", {"a": "b"})
    held.record(b"", "ü" * 256)
    with pytest.raises(LimitExceeded, match="257 characters"):
        held.record(b"", "ü" * 257)


def test_kafka_counts_its_own_framing_and_rabbitmq_the_body_alone():
    kafka = made("kafka", "stream")
    kafka.record(b"a" * (1_048_576 - 82 - 10 - 3), "k", {"a": "b"})
    with pytest.raises(LimitExceeded):
        kafka.record(b"a" * (1_048_576 - 82 - 10 - 2), "k", {"a": "b"})
    made("rabbitmq", "queue").message(b"a" * 16_777_216, {"a": "b"})


def test_azure_counts_the_characters_of_a_key_and_the_others_its_bytes():
    made("azureblob", "bucket").key("ü" * 1024)
    for other in ("s3", "gcs"):
        made(other, "bucket").key("ü" * 512)
        with pytest.raises(LimitExceeded):
            made(other, "bucket").key("ü" * 513)


@pytest.mark.parametrize(
    ("service", "kind", "character", "bytes_", "room"),
    [
        ("azureblob", "bucket", "\\", 3, 1024),
        ("azureblob", "bucket", "\x85", 6, 1024),
        ("gcs", "bucket", "\n", 3, 1024),
        ("cosmos", "collection", "/", 3, 1023),
        ("firestore", "collection", "/", 3, 1500),
        ("memcached", "cache", " ", 3, 250),
    ],
)
def test_characters_that_are_escaped_are_counted_escaped(service, kind, character, bytes_, room):
    held, most = made(service, kind), room // bytes_
    held.key("a" + character * (most - 1) + "a")
    with pytest.raises(LimitExceeded):
        held.key("a" + character * most + "a" * bytes_)


def test_metadata_is_counted_as_headers_carry_it():
    s3 = made("s3", "bucket")
    s3.metadata(ObjectHeaders(metadata={"a": "x" * 2047}))
    s3.metadata(ObjectHeaders(metadata={"a": "ü" * 341}))
    with pytest.raises(LimitExceeded, match="counted as header"):
        s3.metadata(ObjectHeaders(metadata={"a": "ü" * 342}))
    azure = made("azureblob", "bucket")
    azure.metadata(ObjectHeaders(metadata={"user-id": "x" * (8192 - 9)}))
    with pytest.raises(LimitExceeded):
        azure.metadata(ObjectHeaders(metadata={"user-id": "x" * (8192 - 8)}))
    s3.metadata(ObjectHeaders(content_type="text/plain"))


def test_a_single_part_may_be_small():
    made("s3", "bucket").parts(1, 1)


def test_documents_are_counted_as_the_vendor_counts_them():
    # 400 KiB of JSON escapes are far fewer bytes in DynamoDB; 200,000 small integers are more in Firestore.
    escapes = {"f": "\n" * 300_000}
    made("dynamodb", "collection").document("k", json.dumps(escapes).encode(), escapes)
    integers = {"f": [1] * 200_000}
    encoded = json.dumps(integers, separators=(",", ":")).encode()
    assert len(encoded) < 1_048_576
    with pytest.raises(LimitExceeded, match="Google Firestore"):
        made("firestore", "collection").document("k", encoded, integers)
    mixed = {"b": b"x" * 1000, "n": None, "t": True, "l": [1, 2.5, -3, Decimal("4.25")], "s": "é", "m": {"x": "y"}}
    made("dynamodb", "collection").document("k", b"x" * 409_600, mixed)
    made("firestore", "collection").document("k", b"x" * 1_048_576, mixed)


@pytest.mark.parametrize(
    ("value", "dynamodb", "firestore"),
    [
        (None, 1, 1),
        (True, 1, 1),
        ("", 0, 1),
        ("é", 2, 3),
        (b"abc", 3, 3),
        (7, 2, 8),
        (-12_300, 4, 8),
        (2.5, 2, 8),
        (Decimal("123.45"), 4, 7),
        (datetime(2024, 5, 6, tzinfo=UTC), 25, 8),
        ([], 3, 0),
        ([1, "ab"], 3 + 2 + 2 + 2, 8 + 3),
        ({"é": None}, 3 + 1 + 2 + 1, 3 + 1),
    ],
)
def test_each_type_takes_what_the_vendor_says(value, dynamodb, firestore):
    sizes = portable.stored_sizes.DOCUMENT_SIZES
    assert sizes["dynamodb"]("key", b"", {"name": value}) == 4 + dynamodb
    assert sizes["firestore"]("key", b"", {"name": value}) == 4 + 16 + 32 + 5 + firestore


@pytest.mark.parametrize("value", [1e126, -1e300, 1e-131, Decimal("1" * 39), Decimal("-1E-131")])
def test_numbers_that_dynamodb_cannot_hold_are_refused(value):
    fields = {"deep": [{"n": value}]}
    encoded = json.dumps(fields, default=str).encode()
    with pytest.raises(LimitExceeded, match="Amazon DynamoDB"):
        made("dynamodb", "collection").document("k", encoded, fields)


@pytest.mark.parametrize(
    "value", [0, 0.0, 1e125, 1e-130, 2**63 - 1, Decimal("1" * 38), Decimal("1E+125"), True, "1e999"]
)
def test_numbers_that_dynamodb_holds_are_not(value):
    fields = {"deep": [{"n": value}]}
    made("dynamodb", "collection").document("k", json.dumps(fields, default=str).encode(), fields)


@steady
@given(st.integers(0, 40), st.booleans())
def test_depth_is_found_beside_any_number_of_shallow_lists(levels, listed):
    value: object = 1
    for _ in range(levels):
        value = [value] if listed else {"f": value}
    fields = {"f": value, "flat": [[] for _ in range(50)]}
    held, encoded = made("firestore", "collection"), json.dumps(fields).encode()
    if levels > 20:
        with pytest.raises(LimitExceeded, match=f"max_depth: {levels} asked"):
            held.document("k", encoded, fields)
    else:
        held.document("k", encoded, fields)


@steady
@given(st.from_regex(r"[a-z](-?[a-z0-9]){2,39}", fullmatch=True).filter(lambda name: len(name) <= 40))
def test_every_resource_name_is_a_name_on_every_service(name):
    if "goog" in name or "g00gle" in name or name.startswith(("sthree-", "amzn-s3-demo-")) or name.endswith("-s3alias"):
        return
    for service, held in SERVICES.items():
        for kind in held["kinds"]:
            if kind != "project":
                check_name(service, kind, name)


@pytest.mark.parametrize(
    ("service", "kind", "good", "bad"),
    [
        (
            "s3",
            "bucket",
            ["abc", "a.b-c", "a" * 63],
            ["ab", "a" * 64, "Abc", "a..b", "10.0.0.1", "xn--abc", "-abc", "abc-"],
        ),
        ("gs", "bucket", ["a_b", "abc"], ["goog-x", "my-google", "ab", "a_"]),
        ("az", "bucket", ["$root", "abc"], ["a--b", "a.b", "ab", "$logs"]),
        ("sqs", "queue", ["Jobs_1-x", "jobs.fifo", "a" * 80], ["a.b", "", "a" * 81]),
        ("sns", "topic", ["events", "a" * 256], ["a b", "a" * 257]),
        ("kinesis", "stream", ["a.b_c-d"], ["a/b", "a" * 129]),
        ("dynamodb", "collection", ["abc", "a" * 255], ["ab", "a" * 256, "a/b"]),
        ("pubsub", "topic", ["abc", "a%2+~"], ["ab", "1abc", "goog1", "a b"]),
        ("google-project", "project", ["acme-prod"], ["acme", "1acmeprod", "acme-prod-", "a" * 31]),
        ("firestore", "collection", ["users", "é" * 750], ["a/b", "..", "__x__", "é" * 751]),
        ("azqueue", "queue", ["jobs", "a-b"], ["Jobs", "a--b", "-ab", "ab"]),
        ("servicebus", "queue", ["a/b", "a" * 260], ["/a", "a" * 261]),
        ("servicebus", "subscription", ["a" * 50], ["a/b", "a" * 51]),
        ("eventhubs", "stream", ["a.b_c"], [".a", "a" * 257]),
        ("cosmos", "collection", ["users", "a b"], ["a/b", "a#", "a ", "a" * 256]),
        ("kafka", "stream", ["a.b_c-d", "a" * 249], [".", "..", "a b", "a" * 250]),
        ("amqps", "queue", ["jobs:1", "é" * 127], ["amq.x", "", "é" * 128]),
        ("nats", "stream", ["a$b"], ["a.b", "a*", "a>", "a b", "a/b"]),
        ("nats", "cache", ["a-b_c"], ["a$b"]),
        ("postgresql", "collection", ["users", "é" * 31], ["", "é" * 32]),
        ("mysql", "database", ["main", "é" * 64], ["a ", "a" * 65]),
    ],
)
def test_names_are_checked_by_their_own_service(service, kind, good, bad):
    for name in good:
        check_name(service, kind, name)
    for name in bad:
        with pytest.raises(LimitExceeded, match="https://") as caught:
            check_name(service, kind, name)
        assert isinstance(caught.value, ConfigError)
        assert repr(name) in str(caught.value)


def test_services_without_a_rule_take_every_name():
    for service in ("memory", "file", "sqlite", "redis", "unheard-of"):
        check_name(service, "cache", "Any / name \0")


def test_a_guard_checks_names_for_all_its_services():
    held = guard(["aws", "gcp", "azure"], "bucket")
    assert held is not None
    held.name("photos")
    with pytest.raises(LimitExceeded, match="Azure Blob Storage"):
        held.name("my.photos")
    with pytest.raises(ConfigError, match="Google Cloud Storage"):
        held.name("google-photos")


def test_the_table_has_every_row():
    rows = table()
    assert len(rows) == sum(len(held.get("limits", ())) + len(held.get("names", ())) for held in SERVICES.values())
    assert all(row.source.startswith("https://") and row.value and row.kinds and row.cloud for row in rows)
    assert ("Amazon SQS", "max_delay_seconds", "15m") in {(row.service, row.limit, row.value) for row in rows}
    assert {row.limit for row in rows if "split" in row.counts or "several calls" in row.counts} >= {"max_batch"}


def test_importing_portable_reads_no_limits():
    code = "import sys, portable; sys.exit('portable.limits' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_far_below_every_limit_nothing_is_measured(monkeypatch):
    queue, bucket = guard(["aws", "gcp", "azure"], "queue"), guard(["aws", "gcp", "azure"], "bucket")
    users = guard(["aws", "gcp", "azure"], "collection")
    assert queue is not None
    assert bucket is not None
    assert users is not None
    for measure in ("message_size", "text_size", "depth", "numbers"):
        monkeypatch.setattr(portable.limits, measure, None)
    queue.message(b"a" * 200)
    bucket.key("folder/photo.jpg")
    users.document(("tenant", "user-1"), b'{"id":"user-1","n":1.5}', {"id": "user-1", "n": 1.5})
