"""`portable outbox`: deliver what database transactions have left to be sent."""

from __future__ import annotations

import click

from portable.cli.invocation import Call, command, group

__all__ = ["outbox"]

outbox = group("outbox", "Deliver the messages that transactions left in a database's outbox.")


@command(outbox, "relay", example="portable outbox relay --database main")
@click.option("--database", "name", required=True, help="The database.")
@click.option("--until-empty", is_flag=True, help="End when nothing is due.")
@click.option("--interval", type=float, default=0.5, show_default=True, help="Seconds between looks.")
def relay(call: Call, name: str, until_empty: bool, interval: float) -> None:
    """Deliver each entry at least once, in order within its key, until SIGTERM or SIGINT.

    Any number may run: one at a time delivers, and another takes over when it dies.
    """
    from portable.worker import stopping

    with stopping() as stop, call.cloud() as cloud:
        delivered = cloud.database(name).relay(stop=stop, until_empty=until_empty, interval=interval)
    call.show({"delivered": delivered}, f"delivered {delivered}")
