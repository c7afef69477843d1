"""Finding, making and changing a queue of SQS and the dead-letter queue beside it."""

from __future__ import annotations

import json
import math
from typing import Any

from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.wire import dead_letter_name
from portable_aws.regional import Regional
from portable_aws.service_errors import FAILURES, code_of
from portable_aws.sqs_options import queue_name

__all__ = ["TAGS", "QueueSetup"]

TAGS = {"made-by": "portable"}

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
_RETENTION = 14 * 86400
_MOST_RECEIVES = 1000

_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
_THERE = {"QueueAlreadyExists", "QueueNameExists"}


class QueueSetup:
    """A queue and its dead-letter queue, at SQS. What it raises is boto3's own.

    Args:
        regional: gives the client.
        contract: the queue's.
        name: its physical name in the config.
        account: the account that it is of, where that is not the credentials' own.
    """

    def __init__(self, regional: Regional, contract: QueueContract, name: str, account: str | None) -> None:
        self._regional = regional
        self._account = account
        self._ordered = contract.ordered
        self.name = queue_name(name, ordered=contract.ordered)
        self._visibility = str(max(1, math.ceil(float(contract.visibility_timeout))))
        self._dead: str | None = None
        if contract.dead_letter is None and contract.max_deliveries < NEVER:
            self._dead = queue_name(dead_letter_name(name), ordered=False)
        # SQS moves what nobody could handle by itself, too; from a FIFO queue only into another.
        native = self._dead is not None and not contract.ordered and contract.max_deliveries <= _MOST_RECEIVES
        self._receives = contract.max_deliveries if native else None
        self._urls: dict[str, str] = {}

    def url(self) -> str:
        """Give the queue's URL."""
        return self._url(self.name)

    def arn(self) -> str:
        """Give the queue's ARN."""
        return str(self.attributes(self.name)["QueueArn"])

    def missing(self) -> list[Change]:
        """Say what is not there."""
        return [Change("create", what, name) for what, name in self._names() if self._found(name) is None]

    def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        changes = self.missing()
        if self._found(self.name) is not None:
            changes += [Change("change", "queue", self.name, detail) for _, detail in self._differences()]
        return changes

    def create(self) -> None:
        """Make what is missing, and bring what is there to what is declared."""
        for _, name in reversed(self._names()):
            if self._found(name) is None:
                self._make(name)
        changed = [name for name, _ in self._differences()]
        if changed:
            wanted = {"VisibilityTimeout": self._visibility, "RedrivePolicy": self._policy()}
            self._client.set_queue_attributes(QueueUrl=self.url(), Attributes={name: wanted[name] for name in changed})

    def attributes(self, name: str) -> dict[str, str]:
        """Give the attributes of a queue."""
        answer = self._client.get_queue_attributes(QueueUrl=self._url(name), AttributeNames=["All"])
        found: dict[str, str] = answer["Attributes"]
        return found

    def _make(self, name: str) -> None:
        attributes = {"MessageRetentionPeriod": str(_RETENTION), "VisibilityTimeout": self._visibility}
        if name == self.name and self._ordered:
            attributes["FifoQueue"] = "true"
        if name == self.name and self._receives is not None:
            attributes["RedrivePolicy"] = self._policy()
        try:
            answer = self._client.create_queue(QueueName=name, Attributes=attributes, tags=TAGS)
        except FAILURES as error:
            # Somebody else was faster, and made it otherwise.
            if code_of(error) not in _THERE:
                raise
        else:
            self._urls[name] = answer["QueueUrl"]

    def _differences(self) -> list[tuple[str, str]]:
        """Give the attributes of the queue that are to be changed, with what they are to say."""
        found = self.attributes(self.name)
        different: list[tuple[str, str]] = []
        if found.get("VisibilityTimeout") != self._visibility:
            different.append(("VisibilityTimeout", f"a lease of {self._visibility} s"))
        policy = json.loads(found.get("RedrivePolicy") or "{}")
        target = str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]
        receives = int(policy.get("maxReceiveCount", 0))
        if self._receives is not None and (target, receives) != (self._dead, self._receives):
            different.append(("RedrivePolicy", f"dead letters to {self._dead} after {self._receives} receives"))
        elif self._receives is None and target == dead_letter_name(self.name):
            different.append(("RedrivePolicy", "dead letters moved by us alone"))
        return different

    def _policy(self) -> str:
        if self._receives is None:
            return ""
        dead = self.attributes(str(self._dead))["QueueArn"]
        # Some servers know the number as a string only, and give it as one.
        return json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": str(self._receives)})

    def _names(self) -> list[tuple[str, str]]:
        names = [("queue", self.name)]
        if self._dead is not None:
            names.append(("dead-letter queue", self._dead))
        return names

    def _url(self, name: str) -> str:
        found = self._urls.get(name)
        if found is None:
            whose = {} if self._account is None else {"QueueOwnerAWSAccountId": self._account}
            found = self._urls[name] = str(self._client.get_queue_url(QueueName=name, **whose)["QueueUrl"])
        return found

    def _found(self, name: str) -> str | None:
        try:
            return self._url(name)
        except FAILURES as error:
            if code_of(error) in _MISSING:
                return None
            raise

    @property
    def _client(self) -> Any:
        return self._regional.client("sqs")
