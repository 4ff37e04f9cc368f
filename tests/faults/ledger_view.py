"""The ledger as an outsider sees it: plain SQL, nothing of the code under test."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from tests.faults.people import mark_of

TABLES = (
    "popin_ledger",
    "popin_sources",
    "popin_leads",
    "popin_seats",
    "popin_owners",
    "popin_history",
    "popin_runs",
)

Lead = Mapping[str, Any]


class LedgerView:
    """Reads a ledger, and makes time pass in it.

    :param url: of the database
    """

    def __init__(self, url: str) -> None:
        # autocommit: a test that looks on must not hold a lock
        self._engine = sa.create_engine(
            url, future=True, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool
        )

    def rows(self, table: str) -> list[Lead]:
        """All rows of a table; none if there is no such table yet."""
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(table):
                return []
            order = "ORDER BY id" if table in ("popin_leads", "popin_history", "popin_runs") else ""
            query = sa.text(f"SELECT * FROM {table} {order}")
            return [dict(row) for row in connection.execute(query).mappings()]

    def leads(self) -> dict[str, Lead]:
        """The leads by mark."""
        return {mark_of(row["lead_id"], row["generation"]): row for row in self.rows("popin_leads")}

    def states(self) -> dict[str, tuple[str, str]]:
        """Capture state and booking state of each lead, by mark."""
        return {mark: (row["capture_state"], row["booking_state"]) for mark, row in self.leads().items()}

    def ended(self) -> dict[str, str]:
        """One word for where each lead stands, by mark: the booking's state, or the capture's before it."""
        return {
            mark: capture if booking == "waiting" else booking
            for mark, (capture, booking) in self.states().items()
        }

    def sending(self) -> list[str]:
        """Leads with a POST under way."""
        return [mark for mark, states in self.states().items() if "sending" in states]

    def live_owners(self) -> list[str]:
        """Runs whose lease has not run out."""
        return [row["run"] for row in self.rows("popin_owners") if row["deadline"] > time.time()]

    def let_time_pass(self) -> None:
        """Every deadline and lease is over, as if an hour had passed."""
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "postgresql":
                # Who holds a row may be paused by the caller, until the caller is done here.
                connection.execute(sa.text("SET lock_timeout = '2s'"))
            if sa.inspect(connection).has_table("popin_leads"):
                connection.execute(
                    sa.text("UPDATE popin_leads SET deadline = deadline - 3600 WHERE deadline IS NOT NULL")
                )
                connection.execute(sa.text("UPDATE popin_owners SET deadline = deadline - 3600"))

    def dump(self) -> str:
        """Everything that the ledger holds, as text."""
        return "\n".join(f"{table} {row}" for table in TABLES for row in self.rows(table))
