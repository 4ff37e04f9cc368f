"""The ledger: durable transactions on SQLite and Postgres, and events applied to lead records.

Everything that changes a lead goes through :meth:`Ledger.apply`: rows are read under a lock, ``states.apply``
decides, and what it changed is written back in the same transaction. So the rules stand in ``states`` only,
for every database.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.sync.errors import LedgerUnreachableError
from airflow_provider_popin.sync.ledger import database, record_sql, schema, states
from airflow_provider_popin.sync.ledger.events import Effects, Event, Planned, Record
from airflow_provider_popin.sync.ledger.record_sql import Seat

# SQLite's oldest limit of bound parameters is 999.
CHUNK = 500
# How long the database's clock is believed to go as this machine's does.
CLOCK_SECONDS = 1.0


class Ledger:
    """A ledger in the user's own database.

    Use :meth:`open` or :meth:`find`; both refuse what the promise cannot be kept on.

    :param engine: the engine that :meth:`open` prepared.
    :param ledger_id: identity of this ledger, made when its tables were created.
    """

    def __init__(self, engine: Engine, ledger_id: str) -> None:
        self.engine = engine
        self.ledger_id = ledger_id
        self._clock = -math.inf, 0.0

    @classmethod
    def open(cls, engine: Engine) -> Ledger:
        """Open the ledger, creating its tables on first use.

        :param engine: a SQLAlchemy engine for a SQLite file or a Postgres database, not yet connected.
        :raises LedgerError: in-memory SQLite, a relative path, another database, a newer schema version, or
            unreachable.
        """
        database.prepare(engine, create=True)
        # SQLite would only say that it cannot open the file.
        if problem := database.file_problem(engine):
            raise LedgerUnreachableError(problem)
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
        database.prepare(engine, create=False)
        if not database.may_exist(engine):
            return None
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

    @property
    def has_one_writer(self) -> bool:
        """Whether the database lets one transaction write at a time, whatever it writes."""
        return bool(self.engine.dialect.name == "sqlite")

    @contextmanager
    def write(self, connection: Connection | None = None) -> Iterator[Connection]:
        """One durable transaction. SQLite takes its write lock at once (``BEGIN IMMEDIATE``).

        :param connection: an open connection to use; None takes one from the engine.
        :raises LedgerUnreachableError: the database did not take it; nothing was committed, as far as it
            says. :class:`LedgerRolledBackError` where it says so for certain.
        :raises LedgerError: the database refused a statement.
        """
        with database.translated():
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
        with database.translated():
            return self.engine.connect()

    def connect_for_statements(self) -> Connection:
        """As :meth:`connect`, for transactions of a single statement by id, repeated many times.

        On Postgres it commits each statement by itself, which saves the round trips of a transaction. SQLite
        has none to save.

        :raises LedgerUnreachableError: no connection to be had.
        """
        with database.translated():
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
        options: dict[str, object] = {database.READ_ONLY: True}
        if self.engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with database.translated(), self.engine.connect() as connection:
            connection = connection.execution_options(**options)
            with connection.begin():
                yield connection

    def now(self, connection: Connection) -> float:
        """Now by the database's clock, as epoch seconds. It is asked once a second, this machine in between.

        :param connection: any open connection
        """
        here = boot_seconds()
        asked_at, told = self._clock
        if here - asked_at > CLOCK_SECONDS:
            asked_at, told = self._clock = here, clock(connection)
        return told + here - asked_at

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
        now = self.now(connection)
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
        found.update((record.id, record) for record in record_sql.read_locked(connection, chunk))
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
