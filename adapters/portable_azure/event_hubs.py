"""Streams, topics and subscriptions on Azure Event Hubs, through its Kafka endpoint.

What the service takes is on learn.microsoft.com/azure/event-hubs/apache-kafka-configurations,
…/apache-kafka-troubleshooting-guide and …/azure-event-hubs-kafka-overview: a hub is a topic, its name and its number of
partitions are given where it is made, and it is not made through Kafka; transactions are not for every tier; 1,024
bytes of text fit beside an offset; of compressions there is gzip.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from portable.bindings import Binding
from portable.changes import Change
from portable.drivers import Options
from portable.errors import ConfigError, Unsupported
from portable.quantities import Duration, Size
from portable.urls import Url
from portable_azure.errors import translating
from portable_azure.options import Credentials, token_credential
from portable_kafka.options import KafkaOptions
from portable_kafka.queue import KafkaQueue
from portable_kafka.stream import KafkaStream
from portable_kafka.tokens import Token, Tokens
from portable_kafka.topic import KafkaSubscription, KafkaTopic

__all__ = ["EventHubsOptions", "EventHubsQueue", "EventHubsStream", "EventHubsSubscription", "EventHubsTopic"]

PORT = 9093
DOMAIN = "servicebus.windows.net"
OFFSET_METADATA = 1024

_HOST = re.compile(r"(?:sb://)?((?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?)/?")
_WORDS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


class HubCredentials(Credentials, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """In place of `DefaultAzureCredential`: a connection string, a service principal, or a managed identity.

    Attributes:
        connection_string: of the namespace or of the hub: `Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…`.
    """

    connection_string: str | None = None

    __repr__ = Credentials.__repr__


class EventHubsOptions(Options, frozen=True, kw_only=True):
    """`eventhubs://NAMESPACE/hub`, or `eventhubs://hub?namespace=NAMESPACE`.

    The namespace is of the standard tier or above. It can be written with its domain where that is not
    `servicebus.windows.net`. Who asks is proven by Entra ID, or by the connection string where there is one.

    Attributes:
        namespace: the namespace, where the URL has a name alone.
        endpoint: `host:port` of the Kafka endpoint where it is not the namespace's own: a private one, or a Kafka that
            stands for it.
        credentials: in place of Azure's default chain.
        connection_string: the same as `credentials = { connection_string = … }`, for URLs.
        make_hubs: whether the endpoint makes hubs when Kafka's administration asks for it, as a Kafka that stands for
            the service does; the service itself has them made by the portal, `az` or a template.
        ca: a file with the certificates of authorities to trust, instead of the system's.
        engine: the client library; confluent-kafka where it is installed.
        partitions: how many a hub is made with; a stream's contract says it for streams.
        retention: how long a topic's hub that is made keeps what is published.
        compression: how batches are compressed.
        transactions: whether the namespace's tier has them; where not, what is given back is written before the offset
            is committed, and a crash between the two leaves it twice.
        max_message_bytes: the largest message, with its key and attributes.
        session_timeout: after so long without a sign of life a consumer's partitions go to others.
        max_poll_interval: how long a rebalance waits for a consumer, and so for the leases that it holds, at most.
    """

    namespace: str | None = None
    endpoint: str | None = None
    credentials: HubCredentials | None = None
    connection_string: str | None = None
    make_hubs: bool = False
    ca: Path | None = None
    engine: Literal["confluent", "kafka-python"] | None = None
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    retention: Duration = Duration(7 * 86400)
    compression: Literal["none", "gzip"] = "none"
    transactions: bool = False
    max_message_bytes: Size = Size(1_000_000)
    session_timeout: Duration = Duration(30)
    max_poll_interval: Duration = Duration(300)


class EntraTokens:
    """Tokens of Entra ID for a namespace; the identity is looked for with the first one.

    Args:
        host: the namespace's.
        given: in place of the default chain.
    """

    def __init__(self, host: str, given: Credentials) -> None:
        self._scope = f"https://{host}/.default"
        self._given = given
        self._identity: Any = None

    def __call__(self) -> Token:
        """Give a token, which azure-identity keeps until it is about to end.

        Raises:
            Unauthenticated: there is no identity, or it is not accepted.
        """
        with translating():
            if self._identity is None:
                self._identity = token_credential(self._given)
            found = self._identity.get_token(self._scope)
        return Token(found.token, float(found.expires_on))


class EventHubsStream(KafkaStream):
    """Satisfies `portable.drivers.StreamDriver`."""

    Options = EventHubsOptions  # type: ignore[assignment]  # what the URL says is what Kafka's driver is told, in its words

    def __init__(self, binding: Binding[EventHubsOptions]) -> None:
        self._hubs = _Hubs(binding)
        super().__init__(*_kafka(binding))

    def create(self) -> None:
        """Make the hub where it is missing, and the endpoint makes hubs."""
        self._hubs.refuse(self.plan)
        super().create()


class EventHubsTopic(KafkaTopic):
    """Satisfies `portable.drivers.TopicDriver`."""

    Options = EventHubsOptions  # type: ignore[assignment]  # the same

    def __init__(self, binding: Binding[EventHubsOptions]) -> None:
        self._hubs = _Hubs(binding)
        super().__init__(*_kafka(binding))

    def create(self) -> None:
        """Make the hub and its declared subscriptions, where the endpoint makes hubs."""
        self._hubs.refuse(self.plan)
        super().create()


class EventHubsSubscription(KafkaSubscription):
    """A queue that a topic's hub feeds, with hubs of its own for what is sent to it alone, delayed, and dead."""

    Options = EventHubsOptions  # type: ignore[assignment]  # the same

    def __init__(self, binding: Binding[EventHubsOptions]) -> None:
        self._hubs = _Hubs(binding)
        super().__init__(*_kafka(binding))

    def create(self) -> None:
        """Make the hubs, where the endpoint makes hubs, and have the group start at what is published from now on."""
        self._hubs.refuse(self.plan)
        super().create()


