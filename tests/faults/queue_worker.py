"""A process that sends to a queue, or consumes it, and says on standard output what it did."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

from portable import Message, open_queue


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def send(url: str, writer: str, count: int) -> None:
    """Send one at a time, and name each message once it is known to be kept."""
    with open_queue(url, name="jobs", durability="process") as queue:
        for number in range(count):
            queue.send(f"{writer}.{number}")
            say(f"{writer}.{number}")


def consume(url: str, concurrency: int) -> None:
    """Consume until nothing comes for a while, naming each message as it is handled."""

    def handle(message: Message[bytes]) -> None:
        say(message.body.decode())

    with open_queue(url, name="jobs", durability="process", visibility_timeout="6s", max_deliveries=1000) as queue:
        # Longer than a lease, so that whoever is left takes what a killed one held.
        queue.consume(handle, concurrency=concurrency, idle_timeout=9)


def receive(url: str) -> None:
    """Receive in batches, name each message, and acknowledge the batch as a whole."""
    with open_queue(url, name="jobs", durability="process", visibility_timeout="6s", max_deliveries=1000) as queue:
        while messages := queue.receive(25, wait=9):
            for message in messages:
                say(message.body.decode())
            queue.ack_many(messages)


def hold(url: str) -> None:
    """Receive one message, name it, and keep it until killed."""
    with open_queue(url, name="jobs", durability="process", visibility_timeout="2s") as queue:
        (message,) = queue.receive(wait=30)
        say(message.body.decode())
        sys.stdin.read()


def wait(url: str) -> None:
    """Wait for messages, saying of each how long ago it was sent, until the one that says `end`."""
    with open_queue(url, name="jobs", durability="process") as queue:
        queue.receive(wait=0)
        say(f"waiting {time.process_time()}")
        while True:
            for message in queue.receive(wait=60):
                now = datetime.now(UTC)
                message.ack()
                say(f"{(now - message.sent_at).total_seconds()} {time.process_time()}")
                if message.body == b"end":
                    return


if __name__ == "__main__":
    what, url, *rest = sys.argv[1:]
    if what == "send":
        send(url, rest[0], int(rest[1]))
    elif what == "consume":
        consume(url, int(rest[0]))
    else:
        {"receive": receive, "hold": hold, "wait": wait}[what](url)
