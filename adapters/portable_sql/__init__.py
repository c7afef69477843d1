"""Everything that runs on a SQLAlchemy engine."""

from portable.registry import Adapter

__all__ = ["adapter"]

_BOTH = {
    "collection": "portable_sql.collection:SqlCollection",
    "database": "portable_sql.server_database:ServerDatabase",
    "queue": "portable_sql.queue:SqlQueue",
    "topic": "portable_sql.topic:SqlTopic",
    "subscription": "portable_sql.topic:SqlSubscription",
}
_POSTGRESQL = {
    **_BOTH,
    "cache": "portable_sql.cache:SqlCache",
}
_MYSQL = {
    **_BOTH,
}

adapter = Adapter(
    schemes={
        "sqlite": {"database": "portable_sql.sqlite_database:SqliteDatabase"},
        "postgresql": _POSTGRESQL,
        "mysql": _MYSQL,
        "mariadb": _MYSQL,
        "mssql": {"database": "portable_sql.mssql_database:MssqlDatabase"},
    },
    extra="sql",
    # The database comes before the physical name.
    place_segments=1,
)
