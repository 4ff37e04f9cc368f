"""The ledger: durable transactions on SQLite and Postgres, and events applied to lead records.

Everything that changes a lead goes through :meth:`Ledger.apply`: rows are read under a lock, ``states.apply``
decides, and what it changed is written back in the same transaction. So the rules stand in ``states`` only,
for every database.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from airflow_provider_popin.sync import record_sql, schema, states
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.events import Effects, Event, Planned, Record
from airflow_provider_popin.sync.record_sql import Seat

# How long a writer waits for another process's transaction on SQLite before "database is locked".
SQLITE_BUSY_SECONDS = 30
# SQLite's oldest limit of bound parameters is 999.
CHUNK = 500

_READ_ONLY = "popin_read_only"


class LedgerUnreachableError(LedgerError):
    """The database did not answer, is locked, full or read-only: the same statement may succeed later."""


class Ledger:
    """A ledger in the user's own database.

    Use :meth:`open` or :meth:`find`; both refuse what the promise cannot be kept on.

    :param engine: the engine that :meth:`open` prepared.
    :param ledger_id: identity of this ledger, made when its tables were created.
    """

    def __init__(self, engine: Engine, ledger_id: str) -> None:
        self.engine = engine
        self.ledger_id = ledger_id

    @classmethod
    def open(cls, engine: Engine) -> Ledger:
        """Open the ledger, creating its tables on first use.

        :param engine: a SQLAlchemy engine for a SQLite file or a Postgres database, not yet connected.
        :raises LedgerError: in-memory SQLite, another database, a newer schema version, or unreachable.
        """
        _prepare(engine, create=True)
        found = cls(engine, "")
        with _closed_at_failure(engine), found.write() as connection:
            found.ledger_id = schema.create_or_check(connection, clock(connection))
        return found

    @classmethod
    def find(cls, engine: Engine) -> Ledger | None:
        """Open the ledger if there is one; create none (dry runs, reports). Tables of an earlier version are
        upgraded.

        :param engine: as for :meth:`open`.
        :return: None where the database or its tables do not exist yet.
        :raises LedgerError: as for :meth:`open`.
        """
        _prepare(engine, create=False)
        if engine.dialect.name == "sqlite" and not _sqlite_file_exists(engine):
            return None  # connecting would create it
        found = cls(engine, "")
        with _closed_at_failure(engine):
            with found.read() as connection:
                exists = schema.exists(connection)
                older = exists and schema.is_older(connection)
                if exists and not older:
                    found.ledger_id = schema.check(connection)
            if older:
                with found.write() as connection:
                    found.ledger_id = schema.create_or_check(connection, clock(connection))
        if not exists:
            engine.dispose()
        return found if exists else None

    @contextmanager
    def write(self, connection: Connection | None = None) -> Iterator[Connection]:
        """One durable transaction. SQLite takes its write lock at once (``BEGIN IMMEDIATE``).

        :param connection: an open connection to use; None takes one from the engine.
        :raises LedgerUnreachableError: the database did not take it; nothing was committed, as far as it
            says.
        :raises LedgerError: the database refused a statement.
        """
        with _translated():
            if connection is not None:
                with connection.begin():
                    yield connection
            else:
                with self.engine.connect() as own, own.begin():
                    yield own

    def connect(self) -> Connection:
        """A connection to keep for many transactions of :meth:`write`; the caller closes it.

        :raises LedgerUnreachableError: no connection to be had.
        """
        with _translated():
            return self.engine.connect()

    def connect_for_statements(self) -> Connection:
        """As :meth:`connect`, for transactions of a single statement by id, repeated many times.

        On Postgres it commits each statement by itself, which saves the round trips of a transaction. SQLite
        has none to save.

        :raises LedgerUnreachableError: no connection to be had.
        """
        with _translated():
            connection = self.engine.connect()
            # No SET for the planner's sake: behind a pooler such as PgBouncer it would reach other clients.
            if self.engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            return connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One read transaction: a consistent view that blocks no writer.

        :raises LedgerError: as for :meth:`write`.
        """
        options: dict[str, object] = {_READ_ONLY: True}
        if self.engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with _translated(), self.engine.connect() as connection:
            connection = connection.execution_options(**options)
            with connection.begin():
                yield connection

    def apply(
        self,
        connection: Connection,
        account: str,
        events: Sequence[Event],
        records: dict[int, Record] | None = None,
    ) -> list[bool]:
        """Apply events in order, inside the caller's transaction.

        :param connection: from :meth:`write`.
        :param account: the account whose seats are taken.
        :param events: see ``states``; two events of one call may concern the same record.
        :param records: from :func:`locked` in the same transaction, of all events; changed in place. None
            reads them.
        :return: for each event whether it was accepted; see ``states.apply``.
        """
        if records is None:
            records = locked(connection, [event.id for event in events])
        now = clock(connection)
        plans = [event for event in events if isinstance(event, Planned)]
        seated = _take_planned_seats(connection, account, plans)
        # A plan that is refused gives back what it took.
        effects = Effects(release_seats=[plan.id for plan in plans])
        accepted: list[bool] = []
        before = {key: record.values() for key, record in records.items()}
        changed: dict[int, Record] = {}
        for event in events:
            record = records.get(event.id)
            ok = record is not None and (not isinstance(event, Planned) or _seat(event) in seated)
            if ok and record is not None and states.apply(record, event, effects, now):
                changed[event.id] = record
            else:
                ok = False
            accepted.append(ok)
        record_sql.write_changes(connection, [(before[i], record) for i, record in changed.items()])
        _seats_and_notes(connection, account, records, effects, now)
        return accepted


