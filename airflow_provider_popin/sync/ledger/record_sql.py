"""Reading and writing many lead records at once, in the driver's own words: the ledger's hot path.

Every POST costs the ledger two events, and each event a record read and written. SQLAlchemy's handling of
parameters and results took two thirds of that time (measured, 26 columns a record), so these statements are
made here from the tables of ``schema`` and go to the driver's own cursor with plain tuples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import compress, starmap
from operator import attrgetter, is_not
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.events import Ending, Record

# What a record held, as of `Record.values`, and the record as it is to be.
Change = tuple[tuple[Any, ...], Record]
# Lead, start of the slot, number.
Seat = tuple[int, int, int]

_NAMES = [column.name for column in schema.record_columns]
_UPDATED_AT = _NAMES.index("updated_at")
_encoder = json.JSONEncoder(ensure_ascii=False)
_SELECT = f"SELECT {', '.join(_NAMES)} FROM {schema.leads.name} WHERE"  # noqa: S608 - names of ours only
_SELECT_ENDING = f"SELECT {', '.join(Ending._fields)} FROM {schema.leads.name} WHERE"  # noqa: S608
_SEAT_COLUMNS = "account, lead, slot_start, number"
_INSERT_SEAT = f"INSERT INTO {schema.seats.name} ({_SEAT_COLUMNS}) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
_INSERT_SEATS_FROM_JSON = (
    f"INSERT INTO {schema.seats.name} ({_SEAT_COLUMNS})"  # noqa: S608 - names of ours only
    " SELECT %s, lead, slot_start, number"
    " FROM json_to_recordset(%s::json) AS given(lead bigint, slot_start bigint, number integer)"
    " ON CONFLICT DO NOTHING RETURNING lead, slot_start, number"
)
_SELECT_SEATS = f"SELECT lead, slot_start, number FROM {schema.seats.name} WHERE lead"  # noqa: S608
# SQLite has no truth values of its own and gives 0 and 1.
_TRUTH_VALUES = tuple(
    index for index, column in enumerate(schema.record_columns) if isinstance(column.type, sa.Boolean)
)


def read_locked(connection: Connection, ids: Sequence[int]) -> list[Record]:
    """Records by id, ascending; other writers are kept off them until the transaction ends.

    :param connection: in a write transaction
    :param ids: at least one and at most 500; unknown ones are left out
    """
    return _read(connection, "id", (), ids, lock=True)


def read_endings(connection: Connection, ids: Sequence[int]) -> list[Ending]:
    """Where leads ended, in any order.

    :param connection: in a transaction
    :param ids: at least one and at most 500; unknown ones are left out
    """
    return list(starmap(Ending, _select(connection, _SELECT_ENDING, "id", (), ids)))


def read_leads(
    connection: Connection, account: str, source: str, lead_ids: Sequence[str], *, lock: bool
) -> list[Record]:
    """All generations of some leads, ascending by id.

    :param connection: in a transaction
    :param lead_ids: at least one and at most 500; unknown ones are left out
    :param lock: keep other writers off these records until the transaction ends
    """
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    condition = f"account = {mark} AND source = {mark} AND lead_id"
    return _read(connection, condition, (account, source), lead_ids, lock)


def take_seats(connection: Connection, account: str, seats: Sequence[Seat]) -> set[Seat]:
    """Insert seats, of which some may be somebody else's.

    :param connection: in a write transaction
    :param seats: at least one and at most 500
    :return: those that these leads have now, some maybe from before
    """
    with driver_cursor(connection) as cursor:
        if connection.dialect.name == "sqlite":
            cursor.executemany(_INSERT_SEAT, [(account, *seat) for seat in seats])
            leads = [lead for lead, _, _ in seats]
            cursor.execute(f"{_SELECT_SEATS} IN ({','.join('?' * len(leads))})", leads)
            return set(cursor.fetchall())
        rows = [{"lead": lead, "slot_start": start, "number": number} for lead, start, number in seats]
        cursor.execute(_INSERT_SEATS_FROM_JSON, (account, as_json(rows)))
        taken: set[Seat] = set(cursor.fetchall())
        # Not all of them: in a new ledger Postgres would read the whole table each time.
        if others := [lead for lead, start, number in seats if (lead, start, number) not in taken]:
            cursor.execute(f"{_SELECT_SEATS} = ANY(%s)", (others,))
            taken.update(cursor.fetchall())
        return taken


def write(connection: Connection, records: Sequence[Record], names: tuple[str, ...]) -> None:
    """Write some columns of records back.

    :param connection: in a write transaction that has locked them
    :param records: each once
    :param names: columns of ``schema.leads`` that are fields of a record
    """
    if not records:
        return
    with driver_cursor(connection) as cursor:
        if connection.dialect.name != "sqlite":
            cursor.execute(*_update_many(names, [(record, None) for record in records]))
        else:
            statement, values = _update(names)
            cursor.executemany(statement, [values(record) for record in records])


def write_changes(connection: Connection, changes: Sequence[Change]) -> None:
    """Write the columns back in which records differ from what they held.

    :param connection: in a write transaction that has locked them
    :param changes: each record once
    """
    names = _union(frozenset(map(_differences, changes)))
    if names:
        write(connection, [record for _, record in changes], names)


def write_unless_changed(connection: Connection, changes: Sequence[Change]) -> set[int]:
    """Write records back that nobody else has changed, which their ``updated_at`` tells.

    On Postgres it is one statement.

    :param connection: in a write transaction, or one that commits each statement
    :param changes: each record once
    :return: ids of the records that were written
    """
    if not changes:
        return set()
    differences = [_differences(change) for change in changes]
    with driver_cursor(connection) as cursor:
        if connection.dialect.name != "sqlite":
            rows = [(record, before[_UPDATED_AT]) for before, record in changes]
            cursor.execute(*_update_many(_union(frozenset(differences)), rows))
            return {key for (key,) in cursor.fetchall()}
        written: set[int] = set()
        for (before, record), names in zip(changes, differences, strict=True):
            statement, values = _update(names)
            cursor.execute(f"{statement} AND updated_at = ?", (*values(record), before[_UPDATED_AT]))
            if cursor.rowcount == 1:
                written.add(record.id)
        return written


def _differences(change: Change) -> tuple[str, ...]:
    """The columns that were given another value: few sets of them, so few statements, ever occur.

    By identity, which is quicker: it is never wrong where it says that nothing has changed.
    """
    before, record = change
    return tuple(compress(_NAMES, map(is_not, before, record.values())))


@cache
def _union(sets: frozenset[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for name in _NAMES if any(name in names for names in sets))


def read_clock(connection: Connection) -> float:
    """Now by the database's clock, as epoch seconds.

    :param connection: any open connection
    """
    with driver_cursor(connection) as cursor:
        cursor.execute(f"SELECT {schema.database_clock(connection).text}")
        return float(cursor.fetchone()[0])


@contextmanager
def driver_cursor(connection: Connection) -> Iterator[Any]:
    """The driver's cursor, in the connection's transaction; its errors are raised as SQLAlchemy would.

    :param connection: any open connection
    :raises sqlalchemy.exc.DBAPIError: what the driver raised
    """
    cursor = connection.connection.cursor()
    dialect: Any = connection.dialect  # what is asked of it has other types in SQLAlchemy 1.4 and 2
    try:
        yield cursor
    except dialect.dbapi.Error as error:
        lost = dialect.is_disconnect(error, connection.connection, cursor)
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            None,
            None,
            error,
            dialect.dbapi.Error,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=dialect,
        ) from error
    finally:
        cursor.close()


def as_json(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as Postgres takes them in one parameter.

    :param rows: column to value
    :raises ValueError: a text holds a NUL
    """
    text = _encoder.encode(rows)
    # So it looks encoded; what follows a backslash of the text itself may look the same.
    if "\\u0000" in text and any("\0" in str(value) for row in rows for value in row.values()):
        # The server would quote the text around it in its error.
        raise ValueError("Postgres stores no NUL")
    return text


