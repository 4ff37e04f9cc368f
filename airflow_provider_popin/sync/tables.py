"""What the ledger's tables have in common; they are declared in ``schema`` and in ``webhooks.tables``."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
# Seconds since the epoch, UTC, by the database's own clock.
Instant = sa.Float(53)


def row_id() -> sa.Column[int]:
    """A primary key that counts up, on SQLite and on Postgres."""
    kind = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=True)