def clock(connection: Connection) -> float:
    """Now by the database's clock, as epoch seconds.

    :param connection: any open connection.
    """
    return record_sql.read_clock(connection)


def locked(connection: Connection, ids: Iterable[int]) -> dict[int, Record]:
    """Records by id, locked against other writers until the transaction ends.

    :param connection: from :meth:`Ledger.write`.
    :param ids: record ids; unknown ones are absent from the result.
    """
    found: dict[int, Record] = {}
    for chunk in chunks(sorted(set(ids))):
        # Ordered, so that two processes never wait for each other in a circle.
        found.update((record.id, record) for record in record_sql.read(connection, chunk, lock=True))
    return found


def insert_ignoring(connection: Connection, table: sa.Table) -> Any:
    """An INSERT for ``table`` that does nothing where a unique key says that the row exists.

    :param connection: tells the dialect.
    :param table: one of ``schema``'s.
    """
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).on_conflict_do_nothing()


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterator[Sequence[Any]]:
    """Slices of ``items`` with at most ``size`` items each.

    :param items: any sequence.
    :param size: items in a slice.
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _take_planned_seats(connection: Connection, account: str, events: Sequence[Planned]) -> set[Seat]:
    taken: set[Seat] = set()
    # Ordered, so that two processes never wait for each other in a circle.
    for chunk in chunks(sorted(events, key=lambda event: (event.slot_start, event.seat))):
        taken |= record_sql.take_seats(connection, account, [_seat(event) for event in chunk])
    return taken


def _seat(event: Planned) -> Seat:
    return event.id, event.slot_start, event.seat


def _seats_and_notes(
    connection: Connection, account: str, records: dict[int, Record], effects: Effects, now: float
) -> None:
    # A record that has a seat at the end keeps it, whatever happened to it on the way there.
    released = [i for i in effects.release_seats if i not in records or records[i].seat is None]
    if released:
        connection.execute(
            schema.seats.delete().where(schema.seats.c.lead == sa.bindparam("released")),
            [{"released": lead} for lead in sorted(set(released))],
        )
    for lead in effects.take_seats:
        if records[lead].seat is None and records[lead].slot_start is not None:
            _take_extra_seat(connection, account, records[lead])
    if effects.notes:
        connection.execute(
            schema.history.insert(),
            [
                {"lead": lead, "at": now, "attempt": attempt, "kind": kind, "who": who, "why": why}
                for lead, attempt, kind, who, why in effects.notes
            ],
        )


def _take_extra_seat(connection: Connection, account: str, record: Record) -> None:
    """A call that exists at Popin takes a seat even where the slot is full by our count."""
    seats = schema.seats.c
    highest = sa.select(sa.func.coalesce(sa.func.max(seats.number), 0)).where(
        seats.account == account, seats.slot_start == record.slot_start
    )
    mine = sa.select(seats.number).where(seats.lead == record.id)
    while record.seat is None:
        number = int(connection.execute(highest).scalar_one()) + 1
        connection.execute(
            insert_ignoring(connection, schema.seats),
            {"account": account, "slot_start": record.slot_start, "number": number, "lead": record.id},
        )
        # None: another transaction took that number just now.
        record.seat = connection.execute(mine).scalar_one_or_none()
    record_sql.write(connection, [record], ("seat",))


@contextmanager
def _closed_at_failure(engine: Engine) -> Iterator[None]:
    """Whoever got no ledger cannot close its connections."""
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def _prepare(engine: Engine, *, create: bool) -> None:
    """Refuse what cannot keep a promise, and make the rest durable.

    :param create: False leaves a database alone that holds no ledger: not even its journal mode is changed
    """
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise LedgerError(
            f"the ledger needs a SQLite file or Postgres, the connection is {engine.dialect.name}: "
            "no other database is tested for the promise yet"
        )
    # Parameters of a failed statement hold customer ids and links; they must not reach a log.
    engine.hide_parameters = True
    if engine.dialect.name == "sqlite":
        if _sqlite_path(engine) is None:
            raise LedgerError("an in-memory SQLite ledger forgets every booking: give the connection a file")
        sa.event.listen(engine, "connect", _durable_sqlite)
        if create:
            sa.event.listen(engine, "connect", _write_ahead_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        sa.event.listen(engine, "connect", _durable_postgres)
    # Connections from before would not have been told.
    engine.dispose()


def _sqlite_path(engine: Engine) -> str | None:
    path = engine.url.database
    if not path or ":memory:" in path or engine.url.query.get("mode") == "memory" or "mode=memory" in path:
        return None
    return path


def _sqlite_file_exists(engine: Engine) -> bool:
    from pathlib import Path

    path = _sqlite_path(engine) or ""
    return Path(path.removeprefix("file:").partition("?")[0]).is_file()


def _durable_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin late; we begin ourselves (_begin_sqlite).
    connection.isolation_level = None
    for pragma in (f"busy_timeout={SQLITE_BUSY_SECONDS * 1000}", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _write_ahead_sqlite(connection: Any, _record: object) -> None:
    # The mode is a property of the file: once set, connections that do not ask for it have it too.
    mode = _switched_to_write_ahead(connection)
    if mode != "wal":
        raise LedgerError(f"the SQLite database keeps no write-ahead log (it says {mode}): give it a file")


def _switched_to_write_ahead(connection: Any) -> str:
    """Two connections that switch a file at once: SQLite tells one of them that it is locked without the
    wait that ``busy_timeout`` promises for every other statement.
    """
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    # A transaction that reads first and writes later is "locked" at once, whatever the busy timeout.
    with record_sql.driver_cursor(connection) as cursor:
        cursor.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _durable_postgres(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = on")
    cursor.close()
    connection.commit()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise LedgerUnreachableError(_described(error)) from error
    except SQLAlchemyError as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise LedgerUnreachableError(_described(error)) from error
        raise LedgerError(_described(error)) from error


def _described(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    first_line = (str(cause).splitlines() or [""])[0]
    return f"the ledger's database answered: {type(cause).__name__}: {first_line}"
