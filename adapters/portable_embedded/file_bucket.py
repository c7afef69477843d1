"""Objects as plain files under a folder: `docs/wire-formats/bucket.md` has the layout."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any, Literal, TypeVar
from zlib import crc32

from portable import drivers
from portable.batches import Page
from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.checksums import combine
from portable.errors import (
    AlreadyExists,
    IntegrityError,
    InvalidArgument,
    NotFound,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
    Unsupported,
)
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_embedded.file_attributes import Attributes, Stored, VanishedError, describe, etag_of
from portable_embedded.file_errors import MISSING, translated
from portable_embedded.file_listing import Listing
from portable_embedded.file_names import names_of
from portable_embedded.file_store import Store
from portable_embedded.file_tree import Tree
from portable_embedded.object_listing import beginning, paged

__all__ = ["FileBucket", "FileBucketOptions"]