class EventHubsQueue(KafkaQueue):
    """The dead letters of a subscription."""

    Options = EventHubsOptions  # type: ignore[assignment]  # the same

    def __init__(self, binding: Binding[EventHubsOptions]) -> None:
        self._hubs = _Hubs(binding)
        super().__init__(*_kafka(binding))

    def create(self) -> None:
        """Make the hubs, where the endpoint makes hubs."""
        self._hubs.refuse(self.plan)
        super().create()


class _Hubs:
    """What makes the hubs of a resource: nobody here, unless the endpoint says so."""

    def __init__(self, binding: Binding[EventHubsOptions]) -> None:
        self._makes = binding.options.make_hubs
        self._namespace = _host(binding).partition(".")[0]

    def refuse(self, plan: Callable[[], list[Change]]) -> None:
        """Say how hubs are made, where some are missing.

        Args:
            plan: says what is missing.

        Raises:
            Unsupported: hubs are missing.
        """
        if self._makes:
            return
        missing = [one for one in plan() if one.action == "create" and one.what != "consumer group"]
        if missing:
            names = ", ".join(f"{one.name!r} ({one.detail})" for one in missing)
            raise Unsupported(
                f"the Kafka endpoint of Event Hubs makes no hubs, and these are missing: {names}; make each with: az "
                f"eventhubs eventhub create --resource-group … --namespace-name {self._namespace} --name … "
                "--partition-count …"
            )


