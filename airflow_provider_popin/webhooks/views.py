"""What is shown of events and leads; ``queries`` asks for it. Instants are epoch seconds, UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.events import Record
from airflow_provider_popin.sync.results import call_time


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """A received event.

    :param kind: a value of :class:`.events.EventKind`.
    :param name: Popin's own name of it.
    :param customer_id: whom it is about; None where it cannot be read.
    :param occurred_at: when, by Popin's clock; None where the event does not say.
    :param slot_local: the scheduled time that the event names, ISO 8601 without offset, in the seller's
        timezone.
    :param status: ``waiting``, ``matched``, ``noted`` (informs only, of no lead here), ``unmatched`` or
        ``dismissed``.
    :param reason: what it did (``resolved``, ``confirmed``, ``remembered``, ``alarm``, ``outcome``,
        ``noted``), or why it is unmatched (``unknown_customer``, ``no_booking``, ``several_bookings``,
        ``several_leads``, ``booking_in_doubt``, ``time_unreadable``, ``time_ambiguous``,
        ``unprocessable``, ...).
    :param source: of the lead that it was matched to; None for none. So ``lead_id`` and ``generation``.
    :param payload: redacted.
    :param closed_by: who dismissed it, why and when.
    """

    id: int
    conn_id: str
    account: str
    received_at: float
    kind: str
    name: str
    customer_id: str | None = field(repr=False)
    occurred_at: float | None
    slot_local: str | None
    status: str
    reason: str | None
    source: str | None
    lead_id: str | None
    generation: int | None
    payload: Mapping[str, object] = field(repr=False)
    closed_by: str | None
    closed_why: str | None
    closed_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line of a lead's history in the ledger, see ``sync.ledger.events.Effects``."""

    at: float
    attempt: int
    kind: str
    who: str | None
    why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadView:
    """A lead of one generation, as the ledger holds it.

    :param call_time: ISO 8601 with the seller's offset; None without a slot.
    :param slot: the same in Popin's words.
    :param outcome: ``successful``, ``missed`` or ``abandoned``; None where nothing was told.
    :param confirmed_at: when a webhook said that the booking exists.
    :param created_at: when the ledger first heard of the lead.
    :param notes: oldest first.
    :param events: of this lead; for a doubt all events of the same customer, the evidence at hand. The
        newest 50, oldest first.
    :param earlier_events: how many there were before those.
    """

    id: int
    account: str
    source: str
    lead_id: str
    generation: int
    capture: str
    booking: str
    customer_id: str | None = field(repr=False)
    join_url: str | None = field(repr=False)
    call_time: str | None
    slot: str | None
    attempt: int
    alarm: bool
    time_mismatch: bool
    reason: str | None
    run: str | None
    outcome: str | None
    outcome_at: float | None
    confirmed_at: float | None
    created_at: float
    updated_at: float
    notes: Sequence[Note] = ()
    events: Sequence[EventView] = ()
    earlier_events: int = 0

    @property
    def version(self) -> str:
        """The same as that of the lead's record, see ``sync.ledger.events.Record``."""
        return repr(self.updated_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """How much needs a person. ``unmatched_strangers``, of customers of no lead here, are counted apart."""

    in_doubt: int
    alarms: int
    unmatched: int
    unmatched_strangers: int
    events_waiting: int
    asset_events_waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeView:
    """How a booked call ended, for Dags that tell the CRM.

    :param outcome: ``successful``, ``missed`` or ``abandoned``.
    :param told_at: when the ledger learned it; the cursor of the next question.
    """

    source: str
    lead_id: str
    generation: int
    call_time: str | None
    outcome: str
    outcome_at: float
    told_at: float


def lead_view(row: Any, notes: Sequence[Note], told: Sequence[EventView], earlier: int) -> LeadView:
    """Make a view of a row.

    :param row: the columns of a record, then ``account``, ``source``, ``outcome``, ``outcome_at`` and
        ``created_at``.
    :param notes: of the lead.
    :param told: of its customer.
    :param earlier: how many more its customer has.
    """
    record = Record(*row[: len(schema.record_columns)])
    return LeadView(
        id=record.id,
        account=row.account,
        source=row.source,
        lead_id=record.lead_id,
        generation=record.generation,
        capture=record.capture_state,
        booking=record.booking_state,
        customer_id=record.customer_id,
        join_url=record.join_url,
        call_time=call_time(record),
        slot=record.slot_time,
        attempt=record.attempt,
        alarm=record.alarm,
        time_mismatch=record.time_mismatch,
        reason=record.reason,
        run=record.run,
        outcome=row.outcome,
        outcome_at=row.outcome_at,
        confirmed_at=record.confirmed_at,
        created_at=row.created_at,
        updated_at=record.updated_at,
        notes=notes,
        events=told,
        earlier_events=earlier,
    )


def event_view(row: Any) -> EventView:
    """Make a view of a row.

    :param row: all columns of ``popin_events``, then ``source``, ``lead_id`` and ``generation`` of its lead.
    """
    return EventView(
        id=row.id,
        conn_id=row.conn_id,
        account=row.account,
        received_at=row.received_at,
        kind=row.kind,
        name=row.name,
        customer_id=row.customer_id,
        occurred_at=row.occurred_at,
        slot_local=row.slot_local,
        status=row.status,
        reason=row.reason,
        source=row.source,
        lead_id=row.lead_id,
        generation=row.generation,
        payload=json.loads(row.payload),
        closed_by=row.closed_by,
        closed_why=row.closed_why,
        closed_at=row.closed_at,
    )


def outcome_view(record: Record, source: str, outcome: str, at: float, told_at: float) -> OutcomeView:
    """Make a view of the ending of a lead's call."""
    return OutcomeView(
        source=source,
        lead_id=record.lead_id,
        generation=record.generation,
        call_time=call_time(record),
        outcome=outcome,
        outcome_at=at,
        told_at=told_at,
    )
