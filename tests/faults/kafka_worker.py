"""A process that receives from a queue on Kafka, acknowledges some of it, and hangs until it is killed."""

from __future__ import annotations

import sys
import threading

from portable import Message, open_queue


def work(url: str, name: str) -> None:
    """Receive twenty messages, acknowledge every second one, the last ones first, and print what was."""
    with open_queue(url, name=name, visibility_timeout="600s", session_timeout="6s") as queue:
        held: list[Message[bytes]] = []
        while len(held) < 20:
            held += queue.receive(20 - len(held), wait=30)
        for message in reversed(held[::2]):
            message.ack()
            sys.stdout.write(f"{message.body.decode()}\n")
        sys.stdout.write("held\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2])