def _kafka(binding: Binding[EventHubsOptions]) -> tuple[Binding[KafkaOptions], Tokens | None]:
    """Give the binding as the driver of Kafka reads it, and what gives tokens."""
    options, host = binding.options, _host(binding)
    given = _given(options)
    servers = f"{host}:{PORT}"
    if options.endpoint is not None:
        match = _HOST.fullmatch(options.endpoint)
        if match is None:
            raise ConfigError("endpoint= takes HOST:PORT of the Kafka endpoint")
        servers = match[1] if re.search(r":[0-9]+$", match[1]) else f"{match[1]}:{PORT}"
    connection = given.connection_string
    if connection is not None:
        _check_connection(connection, host, binding)
    url = Url(
        "kafka",
        host=servers,
        username="$ConnectionString" if connection else None,
        password=connection,
        path=binding.name,
        hosts=servers,
        shown=str(binding.url),
    )
    kafka: Binding[KafkaOptions] = Binding(
        resource=binding.resource,
        kind=binding.kind,
        name=binding.name,
        url=url,
        options=KafkaOptions(
            partitions=options.partitions,
            retention=options.retention,
            sasl="plain" if connection else "oauthbearer",
            tls=True,
            ca=options.ca,
            engine=options.engine,
            compression=options.compression,
            max_message_bytes=options.max_message_bytes,
            session_timeout=options.session_timeout,
            max_poll_interval=options.max_poll_interval,
            transactions=options.transactions,
            offset_metadata=Size(OFFSET_METADATA),
        ),
        contract=binding.contract,
        create=binding.create,
        shared=binding.shared,
        topic=binding.topic,
        subscriptions=tuple(_kafka(one)[0] for one in binding.subscriptions if one.url.scheme == binding.url.scheme),
        clock=binding.clock,
        on_clock_moved=binding.on_clock_moved,
    )
    return kafka, None if connection else EntraTokens(host, given)


def _given(options: EventHubsOptions) -> HubCredentials:
    """Give the credentials, wherever they are set."""
    given = options.credentials or HubCredentials()
    if options.connection_string is not None:
        if given != HubCredentials():
            raise ConfigError("connection_string and credentials are both set; keep one")
        given = HubCredentials(connection_string=options.connection_string)
    if given.account_key or given.sas_token:
        raise ConfigError("Event Hubs takes no account_key and no sas_token over Kafka; set a connection_string")
    if given.connection_string is not None and given != HubCredentials(connection_string=given.connection_string):
        raise ConfigError("the credentials are of several kinds; keep the connection_string or those of an identity")
    return given


def _host(binding: Binding[EventHubsOptions]) -> str:
    """Give the namespace's host name.

    Raises:
        ConfigError: nothing names the namespace, or two do.
    """
    options, url = binding.options, binding.url
    if url.username or url.port:
        raise ConfigError(
            "write eventhubs://NAMESPACE/HUB, with connection_string= or credentials, and endpoint=HOST:PORT"
        )
    # A lone authority is the name.
    named = url.host if url.path.strip("/") else None
    if bool(named) == bool(options.namespace):
        raise ConfigError("write eventhubs://NAMESPACE/HUB, or the namespace as namespace=, but not both")
    namespace = str(named or options.namespace)
    if not _WORDS.fullmatch(namespace):
        raise ConfigError(f"{namespace!r} is no namespace: it has letters, digits and -, and perhaps a domain behind")
    return (namespace if "." in namespace else f"{namespace}.{DOMAIN}").lower()


def _check_connection(text: str, host: str, binding: Binding[EventHubsOptions]) -> None:
    """Refuse a connection string that cannot work; no part of it but names is shown."""
    parts = dict(part.split("=", 1) for part in text.strip().split(";") if "=" in part)
    if "SharedAccessSignature" in parts:
        raise ConfigError(
            "Event Hubs takes no shared access signature over Kafka; the connection string has to hold a key"
        )
    match = _HOST.fullmatch(parts.get("Endpoint", ""))
    if match is None or not parts.get("SharedAccessKeyName") or not parts.get("SharedAccessKey"):
        raise ConfigError(
            "connection_string is none: it reads Endpoint=sb://…/;SharedAccessKeyName=…;SharedAccessKey=… "
            "(in a URL, with ; = and + as %3B %3D and %2B)"
        )
    of = match[1].partition(":")[0].lower()
    if binding.options.endpoint is None and of != host:
        raise ConfigError(f"the connection string is for {of}, and the URL names {host}")
    hub = parts.get("EntityPath")
    if hub is None:
        return
    if binding.kind in {"subscription", "queue"}:
        raise ConfigError(f"the connection string is for the hub {hub!r} alone; a {binding.kind} has several hubs")
    if hub != binding.name:
        raise ConfigError(f"the connection string is for the hub {hub!r} alone, and not for {binding.name!r}")
