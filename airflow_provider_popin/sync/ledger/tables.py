"""What the ledger's tables have in common; they are declared in ``schema`` and in ``event_tables``."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
# Seconds since the epoch, UTC, by the database's own clock.
Instant = sa.Float(53)


def row_id() -> sa.Column[int]:
    """A primary key that counts up, on SQLite and on Postgres."""
    kind = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)


def partial_index(name: str, *columns: str, where: str, where_postgres: str | None = None) -> sa.Index:
    """An index of some rows only. A query uses it where it has the same condition, as text, not as parameter.

    :param name: of the index.
    :param columns: its columns.
    :param where: which rows, for SQLite.
    :param where_postgres: the same for Postgres, where it must be said in another way.
    """
    return sa.Index(
        name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where_postgres or where)
    )
