"""`portable topic`: publish."""

from __future__ import annotations

import click

from portable.cli.invocation import Call, assignments, command, group, read_input

__all__ = ["topic"]

topic = group("topic", "Publish to a topic; `portable queue` looks at its subscriptions.")


@command(topic, "publish", example="portable topic publish events '{\"order\": 7}' --attribute type=order.paid")
@click.argument("name")
@click.argument("body")
@assignments("--attribute", "-a", "attributes", help="An attribute of the message; may be repeated.")
@click.option("--ordering-key", help="The key within which messages keep their order.")
def publish(call: Call, name: str, body: str, attributes: dict[str, str], ordering_key: str | None) -> None:
    """Publish BODY, or with - what stdin holds, as one message; print its id."""
    with call.cloud() as cloud:
        sent = cloud.topic(name).publish(read_input(body), attributes=attributes, ordering_key=ordering_key)
        call.show({"id": sent}, sent)
