"""Firestore on Google's emulator, against google-cloud-firestore."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from benchmarks import vendor
from benchmarks.sampling import Figure, Plan
from benchmarks.servers import serving

__all__ = ["measure"]


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    from google.cloud import firestore

    with serving("firestore-emulator", folder) as url:
        options = vendor.options_of(url)
        # This client knows no other way to an emulator.
        with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": urlsplit(options["endpoint"]).netloc}):
            client = firestore.Client(project=options["project"])

        def theirs(_: Any) -> tuple[Callable[[], str], Callable[[str], object]]:
            (found,) = client.collection("books").stream()
            item, place = found.to_dict() or {}, found.reference

            def read() -> str:
                return str(place.get().get("data"))

            return read, lambda text: place.set({**item, "data": text})

        yield from vendor.collection(plan, "firestore", "google-cloud-firestore", url, theirs)
