"""How long short leases, delays and lives are where nothing is far away, so that they need not be waited for."""

from __future__ import annotations

__all__ = ["LEASE"]

LEASE = 0.25
"""Seconds."""
