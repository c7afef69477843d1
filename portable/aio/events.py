"""Messages that a function service pushes, batch by batch, instead of waiting to be asked for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from portable.aio._concurrency import called
from portable.aio.consumer import Handler, log_failure
from portable.aio.message import Message
from portable.errors import Unsupported
from portable.messages import Delivery

if TYPE_CHECKING:
    from portable.aio.deliveries import Deliveries
    from portable.aio.queue import Queue

__all__ = ["handle_pushed"]

T = TypeVar("T")


async def handle_pushed(
    queue: Queue[T], deliveries: Deliveries[T], event: Any, handler: Handler[T], limit: float
) -> dict[str, Any]:
    """Handle the messages of one event in turn, and give the answer that has the failed ones delivered again."""
    driver: Any = deliveries.driver
    if not getattr(driver, "pushed", False):
        raise Unsupported("no function service pushes the messages of this backend as events; use consume()")
    failed: list[Delivery] = []
    held_back: set[str] = set()
    for delivery in await driver.read_event(event):
        key = delivery.ordering_key
        if key is not None and key in held_back:
            failed.append(delivery)
            continue
        try:
            value = await deliveries.value(delivery, limit)
            await called(handler, Message(queue, delivery, value, "pushed"))
        except Exception as error:  # noqa: BLE001 (whatever the application raises)
            log_failure(queue.name, delivery, error)
            failed.append(delivery)
            if key is not None:
                held_back.add(key)
    answer: dict[str, Any] = await driver.answer_event(event, failed)
    return answer
