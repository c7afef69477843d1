"""Azure Queue Storage on Azurite, against azure-storage-queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import portable
from benchmarks import vendor
from benchmarks.sampling import Figure, Plan
from benchmarks.servers import distant, serving

__all__ = ["measure"]

FAR = 10


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    from azure.storage.queue import QueueClient

    with serving("azurite", folder, "queue") as url:
        options = vendor.options_of(url)
        key = {"account_name": options["account"], "account_key": options["account_key"]}

        def theirs(name: str) -> tuple[Callable[[], object], Callable[[], object]]:
            client = QueueClient(options["endpoint"], name, credential=key)

            def receive() -> None:
                (message,) = client.receive_messages(messages_per_page=1, visibility_timeout=30, max_messages=1)
                assert message.content == vendor.TEXT
                client.delete_message(message.id, message.pop_receipt)

            return lambda: client.send_message(vendor.TEXT, time_to_live=-1), receive

        yield from vendor.queue(plan, "azqueue", "azure-storage-queue", url, theirs)
        # The service takes one message a call, so that a batch is many calls at once: that saves the waiting, of which
        # there is next to none where the server is on the same processors.
        with distant(options["endpoint"], milliseconds=FAR) as endpoint:
            far = url.replace(options["endpoint"], endpoint)
            with portable.open_queue(far, name="sent") as sent:
                sent.send(vendor.BODY)
                yield from vendor.sending(plan, f"azqueue {FAR} ms away", sent)
