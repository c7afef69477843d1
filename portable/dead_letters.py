"""The queue that is made beside another for what could not be handled."""

from __future__ import annotations

from typing import Any

from portable.bindings import Binding
from portable.contracts import QueueContract
from portable.wire import dead_letter_name

__all__ = ["NEVER", "dead_letter_binding"]

NEVER = 2**31 - 1
"""The deliveries that a dead letter has: as many as it takes, for there is no further queue behind."""


def dead_letter_binding(binding: Binding[Any]) -> Binding[Any]:
    """Give the binding of a queue's dead-letter queue, which stands in the same place under a name of its own."""
    contract: Any = binding.contract
    own = QueueContract(
        needs=tuple(feature for feature in contract.needs if feature != "ordered"),
        timeout=contract.timeout,
        retries=contract.retries,
        visibility_timeout=contract.visibility_timeout,
        max_deliveries=NEVER,
        offload=contract.offload,
    )
    return binding.beside(kind="queue", resource=binding.resource, name=dead_letter_name(binding.name), contract=own)
