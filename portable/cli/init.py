"""`portable init`: a first config file."""

from __future__ import annotations

from pathlib import Path

import click

from portable.cli.invocation import Call, command
from portable.errors import AlreadyExists

__all__ = ["TEMPLATE", "init"]

TEMPLATE = """\
# What the application needs, and where each profile finds it.
# Check it with:   portable config check --all-profiles
# See all of it:   portable config explain
# The reference:   portable config schema (a JSON Schema, for editors)

default_profile = "local"

# ---- The contract: the same on every cloud. Remove what you do not use. ----

[resources.photos]
kind = "bucket"

[resources.jobs]
kind = "queue"
# needs = ["delay"]              # capabilities that every profile must have
visibility_timeout = "30s"       # how long a received message stays hidden; durations: 250ms 30s 5m 2h 7d
max_deliveries = 5               # then it goes to the dead-letter queue

[resources.events]
kind = "topic"

[resources.mailer]
kind = "subscription"            # a queue that gets its own copy of what the topic publishes
topic = "events"
filter = { type = "order.paid" } # attributes that must be equal

[resources.clicks]
kind = "stream"
needs = ["groups"]               # consumer groups, kept by the backend

[resources.sessions]
kind = "cache"

[resources.users]
kind = "collection"
key = "id"
indexes = ["email", ["status", "-created"]]

[resources.main]
kind = "database"

# ---- Where it is: one profile for each place that the application runs. ----

[profiles.local]                 # needs nothing installed
default = "sqlite:.portable/app.db"
# Refuse here already what the clouds would refuse, so that moving there is a change of the profile alone.
guard = { limits = ["aws", "gcp", "azure"], needs = "strict" }

# [profiles.local.bind]
# photos = "file:/srv/photos"

# [profiles.production.bind]
# photos = "s3://acme-photos?region=eu-west-1"
# jobs   = { url = "sqs://acme-jobs", region = "eu-west-1" }
# main   = "postgresql://app:${env:DB_PASSWORD}@db.example.com/main"
"""


@command(None, "init", example="portable init")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(call: Call, force: bool) -> None:
    """Write a commented portable.toml (or the file that --config names)."""
    path = call.config or Path("portable.toml")
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise AlreadyExists(f"{path} is there already; give --force to overwrite it") from None
    call.show({"path": str(path)}, f"wrote {path}; check it with: portable config check")
