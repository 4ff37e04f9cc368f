"""What the tests of the ledger share: databases, leads in any state, all that a ledger holds as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from airflow_provider_popin.sync.ledger import ledger_queries, schema, tables
from airflow_provider_popin.sync.ledger.events import (
    Answer,
    Claimed,
    Event,
    Intent,
    Planned,
    Record,
    Resolved,
    Settled,
    Step,
)
from airflow_provider_popin.sync.ledger.ledger import Ledger

ACCOUNT, SOURCE, RUN = "shop", "crm.leads", "dag/run 1/task"
OWNER = "00000000-0000-0000-0000-00000000000a"
SLOT = 1_900_000_800
TIME, ZONE = "Sun, 17 Mar 2030 11:30 PM", "Asia/Kolkata"


@dataclass(frozen=True)
class Database:
    """A database of one test.

    :param kind: ``sqlite`` or ``postgres``
    :param url: of the database, with the driver that Airflow's hook would take
    :param engine: makes one more engine for it, as another process has
    """

    kind: str
    url: str
    engine: Callable[[], Engine]


def add_lead(ledger: Ledger, lead_id: str = "L1", *, generation: int = 1, source: str = SOURCE) -> int:
    """Add a lead that this owner has claimed; return its record id."""
    with ledger.write() as connection:
        lead = {"lead_id": lead_id, "generation": generation, "claim_owner": OWNER, "wish": "{}"}
        ledger_queries.insert_leads(connection, ACCOUNT, source, [lead])
        family = ledger_queries.families(connection, ACCOUNT, source, [lead_id], lock=False)[lead_id]
    return next(record.id for record in family if record.generation == generation)


def apply(ledger: Ledger, *events: Event) -> list[bool]:
    with ledger.write() as connection:
        return ledger.apply(connection, ACCOUNT, events)


def record(ledger: Ledger, key: int) -> Record:
    query = sa.select(*schema.record_columns).where(schema.leads.c.id == key)
    with ledger.read() as connection:
        return {row.id: Record(*row) for row in connection.execute(query)}[key]


def capture_intent(key: int, attempt: int = 0, *, timeout_seconds: float = 30.0) -> Intent:
    return Intent(key, Step.CAPTURE, attempt, OWNER, RUN, timeout_seconds)


def captured(key: int, attempt: int = 1, *, customer_id: str | None = None) -> Settled:
    customer = customer_id or f"C{key}"
    link = f"https://live.example.com/{key}"
    return Settled(
        key, Step.CAPTURE, attempt, Answer.SUCCESS, RUN, customer_id=customer, join_url=link, incomplete=False
    )


def planned(key: int, attempt: int = 1, *, slot: int = SLOT, seat: int = 1) -> Planned:
    return Planned(key, attempt, OWNER, slot, TIME, ZONE, seat)


def booking_intent(key: int, attempt: int = 1, *, timeout_seconds: float = 30.0) -> Intent:
    return Intent(key, Step.BOOKING, attempt, OWNER, RUN, timeout_seconds)


def settled(
    key: int, answer: Answer, attempt: int = 2, *, reason: str | None = None, slot: int = SLOT
) -> Settled:
    return Settled(
        key,
        Step.BOOKING,
        attempt,
        answer,
        RUN,
        reason=reason,
        slot_start=slot,
        slot_time=TIME,
        slot_timezone=ZONE,
    )


def lead_in(ledger: Ledger, state: str, lead_id: str = "L1", *, slot: int = SLOT, seat: int = 1) -> int:
    """Bring a new lead into a state by the events that lead there.

    :param state: of the booking, or ``new``, ``captured``, ``capture_sending``, ``capture_rejected``,
        ``capture_in_doubt``
    """
    key = add_lead(ledger, lead_id)
    answers = {
        "booked": Answer.SUCCESS,
        "rejected": Answer.REJECTED,
        "in_doubt": Answer.UNKNOWN,
    }
    if state == "new":
        return key
    assert apply(ledger, capture_intent(key)) == [True]
    if state.startswith("capture_"):
        told = {"rejected": Answer.REJECTED, "in_doubt": Answer.UNKNOWN}.get(state.removeprefix("capture_"))
        if told is not None:
            assert apply(ledger, Settled(key, Step.CAPTURE, 1, told, RUN, reason="so")) == [True]
        return key
    assert apply(ledger, captured(key)) == [True]
    if state in ("captured", "unassigned"):
        if state == "unassigned":
            unassign(ledger, key)
        return key
    assert apply(ledger, planned(key, slot=slot, seat=seat)) == [True]
    if state == "planned":
        return key
    assert apply(ledger, booking_intent(key)) == [True]
    if state in answers:
        assert apply(ledger, settled(key, answers[state], reason="so", slot=slot)) == [True]
    else:
        assert state == "sending", state
    return key


def unassign(ledger: Ledger, key: int, reason: str = "slots_full") -> None:
    from airflow_provider_popin.sync.ledger.events import BookingState, Released

    assert apply(ledger, Released(key, OWNER, BookingState.UNASSIGNED, RUN, reason)) == [True]


def claim(key: int, attempt: int, *, owner: str = OWNER, live: frozenset[str] = frozenset()) -> Claimed:
    return Claimed(key, attempt, owner, live, "{}", "print")


def not_booked(key: int) -> Resolved:
    return Resolved(key, False, "ann", "no such call")


def seats(ledger: Ledger) -> dict[int, tuple[int, int]]:
    """Slot start and seat number by record id, as the seat table has them."""
    with ledger.read() as connection:
        rows = connection.execute(
            sa.select(schema.seats.c.lead, schema.seats.c.slot_start, schema.seats.c.number)
        ).fetchall()
    return {lead: (start, number) for lead, start, number in rows}


def dump(ledger: Ledger) -> str:
    """Every value of every table, as text to search."""
    with ledger.read() as connection:
        found = {
            table.name: [[str(value) for value in row] for row in connection.execute(sa.select(table))]
            for table in tables.metadata.sorted_tables
        }
    return json.dumps(found, ensure_ascii=False)
