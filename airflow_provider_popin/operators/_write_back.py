"""Tells the CRM what became of each lead, with the user's own statement."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_popin.operators._database_errors import describe
from airflow_provider_popin.operators.templated import argument_error
from airflow_provider_popin.sync.errors import WriteBackError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.sql.elements import TextClause

BINDS = ("lead_id", "customer_id", "join_url", "call_time", "state", "reason")
_KEYS = ("lead_id", "customer_id")
# As SQLAlchemy's text() reads them: `::type` is a cast, `\:` a colon; a name right before a cast is none.
_BIND = re.compile(r"(?<![:\w\\]):(\w+)(?![:\w])")
_BIND_BEFORE_CAST = re.compile(r"(?<![:\w\\]):(\w+)::")


def check_write_back_sql(sql: object, *, offered: Collection[str] = BINDS) -> None:
    """Refuse a statement that could not work, or would hit every row; touches no database.

    :param sql: ``write_back_sql``.
    :param offered: the names that it may use.
    :raises PopinInputError: it is no text, uses a name that is not offered, or none that says which row it
        means.
    """
    if not isinstance(sql, str):
        raise argument_error("write_back_sql", "must be the text of one statement")
    if cast := _BIND_BEFORE_CAST.search(sql):
        raise argument_error("write_back_sql", f"write CAST(:{cast[1]} AS ...) for :{cast[1]}::...")
    names = set(_BIND.findall(sql))
    if unknown := sorted(names.difference(offered)):
        raise argument_error(
            "write_back_sql",
            f"uses :{', :'.join(unknown)}; offered are :{', :'.join(offered)} "
            "(write \\: for a colon that is none of them)",
        )
    keys = [key for key in _KEYS if key in offered]
    if not names.intersection(keys):
        raise argument_error("write_back_sql", f"must say which row it means, with :{' or :'.join(keys)}")


class SqlWriteBack:
    """Runs the statement for each row: a batch in one transaction, row by row where the batch fails.

    A statement that runs at least once per change must be idempotent, so repeating is harmless.

    :param engine: SQLAlchemy engine of the CRM's database.
    :param sql: the statement; see :func:`check_write_back_sql`.
    :param conn_id: for errors.
    """

    def __init__(self, engine: Engine, *, sql: str, conn_id: str) -> None:
        self._engine = engine
        self._sql = sql
        self._names = sorted(set(_BIND.findall(sql)))
        self._conn_id = conn_id

    def __call__(self, batch: Sequence[Mapping[str, object]]) -> None:
        """Write a batch.

        :param batch: each row with all names that were offered; times are ISO 8601 with offset.
        :raises WriteBackError: carries the indexes of the rows that failed; the others are committed.
        """
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        rows = [{name: row[name] for name in self._names} for row in batch]
        if not rows:
            return
        statement = text(self._sql)
        try:
            with self._engine.connect() as connection:
                try:
                    with connection.begin():
                        connection.execute(statement, rows)
                except (SQLAlchemyError, ValueError):
                    self._one_by_one(connection, statement, rows)
        except SQLAlchemyError as error:
            # Not connected, or no longer: nothing of the batch is known to be written.
            raise self._failure(error, range(len(rows))) from None

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _one_by_one(
        self, connection: Connection, statement: TextClause, rows: Sequence[Mapping[str, object]]
    ) -> None:
        from sqlalchemy.exc import DBAPIError

        failed: list[int] = []
        first: DBAPIError | ValueError | None = None
        for index, row in enumerate(rows):
            try:
                with connection.begin():
                    connection.execute(statement, dict(row))
            # A ValueError is of the driver itself: a text that is not in the database's encoding.
            except (DBAPIError, ValueError) as error:
                # Neither is about this row. Each one would wait for a locked SQLite file as long as this did.
                if isinstance(error, DBAPIError) and (error.connection_invalidated or _is_locked(error.orig)):
                    raise
                failed.append(index)
                first = first or error
        if first is not None:
            # From None: the database's text may quote the value of a lead.
            raise self._failure(first, failed) from None

    def _failure(self, error: SQLAlchemyError | ValueError, failed: Sequence[int]) -> WriteBackError:
        what = f"write_back_sql failed for {len(failed)} rows through connection {self._conn_id!r}"
        return WriteBackError(f"{what}: {describe(error)}", failed=failed)


def _is_locked(cause: BaseException | None) -> bool:
    return isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorname", "") == "SQLITE_BUSY"
