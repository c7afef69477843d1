"""What the URL of a RabbitMQ may say, and what it means for pika."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

import msgspec
import pika

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError
from portable.quantities import Duration, Size

__all__ = ["RabbitOptions", "parameters"]

PORT, TLS_PORT = 5672, 5671


class RabbitOptions(Options, frozen=True, kw_only=True):
    """`amqp://user:password@host:port/physical-name?vhost=/`, or `amqps:` for the same over TLS.

    Attributes:
        vhost: the virtual host; the path of the URL is the physical name, as everywhere.
        heartbeat: seconds after which a connection without a sign of life is given up; what was received on it goes
            to others then.
        max_message_size: the largest body, which is what the server's `max_message_size` says.
        consumer_timeout: what the server's `consumer_timeout` says: a message that is held for longer is moved to a
            queue of its own before that, and held there.
        ca: a file with the certificates of authorities to trust, instead of the system's.
        certificate: a file with this client's own certificate.
        private_key: a file with the certificate's key.
    """

    vhost: str = "/"
    heartbeat: Annotated[int, msgspec.Meta(ge=2, le=65_535)] = 60
    max_message_size: Size = Size(16 * 1024 * 1024)
    consumer_timeout: Duration = Duration(1800)
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None


def parameters(binding: Binding[RabbitOptions], *, purpose: str) -> pika.ConnectionParameters:
    """Give what pika needs to connect; `purpose` is what the server shows of the connection.

    Raises:
        ConfigError: the URL names no host, or a file that its options name cannot be used.
    """
    url, options = binding.url, binding.options
    if not url.host or "," in url.hosts:
        raise ConfigError(f"the URL names no host, or several; write {url.scheme}://host:port/name")
    tls = url.scheme == "amqps"
    return pika.ConnectionParameters(
        host=url.host,
        port=url.port or (TLS_PORT if tls else PORT),
        virtual_host=options.vhost,
        # Where the URL says nothing, what every RabbitMQ lets in from its own machine.
        credentials=pika.PlainCredentials(url.username or "guest", url.password or "guest"),
        heartbeat=options.heartbeat,
        ssl_options=pika.SSLOptions(_context(options), url.host) if tls else None,
        client_properties={"connection_name": f"portable {purpose}"},
    )


def _context(options: RabbitOptions) -> ssl.SSLContext:
    if options.private_key is not None and options.certificate is None:
        raise ConfigError("private_key= needs certificate=, the file that it is the key of")
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.private_key)
    except OSError as error:
        # `ssl.SSLError` is one, too.
        raise ConfigError(f"ca=, certificate= or private_key= cannot be used: {error.strerror or error}") from error
    return context
