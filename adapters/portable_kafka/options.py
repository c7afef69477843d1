"""What the URL of a Kafka may say, and what it means for a connection."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError
from portable.identities import Sought, logins
from portable.quantities import Duration, Size
from portable_kafka.tokens import CommandTokens, LoginTokens, Tokens

__all__ = ["Connection", "KafkaOptions", "connection"]

PORT = 9092

_NODE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(?::([0-9]{1,5}))?")


class KafkaOptions(Options, frozen=True, kw_only=True):
    """`kafka://user:password@host1:port,host2:port/physical-name?sasl=plain&tls=true`.

    Several kinds, and any number of names, share one cluster; the hosts are some of its brokers.

    Attributes:
        partitions: how many a topic is made with; a stream's contract says it for streams. Other consumers of a queue
            than there are partitions get nothing.
        replication: on how many brokers a topic that is made has copies; the brokers' own default when left out.
        retention: how long a topic that is made keeps what is published; a queue keeps what was not acknowledged.
        sasl: how user and password are proven; `plain` where the URL names a user.
        auth: an identity whose tokens prove who this is: `gcp-iam` on Google's Managed Service for Apache Kafka; the
            user in the URL, without a password, names it where its credentials do not.
        credentials: for `auth`, in place of the identity's default chain, as its other services take them.
        tls: whether the connection is encrypted; the server is always verified then.
        ca: a file with the certificates of authorities to trust, instead of the system's.
        certificate: a file with this client's own certificate.
        private_key: a file with the certificate's key.
        token_command: for `sasl=oauthbearer`: a command that prints a token, run (without a shell) whenever one is due.
        engine: the client library; confluent-kafka where it is installed.
        compression: how batches are compressed.
        max_message_bytes: the largest message, with its key and attributes; topics are made to take it.
        session_timeout: after so long without a sign of life a consumer's partitions go to others.
        max_poll_interval: how long a rebalance waits for a consumer, and so for the leases that it holds, at most.
        transactions: whether the cluster has them; where not, what is given back is written before the offset is
            committed, and a crash between the two leaves it twice.
        offset_metadata: how much text the brokers keep beside an offset (`offset.metadata.max.bytes`).
    """

    partitions: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    replication: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    retention: Duration = Duration(7 * 86400)
    sasl: Literal["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"] | None = None
    auth: str | None = None
    credentials: dict[str, str] | None = None
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    token_command: str | None = None
    engine: Literal["confluent", "kafka-python"] | None = None
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    max_message_bytes: Size = Size(1_000_000)
    session_timeout: Duration = Duration(10)
    max_poll_interval: Duration = Duration(120)
    transactions: bool = True
    offset_metadata: Size = Size(4096)


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How the cluster is reached, whichever engine does it.

    Attributes:
        servers: `host:port` of brokers.
        mechanism: SASL's name of it, or None.
        username: for it.
        password: for it.
        tokens: what gives tokens, for OAUTHBEARER.
        tls: whether to encrypt.
        ca: file of authorities.
        certificate: file of the client's certificate.
        private_key: file of its key.
        compression: of batches.
        max_message_bytes: of a message.
        session_timeout: seconds.
        max_poll_interval: seconds.
        timeout: seconds that a message may take to be delivered.
        retries: how often a request is repeated that may be.
        transactions: whether the cluster has them.
        offset_metadata: how many bytes of text it keeps beside an offset.
    """

    servers: tuple[str, ...]
    mechanism: str | None
    username: str | None
    password: str | None
    tokens: Tokens | None
    tls: bool
    ca: Path | None
    certificate: Path | None
    private_key: Path | None
    compression: str
    max_message_bytes: int
    session_timeout: float
    max_poll_interval: float
    timeout: float
    retries: int
    transactions: bool
    offset_metadata: int

    def __repr__(self) -> str:
        """Say where, and no secret."""
        return f"<Connection {','.join(self.servers)}>"


def connection(binding: Binding[KafkaOptions], tokens: Tokens | None = None) -> Connection:
    """Read a binding.

    Args:
        binding: what the config says.
        tokens: what gives tokens, where another adapter knows how to get them.

    Raises:
        ConfigError: what the URL names does not fit together.
    """
    options, url = binding.options, binding.url
    servers = _servers(url.hosts or url.host or "")
    tokens = _tokens(binding, servers, tokens)
    mechanism = options.sasl or ("oauthbearer" if tokens else "plain" if url.username else None)
    if mechanism == "oauthbearer":
        if tokens is None:
            raise ConfigError("sasl=oauthbearer needs token_command=, which prints a token, or auth=")
    elif tokens is not None:
        raise ConfigError(
            f"sasl={mechanism} takes no tokens; leave out token_command= and auth=, or write sasl=oauthbearer"
        )
    elif mechanism is not None and not (url.username and url.password):
        raise ConfigError(f"sasl={mechanism} needs a user and a password: kafka://user:password@host:port/name")
    elif mechanism is None and url.password:
        raise ConfigError("the URL has a password, and no user; write kafka://user:password@host:port/name")
    if options.auth and not options.tls:
        raise ConfigError(f"auth={options.auth} sends tokens of the cloud, which want tls=true")
    if (options.certificate or options.private_key or options.ca) and not options.tls:
        raise ConfigError("ca=, certificate= and private_key= mean nothing without tls=true")
    return Connection(
        servers=servers,
        mechanism=mechanism.upper() if mechanism else None,
        username=url.username,
        password=url.password,
        tokens=tokens,
        tls=options.tls,
        ca=options.ca,
        certificate=options.certificate,
        private_key=options.private_key,
        compression=options.compression,
        max_message_bytes=int(options.max_message_bytes),
        session_timeout=float(options.session_timeout),
        max_poll_interval=max(float(options.max_poll_interval), float(options.session_timeout)),
        timeout=float(binding.contract.timeout),
        retries=binding.contract.retries,
        transactions=options.transactions,
        offset_metadata=max(64, int(options.offset_metadata)),
    )


def _tokens(binding: Binding[KafkaOptions], servers: tuple[str, ...], tokens: Tokens | None) -> Tokens | None:
    """Give what gives tokens, where anything does."""
    options = binding.options
    if options.token_command is not None and options.auth is not None:
        raise ConfigError("token_command= and auth= both give tokens; keep one")
    if options.credentials is not None and options.auth is None:
        raise ConfigError("credentials are those of auth=, which is not set; a user and a password stand in the URL")
    if options.auth is not None:
        if binding.url.password:
            raise ConfigError(f"auth={options.auth} takes tokens for a password; leave the user alone in the URL")
        host, _, port = servers[0].rpartition(":")
        user, given = binding.url.username, options.credentials or {}
        sought = Sought(protocol="kafka", host=host, port=int(port), username=user, credentials=given)
        return LoginTokens(logins(options.auth, sought))
    if options.token_command is not None:
        return CommandTokens(tuple(shlex.split(options.token_command)))
    return tokens


def _servers(hosts: str) -> tuple[str, ...]:
    if not hosts:
        raise ConfigError("the URL names no host; write kafka://host:port/name")
    servers = []
    for text in hosts.split(","):
        match = _NODE.fullmatch(text.strip())
        if match is None or int(match[2] or 1) not in range(1, 65536):
            raise ConfigError(f"{text!r} in the URL is no host:port")
        servers.append(f"{match[1]}:{match[2] or PORT}")
    return tuple(servers)
