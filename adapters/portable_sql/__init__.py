"""Everything that runs on a SQLAlchemy engine."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "sqlite": {"database": "portable_sql.database:SqlDatabase"},
    },
    extra="sql",
)