def _read(
    connection: Connection, condition: str, given: tuple[str, ...], keys: Sequence[int | str], lock: bool
) -> list[Record]:
    order = "ORDER BY id"
    if connection.dialect.name == "sqlite":
        rows = _select(connection, _SELECT, condition, given, keys, order)
        return [Record(*_with_truth_values(row)) for row in rows]
    order += " FOR UPDATE" if lock else ""
    return [Record(*row) for row in _select(connection, _SELECT, condition, given, keys, order)]


def _select(
    connection: Connection,
    select: str,
    condition: str,
    given: tuple[str, ...],
    keys: Sequence[int | str],
    order: str = "",
) -> list[tuple[Any, ...]]:
    with driver_cursor(connection) as cursor:
        if connection.dialect.name != "sqlite":
            cursor.execute(f"{select} {condition} = ANY(%s) {order}", (*given, list(keys)))
        else:
            # Few lengths of lists are few statements, which the driver keeps prepared: the last key fills up.
            length = 1 << (len(keys) - 1).bit_length()
            marks = ",".join("?" * length)
            filled = (*given, *keys, *(keys[-1],) * (length - len(keys)))
            cursor.execute(f"{select} {condition} IN ({marks}) {order}", filled)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


@cache
def _update(names: tuple[str, ...]) -> tuple[str, Callable[[Record], tuple[Any, ...]]]:
    changes = ", ".join(f"{name} = ?" for name in names)
    return f"UPDATE {schema.leads.name} SET {changes} WHERE id = ?", attrgetter(*names, "id")  # noqa: S608


