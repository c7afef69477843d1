"""The calls of one Firestore database that the collections need, in its own terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from google.api_core import exceptions as theirs
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from google.protobuf import timestamp_pb2

from portable.bindings import Binding
from portable.errors import Closed
from portable_gcp.attempts import retrying
from portable_gcp.errors import translating
from portable_gcp.options import FirestoreOptions, client_arguments, project

__all__ = ["CONFLICTS", "Calls", "at"]

CONFLICTS = (theirs.Aborted, theirs.FailedPrecondition, theirs.AlreadyExists, theirs.NotFound)
"""What a write whose condition does not hold is answered with."""

READ_AT_ONCE = 300

_ASCENDING = types.StructuredQuery.Direction.ASCENDING
_DESCENDING = types.StructuredQuery.Direction.DESCENDING
_AND = types.StructuredQuery.CompositeFilter.Operator.AND
_FROM = types.StructuredQuery.FieldFilter.Operator.GREATER_THAN_OR_EQUAL
_BELOW = types.StructuredQuery.FieldFilter.Operator.LESS_THAN


class Calls:
    """One database, through the vendor's generated client."""

    def __init__(self, binding: Binding[FirestoreOptions]) -> None:
        self._binding = binding
        self.database = f"projects/{project(binding)}/databases/{binding.options.database}"
        self._root = f"{self.database}/documents"
        self._made: FirestoreClient | None = None
        self._closed = False
        # The service finds the database by this.
        self._metadata = [("google-cloud-resource-prefix", self.database)]
        if (binding.options.endpoint or "").startswith("http:"):
            # The emulator lets nobody else write in batches.
            self._metadata.append(("authorization", "Bearer owner"))

    @property
    def client(self) -> FirestoreClient:
        """The vendor's client."""
        if self._closed:
            raise Closed("the resource is closed")
        if self._made is None:
            with translating():
                self._made = FirestoreClient(**client_arguments(self._binding, FirestoreGrpcTransport))
        return self._made

    def close(self) -> None:
        """Let go of the connection."""
        self._closed = True
        if self._made is not None:
            self._made.transport.close()

    def name(self, collection: str, document: str) -> str:
        """Give the full name of a document."""
        return f"{self._root}/{collection}/{document}"

    def read(self, names: Sequence[str], *, timeout: float) -> dict[str, types.Document]:
        """Give the documents that are there, by name."""
        found: dict[str, types.Document] = {}
        for start in range(0, len(names), READ_AT_ONCE):
            request: Any = {"database": self.database, "documents": names[start : start + READ_AT_ONCE]}
            answers: Iterable[Any] = self.client.batch_get_documents(
                request, timeout=timeout, retry=retrying(timeout), metadata=self._metadata
            )
            documents = (answer.found for answer in answers)
            found |= {name: document for document in documents if (name := document.name)}
        return found

    def commit(self, writes: Sequence[types.Write], *, timeout: float, again: bool = False) -> list[Any]:
        """Carry out writes, all of them or none; give the update times.

        Args:
            writes: what to write.
            timeout: seconds.
            again: whether it may be repeated where the answer was lost.
        """
        request: Any = {"database": self.database, "writes": list(writes)}
        answer = self.client.commit(
            request, timeout=timeout, retry=retrying(timeout, refused=not again), metadata=self._metadata
        )
        return [result.update_time for result in answer.write_results]

    def write_apart(self, writes: Sequence[types.Write], *, timeout: float) -> list[tuple[int, Any]]:
        """Carry out unconditional writes of different documents, each for itself; give status code and update time."""
        request: Any = {"database": self.database, "writes": list(writes)}
        answer: Any = self.client.batch_write(
            request, timeout=timeout, retry=retrying(timeout), metadata=self._metadata
        )
        return [
            (status.code, result.update_time)
            for status, result in zip(answer.status, answer.write_results, strict=True)
        ]

    def between(
        self, collection: str, field: str, low: bytes, high: bytes, *, descending: bool, limit: int, timeout: float
    ) -> Iterator[types.Document]:
        """Give the documents whose field lies in a half-open range, in its order."""
        query = self._query(collection, field, low, high)
        direction = _DESCENDING if descending else _ASCENDING
        query.order_by = [types.StructuredQuery.Order(field={"field_path": field}, direction=direction)]
        query.limit = limit  # type: ignore[assignment]  # the client makes its own type of it
        answers: Iterable[Any] = self.client.run_query(
            {"parent": self._root, "structured_query": query},
            timeout=timeout,
            retry=retrying(timeout),
            metadata=self._metadata,
        )
        return (answer.document for answer in answers if answer.document.name)

    def count(self, collection: str, field: str, low: bytes, high: bytes, *, timeout: float) -> int:
        """Count the documents whose field lies in a half-open range."""
        counting = types.StructuredAggregationQuery.Aggregation(
            count=types.StructuredAggregationQuery.Aggregation.Count(), alias="count"
        )
        query = types.StructuredAggregationQuery(
            structured_query=self._query(collection, field, low, high), aggregations=[counting]
        )
        answers: Iterable[Any] = self.client.run_aggregation_query(
            {"parent": self._root, "structured_aggregation_query": query},
            timeout=timeout,
            retry=retrying(timeout),
            metadata=self._metadata,
        )
        return sum(answer.result.aggregate_fields["count"].integer_value for answer in answers)

    @staticmethod
    def _query(collection: str, field: str, low: bytes, high: bytes) -> types.StructuredQuery:
        bounds = [
            types.StructuredQuery.Filter(
                field_filter=types.StructuredQuery.FieldFilter(
                    field={"field_path": field}, op=operator, value=types.Value(bytes_value=bound)
                )
            )
            for operator, bound in ((_FROM, low), (_BELOW, high))
        ]
        return types.StructuredQuery(
            from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
            where=types.StructuredQuery.Filter(
                composite_filter=types.StructuredQuery.CompositeFilter(op=_AND, filters=bounds)
            ),
        )


def at(revision: str) -> timestamp_pb2.Timestamp:
    """Give the update time that a revision is the text of.

    Raises:
        ValueError: it is none.
    """
    seconds, _, nanos = revision.partition(".")
    return timestamp_pb2.Timestamp(seconds=int(seconds), nanos=int(nanos))
