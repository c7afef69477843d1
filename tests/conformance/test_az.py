"""Blob Storage on Azurite, by the suite of buckets, by both engines in both faces."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from portable.testing.aio.bucket import BucketSuite as AsyncBucketSuite
from portable.testing.bucket import BucketSuite
from tests.targets import target

BY_SDK = {"engine": "azure-storage-blob"}

# A thousand objects by the vendor's client on a busy machine.
pytestmark = pytest.mark.timeout(300)


class _Azurite:
    url: ClassVar[str]
    _open_ones: list[Any]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("azurite", "bucket")

    @pytest.fixture(autouse=True)
    def _cleaned(self, _lifetime: None) -> Any:
        yield
        # The emulator keeps them in memory.
        drivers = [getattr(bucket._driver, "_driver", bucket._driver) for bucket in self._open_ones]
        for driver in {driver._binding.name: driver for driver in drivers if driver._is_open}.values():
            driver.native.delete_container(driver._binding.name)


class TestBlobStorage(_Azurite, BucketSuite):
    pass


class TestBlobStorageAsync(_Azurite, AsyncBucketSuite):
    pass


class TestBlobStorageBySdk(_Azurite, BucketSuite):
    options = BY_SDK


class TestBlobStorageBySdkAsync(_Azurite, AsyncBucketSuite):
    options = BY_SDK
