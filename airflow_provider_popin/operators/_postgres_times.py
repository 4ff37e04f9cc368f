"""Times that Postgres has and Python has not: read as text, they spoil one row and not the whole query.

``TIME '24:00'``, the timestamp ``infinity``, years before Christ and after 9999: psycopg fails while it
fetches the rows, psycopg2 takes some of them for another time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# Postgres's own numbers of date, time, timetz, timestamp, timestamptz, interval.
_DATE, _TIME, _TIMETZ, _TIMESTAMP, _TIMESTAMPTZ, _INTERVAL = 1082, 1083, 1266, 1114, 1184, 1186
# And of arrays of them, which psycopg2 reads with types of their own.
_ARRAY_OF = {_DATE: 1182, _TIME: 1183, _TIMETZ: 1270, _TIMESTAMP: 1115, _TIMESTAMPTZ: 1185, _INTERVAL: 1187}


def read_leniently(connection: Connection) -> None:
    """Have this connection return as text what is no time in Python. Other databases are left alone.

    :param connection: before its first query
    """
    driver = connection.dialect.driver
    if connection.dialect.name != "postgresql" or driver not in ("psycopg", "psycopg2"):
        return
    own = connection.connection.dbapi_connection
    (_read_with_psycopg if driver == "psycopg" else _read_with_psycopg2)(own)


def _read_with_psycopg(connection: Any) -> None:
    from psycopg import DataError
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    def lenient(strict: type[Loader]) -> type[Loader]:
        class OrText(Loader):
            def __init__(self, oid: int, context: Any = None) -> None:
                super().__init__(oid, context)
                self._strict = strict(oid, context)

            def load(self, data: Any) -> Any:
                try:
                    return self._strict.load(data)
                except DataError:
                    return bytes(data).decode()

        return OrText

    adapters = connection.adapters
    for oid in (_DATE, _TIME, _TIMETZ, _TIMESTAMP, _TIMESTAMPTZ, _INTERVAL):
        adapters.register_loader(oid, lenient(adapters.get_loader(oid, Format.TEXT)))


def _read_with_psycopg2(connection: Any) -> None:
    from psycopg2 import DataError, extensions

    def lenient(strict: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def or_text(text: str | None, cursor: Any) -> Any:
            if text is not None and (text.startswith("24:") or "infinity" in text):
                return text  # else midnight, and the last moment that Python has
            try:
                return strict(text, cursor)
            except (ValueError, OverflowError, DataError):
                return text

        return or_text

    for oid, strict in {
        _DATE: extensions.PYDATE,
        _TIME: extensions.PYTIME,
        _TIMETZ: extensions.PYTIME,
        _TIMESTAMP: extensions.PYDATETIME,
        _TIMESTAMPTZ: extensions.PYDATETIMETZ,
        _INTERVAL: extensions.PYINTERVAL,
    }.items():
        one = extensions.new_type((oid,), "TIME_OR_TEXT", lenient(strict))
        many = extensions.new_array_type((_ARRAY_OF[oid],), "TIMES_OR_TEXTS", one)
        extensions.register_type(one, connection)
        extensions.register_type(many, connection)
