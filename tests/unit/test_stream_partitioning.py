"""Keys go to the partitions that Kafka's own clients choose."""

from __future__ import annotations

import pytest

from portable.partitioning import murmur2, partition_of

# From Kafka's own UtilsTest.testMurmur2, signed as Java prints them.
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), VECTORS.items(), ids=str)
def test_murmur2(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_a_negative_hash_is_made_positive_by_its_sign_bit() -> None:
    assert partition_of("foobar", 7) == (-790332482 & 0x7FFFFFFF) % 7


def test_keys_spread_evenly() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[partition_of(f"user-{number}", 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200
