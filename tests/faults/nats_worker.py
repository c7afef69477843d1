"""A process that receives from a queue on NATS in batches, and says on standard output what it handled."""

from __future__ import annotations

import sys

from portable import open_queue

if __name__ == "__main__":
    url, name = sys.argv[1:]
    with open_queue(url, name=name, visibility_timeout="4s", max_deliveries=1000) as queue:
        while messages := queue.receive(50, wait=10):
            for message in messages:
                sys.stdout.write(f"{message.body.decode()}\n")
            sys.stdout.flush()
            queue.ack_many(messages)
