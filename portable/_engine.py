"""SQLAlchemy's names, for annotations; the async twin is written by hand and has the async ones."""

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

__all__ = ["Connection", "Engine", "Session"]
