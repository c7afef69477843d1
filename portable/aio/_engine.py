"""SQLAlchemy's async names, for annotations; the sync twin is written by hand and has the sync ones."""

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

__all__ = ["AsyncConnection", "AsyncEngine", "AsyncSession"]
