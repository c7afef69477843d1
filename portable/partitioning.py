"""Which partition of a stream a key belongs to: Kafka's own rule, so that producers in other languages agree."""

from __future__ import annotations

import functools

__all__ = ["murmur2", "partition_of"]

_MASK = 0xFFFFFFFF
_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """Hash bytes as `org.apache.kafka.common.utils.Utils.murmur2` does, as an unsigned number of 32 bits."""
    length = len(data)
    hashed = _SEED ^ length
    whole = length & ~3
    # The words are little-endian on every machine, as Kafka's own.
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        hashed = hashed * _MULTIPLIER & _MASK ^ word
    if length > whole:
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _MASK
    return hashed ^ hashed >> 15


@functools.lru_cache(maxsize=16384)
def partition_of(key: str, partitions: int) -> int:
    """Give the number, from 0, of the partition that a key belongs to: `toPositive(murmur2(key)) % partitions`."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
