"""A process that appends to a stream, or consumes it, and says on standard output what it did."""

from __future__ import annotations

import itertools
import sys

from portable import open_stream


def append(url: str, writer: str, count: int) -> None:
    """Append, for ever where the count is 0, and print each position once it is known to be kept."""
    with open_stream(url, name="clicks", durability="process") as stream:
        for number in itertools.count() if count == 0 else range(count):
            position = stream.append(f"{writer}.{number}", key=writer)
            sys.stdout.write(f"{position} {writer}.{number}\n")
            sys.stdout.flush()


def consume(url: str) -> None:
    """Consume for ever, printing each record and then, once it is committed, `committed`."""
    with open_stream(url, name="clicks", durability="process", session_timeout="5s") as stream:
        consumer = stream.consumer("workers")
        while True:
            records = consumer.poll(timeout=1.0, max_records=5)
            for record in records:
                sys.stdout.write(f"{record.data.decode()}\n")
            sys.stdout.flush()
            consumer.commit()
            if records:
                sys.stdout.write("committed\n")
                sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "append":
        append(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        consume(sys.argv[2])
