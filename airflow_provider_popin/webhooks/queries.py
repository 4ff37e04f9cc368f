"""What the page, Dags and the command line ask about events and the leads they concern.

Nothing here changes the ledger, and nothing that is returned is personal. Instants are epoch seconds, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_popin.sync.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """A received event.

    :param kind: a value of :class:`.events.EventKind`.
    :param name: Popin's own name of it.
    :param occurred_at: when, by Popin's clock; None where the event does not say.
    :param slot_local: the scheduled time that the event names, ISO 8601 without offset, in the seller's
        timezone.
    :param status: ``waiting``, ``matched``, ``noted`` (informs only, of no lead here), ``unmatched`` or
        ``dismissed``.
    :param reason: what it did (``resolved``, ``confirmed``, ``remembered``, ``alarm``, ``outcome``,
        ``noted``), or why it is unmatched (``unknown_customer``, ``no_booking``, ``several_bookings``,
        ``several_leads``, ``booking_in_doubt``, ``time_unreadable``, ``time_ambiguous``, ...).
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
    """One line of a lead's history in the ledger, see ``events.Effects.notes``."""

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
    :param events: of this lead; for a doubt all events of the same customer, the evidence at hand. Oldest
        first, at most 50.
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


def attention(ledger: Ledger) -> Attention:
    """How much needs a person, by kind.

    :param ledger: with the events.
    """
    raise NotImplementedError


def in_doubt(ledger: Ledger, *, source: str | None = None, limit: int = 100) -> list[LeadView]:
    """Bookings in doubt, the oldest first, each with its history and all events of its customer.

    :param ledger: with the leads.
    :param source: only this source.
    :param limit: at most so many.
    """
    raise NotImplementedError


def alarms(ledger: Ledger, *, source: str | None = None, limit: int = 100) -> list[LeadView]:
    """Leads that may have a call that the ledger did not make, the oldest first, with history and events.

    :param ledger: with the leads.
    :param source: only this source.
    :param limit: at most so many.
    """
    raise NotImplementedError


def unmatched(
    ledger: Ledger, *, strangers: bool = False, limit: int = 100, before: int | None = None
) -> list[EventView]:
    """Events that match no one booking, the newest first.

    :param ledger: with the events.
    :param strangers: those of customers that no lead of this ledger has, instead of all others.
    :param limit: at most so many.
    :param before: only events with a lower id: the next page.
    """
    raise NotImplementedError


def lead_history(ledger: Ledger, source: str, lead_id: str) -> list[LeadView]:
    """Everything about a lead, by generation.

    :param ledger: with the lead.
    :param source: of the lead.
    :param lead_id: its id in the source.
    :return: empty where the ledger knows no such lead.
    """
    raise NotImplementedError


def outcomes(
    ledger: Ledger, *, source: str, told_after: float = 0.0, limit: int = 1_000
) -> list[OutcomeView]:
    """How booked calls ended, in the order in which the ledger learned it; a changed ending comes again.

    :param ledger: with the leads.
    :param source: of the leads.
    :param told_after: the newest ``told_at`` of the answer before.
    :param limit: at most so many; those with the last one's ``told_at`` all come.
    """
    raise NotImplementedError