def _update_many(
    names: tuple[str, ...], rows: Sequence[tuple[Record, float | None]]
) -> tuple[str, tuple[object, ...]]:
    """The statement and its parameters for Postgres.

    It takes the rows as JSON, which both drivers and the server handle faster than a parameter for each
    value; and the ids once more, without which the table would be read from end to end.

    :param rows: with the ``updated_at`` that each must still have, None for any
    """
    statement, values = _update_from_json(names)
    columns = (*names, "id", "before")
    given = [dict(zip(columns, (*values(record), before), strict=False)) for record, before in rows]
    # As text: drivers take their time for a list.
    ids = ",".join([str(record.id) for record, _ in rows])
    return statement, (as_json(given), f"{{{ids}}}")


@cache
def _update_from_json(names: tuple[str, ...]) -> tuple[str, Callable[[Record], tuple[Any, ...]]]:
    changes = ", ".join(f"{name} = given.{name}" for name in names)
    columns = ", ".join(f"{name} {_json_type(schema.leads.c[name])}" for name in names)
    statement = (
        f"UPDATE {schema.leads.name} AS lead SET {changes} FROM"  # noqa: S608 - names of ours only
        f" json_to_recordset(%s::json) AS given({columns}, id bigint, before double precision)"
        " WHERE lead.id = given.id AND lead.updated_at = coalesce(given.before, lead.updated_at)"
        " AND lead.id = ANY(%s::bigint[]) RETURNING lead.id"
    )
    return statement, attrgetter(*names, "id")


def _json_type(column: sa.Column[Any]) -> str:
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return "boolean"
    if isinstance(kind, sa.Integer):
        return "bigint"
    # Not varchar: that would cut what is too long without a word.
    return "text" if isinstance(kind, sa.String) else "double precision"


def _with_truth_values(row: Sequence[Any]) -> list[Any]:
    values = list(row)
    for index in _TRUTH_VALUES:
        values[index] = bool(values[index])
    return values
