"""A ledger of schema version 1 is upgraded in place, with everything that it knows."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger import run_log, schema, tables
from airflow_provider_popin.sync.ledger.events import Evidence
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.sync.ledger import version_1
from tests.sync.ledgers import ACCOUNT, SLOT, SOURCE, TIME, ZONE, Database, add_lead, apply, lead_in, record

LEDGER_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def old(database: Database) -> Database:
    """Return a database with a ledger of version 1 that holds a booked lead and one in doubt."""
    with database.engine().begin() as connection:
        for statement in version_1.SQLITE if database.kind == "sqlite" else version_1.POSTGRES:
            connection.execute(sa.text(statement))
        connection.execute(
            sa.text("INSERT INTO popin_ledger VALUES (:id, 1, 41, 1700000000.0)"), {"id": LEDGER_ID}
        )
        for number, state in enumerate(["booked", "in_doubt"], start=1):
            connection.execute(
                sa.text(
                    "INSERT INTO popin_leads (account, source, lead_id, generation, capture_state,"
                    " booking_state, attempt, capture_doubted, booking_doubted, resends, customer_id,"
                    " slot_start, slot_time, slot_timezone, seat, reply_incomplete, time_mismatch, alarm,"
                    " change, written, updated_at) VALUES (:account, :source, :lead, 1, 'captured', :state,"
                    " 2, :no, :doubted, 0, 'MzE1', :slot, :time, :zone, :seat, :no, :no, :no, 2, 1,"
                    " 1750000000.5)"
                ),
                {
                    "account": ACCOUNT,
                    "source": SOURCE,
                    "lead": f"L{number}",
                    "state": state,
                    "no": False,
                    "doubted": state == "in_doubt",
                    "slot": SLOT,
                    "time": TIME,
                    "zone": ZONE,
                    "seat": number,
                },
            )
    return database


def columns_and_indexes(database: Database) -> dict[str, tuple[set[str], set[str | None]]]:
    inspector = sa.inspect(database.engine())
    return {
        table: (
            {column["name"] for column in inspector.get_columns(table)},
            {index["name"] for index in inspector.get_indexes(table)},
        )
        for table in inspector.get_table_names()
    }


@pytest.mark.parametrize("use", [Ledger.open, Ledger.find])
def test_it_keeps_what_it_knows_and_works_on(old: Database, use: object) -> None:
    ledger = use(old.engine())  # type: ignore[operator]
    assert ledger.ledger_id == LEDGER_ID
    with ledger.read() as connection:
        assert run_log.sequence(connection) == 41
        created = connection.execute(sa.select(schema.leads.c.created_at)).scalars().all()
    assert created == [1750000000.5] * 2  # the last change is the nearest that is known
    assert record(ledger, 1).booking_state == "booked"
    assert apply(ledger, Evidence(2, SLOT, TIME, ZONE, "webhook event 1")) == [True]
    assert record(ledger, 2).booking_state == "booked"
    lead_in(ledger, "booked", "L3", seat=3)


def test_it_has_what_a_new_one_has(old: Database) -> None:
    Ledger.open(old.engine())
    upgraded = columns_and_indexes(old)
    assert set(upgraded) - {"sqlite_sequence"} == set(tables.metadata.tables)
    for table in tables.metadata.sorted_tables:
        columns, indexes = upgraded[table.name]
        assert columns == {column.name for column in table.columns}
        assert {index.name for index in table.indexes} <= indexes


def test_a_run_of_version_1_that_is_under_way_can_still_add_leads(old: Database) -> None:
    Ledger.open(old.engine())
    with old.engine().begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO popin_leads (account, source, lead_id, generation, capture_state, booking_state,"
                " attempt, capture_doubted, booking_doubted, resends, reply_incomplete, time_mismatch, alarm,"
                " change, written, updated_at) SELECT account, source, 'late', 1, 'new', 'waiting', 0,"
                " capture_doubted, capture_doubted, 0, reply_incomplete, time_mismatch, alarm, 0, 0,"
                " updated_at FROM popin_leads WHERE lead_id = 'L1'"
            )
        )


def test_two_processes_that_upgrade_at_once(old: Database) -> None:
    failures: list[Exception] = []

    def open_one() -> None:
        try:
            add_lead(Ledger.open(old.engine()), "new")
        except LedgerError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
