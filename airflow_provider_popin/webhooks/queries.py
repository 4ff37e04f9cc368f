"""What the page, Dags and the command line ask about events and the leads they concern.

Nothing here changes the ledger, and nothing that is returned is personal. Instants are epoch seconds, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.event_tables import EventStatus
from airflow_provider_popin.sync.ledger.events import BookingState, Record
from airflow_provider_popin.sync.ledger.ledger import Ledger, chunks
from airflow_provider_popin.webhooks.matching import UNKNOWN_CUSTOMER
from airflow_provider_popin.webhooks.views import (
    Attention,
    EventView,
    LeadView,
    Note,
    OutcomeView,
    event_view,
    lead_view,
    outcome_view,
)

# Of one customer, the newest: what was told last is what a person decides by.
MAX_EVENTS = 50
_NO_CUSTOMER = "no_customer"

_events = tables.events.c
_leads = schema.leads.c
_history = schema.history.c
# As text, not as a parameter: SQLite takes the index of doubts only for its own words.
_IS_IN_DOUBT = _leads.booking_state == sa.literal_column(f"'{BookingState.IN_DOUBT.value}'")


def attention(ledger: Ledger) -> Attention:
    """How much needs a person, by kind.

    :param ledger: with the events.
    """
    with ledger.read() as connection:

        def count(table: sa.Table, *conditions: sa.sql.elements.ColumnElement[bool]) -> int:
            query = sa.select(sa.func.count()).select_from(table).where(*conditions)
            return int(connection.execute(query).scalar_one())

        return Attention(
            in_doubt=count(schema.leads, _IS_IN_DOUBT),
            alarms=count(schema.leads, _leads.alarm),
            unmatched=count(tables.events, *_unmatched(strangers=False)),
            unmatched_strangers=count(tables.events, *_unmatched(strangers=True)),
            events_waiting=count(tables.events, _events.status == EventStatus.WAITING.value),
            asset_events_waiting=count(tables.outbox),
        )


def in_doubt(ledger: Ledger, *, source: str | None = None, limit: int = 100) -> list[LeadView]:
    """Bookings in doubt, the oldest first, each with its history and all events of its customer.

    :param ledger: with the leads.
    :param source: only this source.
    :param limit: at most so many.
    """
    return _oldest(ledger, _IS_IN_DOUBT, source, limit)


def alarms(ledger: Ledger, *, source: str | None = None, limit: int | None = 100) -> list[LeadView]:
    """Leads that may have a call that the ledger did not make, the oldest first, with history and events.

    :param ledger: with the leads.
    :param source: only this source.
    :param limit: at most so many; None for all.
    """
    return _oldest(ledger, _leads.alarm, source, limit)


def unmatched(
    ledger: Ledger, *, strangers: bool = False, limit: int | None = 100, before: int | None = None
) -> list[EventView]:
    """Events that match no one booking, the newest first.

    :param ledger: with the events.
    :param strangers: those of customers that no lead of this ledger has, instead of all others.
    :param limit: at most so many; None for all.
    :param before: only events with a lower id: the next page.
    """
    query = _select_events().where(*_unmatched(strangers=strangers))
    if before is not None:
        query = query.where(_events.id < before)
    with ledger.read() as connection:
        return [event_view(row) for row in connection.execute(query.order_by(_events.id.desc()).limit(limit))]


def lead_history(ledger: Ledger, source: str, lead_id: str) -> list[LeadView]:
    """Everything about a lead, by generation.

    :param ledger: with the lead.
    :param source: of the lead.
    :param lead_id: its id in the source.
    :return: empty where the ledger knows no such lead.
    """
    of_lead = _select_leads().where(_leads.source == source, _leads.lead_id == lead_id)
    query = of_lead.order_by(_leads.generation)
    account = sa.select(schema.sources.c.account).where(schema.sources.c.source == source)
    with ledger.read() as connection:
        # By the account first, which the index of identities begins with; it may have been another once.
        found = _views(connection, query.where(_leads.account.in_(account)))
        return found or _views(connection, query)


def outcomes(
    ledger: Ledger, *, source: str, told_after: float = 0.0, limit: int = 1_000
) -> list[OutcomeView]:
    """How booked calls ended, in the order in which the ledger learned it; a changed ending comes again.

    :param ledger: with the leads.
    :param source: of the leads.
    :param told_after: the newest ``told_at`` of the answer before.
    :param limit: about so many: those with the last one's ``told_at`` all come.
    """
    since = sa.and_(_leads.source == source, _leads.outcome_told_at > told_after)
    page = sa.select(_leads.outcome_told_at).where(since).order_by(_leads.outcome_told_at).limit(limit)
    query = (
        sa.select(*schema.record_columns, _leads.outcome, _leads.outcome_at, _leads.outcome_told_at)
        .where(
            since, _leads.outcome_told_at <= sa.select(sa.func.max(page.subquery().c[0])).scalar_subquery()
        )
        .order_by(_leads.outcome_told_at, _leads.id)
    )
    with ledger.read() as connection:
        rows = connection.execute(query).fetchall()
    return [outcome_view(Record(*row[:-3]), source, *row[-3:]) for row in rows]


def lead(connection: Connection, key: int) -> LeadView:
    """One lead, with its history and the events of its customer.

    :param connection: any open connection.
    :param key: id of its record, which must exist.
    """
    return _views(connection, _select_leads().where(_leads.id == key))[0]


def event(connection: Connection, key: int) -> EventView:
    """One event.

    :param connection: any open connection.
    :param key: its id, which must exist.
    """
    return event_view(connection.execute(_select_events().where(_events.id == key)).one())


def _unmatched(*, strangers: bool) -> list[sa.sql.elements.ColumnElement[bool]]:
    reasons = [UNKNOWN_CUSTOMER, _NO_CUSTOMER]
    is_stranger = _events.reason.in_(reasons)
    return [_events.status == EventStatus.UNMATCHED.value, is_stranger if strangers else ~is_stranger]


def _oldest(
    ledger: Ledger, condition: sa.sql.elements.ColumnElement[bool], source: str | None, limit: int | None
) -> list[LeadView]:
    query = _select_leads().where(condition)
    if source is not None:
        query = query.where(_leads.source == source)
    with ledger.read() as connection:
        return _views(connection, query.order_by(_leads.updated_at).limit(limit))


def _select_leads() -> Any:
    return sa.select(
        *schema.record_columns,
        _leads.account,
        _leads.source,
        _leads.outcome,
        _leads.outcome_at,
        _leads.created_at,
    )


def _select_events() -> Any:
    return sa.select(tables.events, _leads.source, _leads.lead_id, _leads.generation).select_from(
        tables.events.outerjoin(schema.leads, _events.lead == _leads.id)
    )


def _views(connection: Connection, query: Any) -> list[LeadView]:
    rows = connection.execute(query).fetchall()
    notes = _notes(connection, [row.id for row in rows])
    customers: dict[str, set[str]] = {}
    for row in rows:
        if row.customer_id is not None:
            customers.setdefault(row.account, set()).add(row.customer_id)
    told = _events_of(connection, customers)
    return [
        lead_view(row, notes.get(row.id, []), *told.get((row.account, row.customer_id), ([], 0)))
        for row in rows
    ]


def _notes(connection: Connection, leads: Sequence[int]) -> dict[int, list[Note]]:
    notes: dict[int, list[Note]] = {}
    for chunk in chunks(leads):
        query = sa.select(
            _history.lead, _history.at, _history.attempt, _history.kind, _history.who, _history.why
        ).where(_history.lead.in_(chunk))
        for key, at, attempt, kind, who, why in connection.execute(query.order_by(_history.id)):
            notes.setdefault(key, []).append(Note(at=at, attempt=attempt, kind=kind, who=who, why=why))
    return notes


def _events_of(
    connection: Connection, customers: Mapping[str, set[str]]
) -> dict[tuple[str, str | None], tuple[list[EventView], int]]:
    """The newest events of each customer, the oldest of them first, and how many came before them."""
    found: dict[tuple[str, str | None], tuple[list[EventView], int]] = {}
    for account, ids in customers.items():
        for chunk in chunks(sorted(ids)):
            of_chunk = (_events.account == account, _events.customer_id.in_(chunk))
            counts = sa.select(_events.customer_id, sa.func.count()).where(*of_chunk)
            counted = {row[0]: row[1] for row in connection.execute(counts.group_by(_events.customer_id))}
            place = sa.func.row_number().over(partition_by=_events.customer_id, order_by=_events.id.desc())
            ranked = sa.select(_events.id, place.label("place")).where(*of_chunk).subquery()
            newest = sa.select(ranked.c.id).where(ranked.c.place <= MAX_EVENTS)
            views: dict[str, list[EventView]] = {}
            for row in connection.execute(
                _select_events().where(_events.id.in_(newest)).order_by(_events.id)
            ):
                views.setdefault(row.customer_id, []).append(event_view(row))
            for customer, of_customer in views.items():
                found[account, customer] = (of_customer, counted[customer] - len(of_customer))
    return found
