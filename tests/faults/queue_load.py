"""Ten thousand messages through a queue whose server is killed meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from portable import open_queue
from portable.errors import PortableError
from portable.queue import Queue
from tests.patience import PATIENCE, persistently, wait_until

__all__ = ["all_arrive"]

TOTAL = 10_000
SENDERS = 4


def all_arrive(
    url: str,
    kill: Callable[[], object],
    *,
    shares: Sequence[float],
    at_once: int,
    receivers: int = 3,
    patience: float = PATIENCE,
    **contract: Any,
) -> Queue[bytes]:
    """Send and receive at the same time, kill the server meanwhile, and check that sent = received.

    Args:
        url: the server's URL.
        kill: kills the server, and may wait until it is back.
        shares: how much of all is sent when it is killed, once each.
        at_once: how many messages a sender sends in one call.
        receivers: how many threads receive.
        patience: how long each step may take, in seconds.
        **contract: what else the queue is opened with.

    Returns:
        The queue, closed.
    """
    sent: list[str] = []
    found: Counter[str] = Counter()
    done = threading.Event()
    how: dict[str, Any] = {"name": "jobs", "max_deliveries": 1000, "create": "if_missing", **contract}
    with open_queue(url, **how) as sender, open_queue(url, **how) as receiver:
        sender.stats()
        receiver.stats()

        def send(start: int) -> None:
            for number in range(start, TOTAL, at_once * SENDERS):
                batch = [str(one) for one in range(number, number + at_once)]
                persistently(lambda batch=batch: sender.send_many(batch), patience=patience)  # type: ignore[misc]  # the default binds it
                sent.extend(batch)

        def receive() -> None:
            while not done.is_set():
                messages = persistently(lambda: receiver.receive(100, wait=0.5), patience=patience)
                found.update(message.body.decode() for message in messages)
                # Those whose answer was lost may come again.
                with contextlib.suppress(PortableError):
                    receiver.ack_many(messages)

        with ThreadPoolExecutor(SENDERS + receivers) as threads:
            sending = [threads.submit(send, start * at_once) for start in range(SENDERS)]
            receiving = [threads.submit(receive) for _ in range(receivers)]
            try:
                for share in shares:
                    wait_until(lambda share=share: len(sent) >= TOTAL * share, patience=patience)  # type: ignore[misc]  # the default binds it
                    kill()
                for one in sending:
                    one.result(patience)
                wait_until(lambda: len(found) >= TOTAL, patience=patience)
            finally:
                done.set()
            for one in receiving:
                one.result(patience)
        assert set(found) == {str(number) for number in range(TOTAL)}
        assert len(sent) == TOTAL
        # Nothing is buried, and what is left was handled before.
        assert sender.stats().dead == 0
        assert {message.body.decode() for message in sender.receive(1000, wait=0)} <= set(found)
    return sender
