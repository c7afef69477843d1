"""What the RabbitMQ drivers decide without a server: delays, headers, options, errors."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import exceptions as theirs
from pika.adapters.utils import connection_workflow

from portable import errors, open_queue, open_subscription
from portable.messages import Outgoing
from portable.wire import RESERVED
from portable_rabbitmq import wire
from portable_rabbitmq.delays import LONGEST_DELAY, due_key, rounded
from portable_rabbitmq.errors import translated


@given(st.floats(0, LONGEST_DELAY, exclude_min=True))
def test_delays_are_never_shorter_and_hardly_longer(delay: float) -> None:
    digits = rounded(delay)
    assert len(digits) == 8
    assert len(digits.replace("0", "")) <= 3
    kept = int(digits, 16) / 1000
    # At least a millisecond, and whole ones.
    assert delay - 1e-9 * delay <= kept <= max(delay * 1.004, delay + 0.001) + 1e-6


@pytest.mark.parametrize(
    ("delay", "digits"), [(0.0001, "00000001"), (1.5, "000005dc"), (4.0961, "00001010"), (65.535, "0000fff0")]
)
def test_rounded_delays(delay: float, digits: str) -> None:
    assert rounded(delay) in {digits, f"{int(digits, 16) + 0x10:08x}"}


def test_names_in_routing_keys() -> None:
    assert due_key("a.b") == "a.b"
    assert due_key("a.*.#%") == "a.%2A.%23%25"
    with pytest.raises(errors.LimitExceeded):
        due_key("*" * 100)


NAMES = st.text(min_size=1, max_size=300).filter(lambda name: not name.startswith(RESERVED))
"""Names of our own are refused before."""


@given(st.dictionaries(NAMES, st.text(), max_size=12))
def test_attributes_come_back_as_they_were(attributes: dict[str, str]) -> None:
    # So is half of a surrogate pair.
    try:
        encoded = {name.encode(): value.encode() for name, value in attributes.items()}
    except UnicodeEncodeError:
        return
    properties = wire.outgoing(Outgoing(b"", attributes))
    headers: dict[str, Any] = properties.headers or {}
    assert all(len(name.encode()) <= 255 for name in headers)
    # The server would route by these, or refuse them.
    assert not [name for name in headers if name in {"CC", "BCC"} or name.lower().startswith("x-")]
    found = wire.attributes_of(headers)
    assert {name.encode(): value.encode() for name, value in found.items()} == encoded


def test_what_the_server_adds_is_not_told() -> None:
    headers = {"x-death": [{"count": 1}], "x-first-death-queue": "q", "x-delivery-count": 3, "x-mine": "kept"}
    assert wire.attributes_of(headers) == {"x-mine": "kept"}
    assert wire.attributes_of({"when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}) == {"when": '"2026-01-01T00:00:00Z"'}


def test_a_copy_keeps_what_it_had() -> None:
    properties = pika.BasicProperties(
        headers={"a": "b", "x-delivery-count": 2, "x-death": []}, content_type="text/plain", expiration="5", user_id="u"
    )
    copy = wire.copied(properties, "id", 3)
    assert copy.headers == {"a": "b", "portable-deliveries": 3}
    assert (copy.message_id, copy.content_type, copy.delivery_mode) == ("id", "text/plain", 2)
    # It would expire on its way, or be refused from somebody else.
    assert (copy.expiration, copy.user_id) == (None, None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"visibility_timeout": "1h"}, "consumer_timeout"),
        ({"heartbeat": 1}, "heartbeat"),
        ({"vhots": "/"}, "vhost"),
    ],
)
def test_wrong_options(options: dict[str, Any], told: str) -> None:
    with pytest.raises(errors.ConfigError, match=told):
        open_queue("amqp://localhost/jobs", **options)


@pytest.mark.parametrize("url", ["amqp:jobs", "amqp://one,two/jobs"])
def test_urls_without_one_host(url: str) -> None:
    with open_queue(url, create="if_missing", name="jobs") as jobs, pytest.raises(errors.ConfigError, match="host"):
        jobs.send(b"body")


def test_files_of_tls_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for options in ({"ca": tmp_path / "no.pem"}, {"ca": tmp_path / "missing"}, {"private_key": tmp_path / "no.pem"}):
        how: dict[str, Any] = {name: str(path) for name, path in options.items()}
        with open_queue("amqps://localhost/jobs", **how) as jobs, pytest.raises(errors.ConfigError):
            jobs.send(b"body")


def test_names_that_do_not_fit() -> None:
    with pytest.raises(errors.PortableError, match="name"):
        open_queue("amqp://localhost", name="n" * 250)


def test_filters_that_no_header_carries() -> None:
    with pytest.raises(errors.ConfigError, match="255"):
        open_subscription("amqp://localhost", name="sub", topic="topic", filter={"n" * 300: "x"})


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("theirs_", "ours", "retryable"),
    [
        (
            theirs.ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'refused'"),
            errors.Unauthenticated,
            False,
        ),
        (theirs.ProbableAuthenticationError("StreamLostError: ('EOF',)"), errors.Unavailable, True),
        (theirs.ProbableAccessDeniedError("ConnectionClosedByBroker: (530) no access"), errors.PermissionDenied, False),
        (
            theirs.ProbableAccessDeniedError("ConnectionClosedByBroker: (530) vhost x not found"),
            errors.ResourceNotFound,
            False,
        ),
        (theirs.ConnectionClosedByBroker(320, "CONNECTION_FORCED"), errors.Unavailable, True),
        (theirs.ChannelClosedByBroker(404, "NOT_FOUND - no queue"), errors.ResourceNotFound, False),
        (theirs.ChannelClosedByBroker(404, "home node is down or inaccessible"), errors.Unavailable, True),
        (theirs.ChannelClosedByBroker(403, "ACCESS_REFUSED"), errors.PermissionDenied, False),
        (theirs.ChannelClosedByBroker(406, "inequivalent arg 'x-queue-type'"), errors.ConfigError, False),
        (
            theirs.ChannelClosedByBroker(406, "message size 9 is larger than configured max size 8"),
            errors.LimitExceeded,
            False,
        ),
        (theirs.ChannelClosedByBroker(599, "whatever"), errors.PortableError, False),
        (theirs.StreamLostError("reset"), errors.Unavailable, True),
        (theirs.NoFreeChannels(), errors.Unavailable, True),
        (untrusted(), errors.Unavailable, False),
        (theirs.ConnectionClosedByClient(200, "bye"), errors.Closed, False),
        (theirs.ShortStringTooLong("x"), errors.PortableError, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors(theirs_: Exception, ours: type[errors.PortableError], *, retryable: bool) -> None:
    found = translated(theirs_, sent=True)
    assert type(found) is ours
    assert found.retryable is retryable
    assert found.maybe_applied is (ours is errors.Unavailable)
    assert found.__cause__ is theirs_
    wrapped = connection_workflow.AMQPConnectionWorkflowFailed(
        [connection_workflow.AMQPConnectorSocketConnectError(theirs_)]
    )
    assert type(translated(wrapped, sent=False)) is ours
