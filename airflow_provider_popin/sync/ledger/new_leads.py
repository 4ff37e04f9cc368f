"""Leads that the ledger does not know yet, added many at once in the driver's own words.

Every row of a first run comes through here. Of what is inserted only the ids are the database's own choice;
the rest is known, so it is not read again. See :mod:`.record_sql` for why SQLAlchemy is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.events import BookingState, CaptureState, Record
from airflow_provider_popin.sync.ledger.record_sql import as_json, driver_cursor

_Values = tuple[Any, ...]

_GIVEN = ("lead_id", "generation", "claim_owner", "wish", "fingerprint")
# As a `Record` of which nothing else is told; what is not named here is NULL.
_ALWAYS = {
    "capture_state": CaptureState.NEW.value,
    "booking_state": BookingState.WAITING.value,
    "attempt": 0,
    "capture_doubted": False,
    "booking_doubted": False,
    "resends": 0,
    "reply_incomplete": False,
    "time_mismatch": False,
    "alarm": False,
    "change": 0,
    "written": 0,
}
_SAME = (*_ALWAYS, "account", "source", "updated_at", "created_at")
_COLUMNS = ", ".join((*_GIVEN, *_SAME))
_MARKS = ", ".join("?" * (len(_GIVEN) + len(_SAME)))
_INSERT = f"INSERT INTO {schema.leads.name} ({_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"  # noqa: S608
_INSERT_FROM_JSON = (
    f"INSERT INTO {schema.leads.name} ({_COLUMNS})"  # noqa: S608 - names of ours only
    f" SELECT {', '.join(_GIVEN)}, {', '.join(['%s'] * len(_SAME))} FROM json_to_recordset(%s::json)"
    " AS given(lead_id text, generation bigint, claim_owner text, wish text, fingerprint text)"
    " ON CONFLICT DO NOTHING RETURNING id, lead_id, generation"
)


def insert(
    connection: Connection, account: str, source: str, leads: Sequence[Mapping[str, object]], now: float
) -> list[Record]:
    """Insert leads; one that the ledger knows already is left out. On Postgres it is one statement.

    :param connection: in a write transaction
    :param leads: ``lead_id``, ``generation`` and, for a claimed lead, ``claim_owner``, ``wish`` and
        ``fingerprint``; inserted in this order
    :param now: by the database's clock
    :return: those that were added
    """
    same = (*_ALWAYS.values(), account, source, now, now)
    if connection.dialect.name == "sqlite":
        added = _insert_each(connection, leads, same)
    else:
        added = _insert_all(connection, leads, same)
    return [
        Record(
            key,
            lead_id,
            generation,
            claim_owner=claim_owner,
            wish=wish,
            fingerprint=fingerprint,
            updated_at=now,
        )
        for key, (lead_id, generation, claim_owner, wish, fingerprint) in added
    ]


def _insert_each(
    connection: Connection, leads: Sequence[Mapping[str, object]], same: _Values
) -> list[tuple[int, _Values]]:
    added = []
    with driver_cursor(connection) as cursor:
        for lead in leads:
            given = tuple([lead.get(name) for name in _GIVEN])
            cursor.execute(_INSERT, given + same)
            if cursor.rowcount == 1:
                added.append((cursor.lastrowid, given))
    return added


def _insert_all(
    connection: Connection, leads: Sequence[Mapping[str, object]], same: _Values
) -> list[tuple[int, _Values]]:
    rows = [{name: lead.get(name) for name in _GIVEN} for lead in leads]
    given = {(row["lead_id"], row["generation"]): tuple(row.values()) for row in rows}
    with driver_cursor(connection) as cursor:
        cursor.execute(_INSERT_FROM_JSON, (*same, as_json(rows)))
        return [(key, given[lead_id, generation]) for key, lead_id, generation in cursor.fetchall()]
