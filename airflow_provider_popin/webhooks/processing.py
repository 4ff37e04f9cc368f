"""Received events move the ledger: evidence, alarms, outcomes; what Dags may run on goes to the outbox.

One transaction takes a batch of events, applies them and notes what became of each. So a crash repeats
nothing and loses nothing. On Postgres one process at a time does it, on SQLite one writes at a time anyway:
what was received first is applied first, and ``outcome_told_at`` rises with the commits, also where the
database's clock was set back.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.slots import format_popin_time
from airflow_provider_popin.sync.errors import LedgerUnreachableError
from airflow_provider_popin.sync.ledger import database, schema
from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger.event_tables import EventStatus
from airflow_provider_popin.sync.ledger.events import BookingState, Evidence, Record
from airflow_provider_popin.sync.ledger.ledger import Ledger, chunks, clock, locked
from airflow_provider_popin.webhooks import deliveries, matching, outbox
from airflow_provider_popin.webhooks.events import ENDINGS, OUTCOMES, EventKind
from airflow_provider_popin.webhooks.matching import Candidate, Match

log = logging.getLogger(__name__)

# Why an event is unmatched that made processing fail each time.
UNPROCESSABLE = "unprocessable"
# Events of one transaction: short enough not to keep a sync from writing.
BATCH = 100
# A capture's webhook may overtake the commit of its answer: after these pauses its customer is looked for
# again.
RETRY_SECONDS = (20.0, 300.0)
# Between two endings that the database's clock cannot tell apart; less, and they are the same number.
_A_LITTLE = 0.001
# Serialises processing on Postgres; any constant that others do not use.
_PROCESSING_LOCK = 0x706F706965

_events = tables.events.c
_leads = schema.leads.c


@dataclass(frozen=True, slots=True)
class Processed:
    """What one call did.

    :param count: events looked at.
    :param still_waiting: more may be due at this moment.
    """

    count: int
    still_waiting: bool


@dataclass(slots=True)
class _Known:
    """The records of the customers of a batch, kept as the batch changes them.

    :param sources: by record id.
    :param ends: how the call ended, and when, by record id.
    :param told_at: when the endings of this batch are told, by source.
    """

    records: dict[tuple[str, str], list[Record]] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)
    ends: dict[int, tuple[str, float]] = field(default_factory=dict)
    told_at: dict[str, float] = field(default_factory=dict)

    def candidates(self, event: Any) -> list[Candidate]:
        records = self.records.get((event.account, event.customer_id or ""), ())
        return [Candidate(self.sources[record.id], record) for record in records]

    def changed(self, event: Any, record: Record) -> None:
        own = self.records[event.account, event.customer_id]
        own[[known.id for known in own].index(record.id)] = record


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of an event."""

    status: EventStatus
    reason: str
    record: Record | None = None


def process_waiting(ledger: Ledger, *, limit: int | None = None) -> Processed:
    """Process events that were received. Idempotent, resumable after a crash, safe from several processes.

    An event of a customer whom the ledger does not know (yet), or that cannot be processed, is looked at
    again for some minutes.

    :param ledger: with the events.
    :param limit: at most so many, in transactions of :data:`BATCH`; None for all that are due.
    :raises LedgerError: the database did not answer; what was committed stays.
    """
    with ledger.read() as connection:
        if not _is_any_due(connection):
            return Processed(0, still_waiting=False)
    count = 0
    while True:
        most = BATCH if limit is None else min(BATCH, limit - count)
        with ledger.write() as connection:
            done = process_batch(connection, ledger, limit=most)
        count += done.count
        if not done.still_waiting or count == limit:
            return Processed(count, done.still_waiting)


def process_batch(connection: Connection, ledger: Ledger, *, limit: int = BATCH) -> Processed:
    """Process events inside the caller's transaction.

    :param connection: from :meth:`~airflow_provider_popin.sync.ledger.ledger.Ledger.write`.
    :param ledger: the same ledger.
    :param limit: at most so many.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PROCESSING_LOCK})
    now = clock(connection)
    _wake(connection, now)
    query = sa.select(tables.events).where(_events.due_at <= now).order_by(_events.due_at, _events.id)
    rows = connection.execute(query.limit(limit)).fetchall()
    if not rows:
        return Processed(0, still_waiting=False)
    try:
        _process_together(connection, ledger, rows, now)
    except LedgerUnreachableError:
        raise
    except Exception:  # noqa: BLE001 - whichever event it was, it is found and told of one by one
        for row in rows:
            _process_alone(connection, ledger, row, now)
    deliveries.forget_old(connection)
    return Processed(len(rows), still_waiting=len(rows) == limit)


def _process_together(connection: Connection, ledger: Ledger, rows: Sequence[Any], now: float) -> None:
    """All of these events, or an exception and none of them.

    :raises LedgerUnreachableError: the database's trouble, which says nothing about an event.
    """
    with database.translated(), connection.begin_nested():
        known = _known(connection, rows)
        for row in rows:
            done = _process(connection, ledger, row, known, now)
            _note(connection, row, done, now)
            if done is not None and done.record is not None:
                outbox.put(connection, row, done.record, known.sources[done.record.id])


def _process_alone(connection: Connection, ledger: Ledger, row: Any, now: float) -> None:
    """One event, which must not hold up the others and every lead sync where it cannot be processed.

    A newer receiver beside an older worker stores such events, for example: later somebody may know them.
    """
    try:
        _process_together(connection, ledger, [row], now)
    except LedgerUnreachableError:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        is_last = row.tries >= len(RETRY_SECONDS)
        # The error's text may quote a person.
        log.error(
            "The event %s of popin_events cannot be processed (%s). The others are; this one %s.",
            row.id,
            type(error.__cause__ or error).__name__,
            "is left to a person" if is_last else "is tried again in some minutes",
        )
        _note(connection, row, _Done(EventStatus.UNMATCHED, UNPROCESSABLE) if is_last else None, now)


def take_evidence(connection: Connection, ledger: Ledger) -> bool:
    """Process a batch on behalf of a lead sync: evidence counts even where the API server died.

    :param connection: in a write transaction of the sync.
    :param ledger: the same ledger.
    :return: whether more is waiting.
    """
    return process_batch(connection, ledger).still_waiting


def _is_any_due(connection: Connection) -> bool:
    due = sa.select(_events.id).where(_events.due_at <= clock(connection)).limit(1)
    return bool(connection.execute(due).first() or connection.execute(_doubts_ended().limit(1)).first())


def _doubts_ended() -> Any:
    """Outcomes that waited for the end of a doubt, and may now be matched."""
    open_doubt = sa.select(_leads.id).where(
        _leads.account == _events.account,
        _leads.customer_id == _events.customer_id,
        _leads.booking_state.in_([BookingState.IN_DOUBT.value, BookingState.SENDING.value]),
    )
    return sa.select(_events.id).where(
        _events.status == EventStatus.UNMATCHED.value,
        _events.reason == matching.BOOKING_IN_DOUBT,
        ~open_doubt.exists(),
    )


def _wake(connection: Connection, now: float) -> None:
    ids = [row[0] for row in connection.execute(_doubts_ended().limit(500))]
    if ids:
        connection.execute(
            tables.events.update()
            .where(_events.id.in_(ids))
            .values(status=EventStatus.WAITING.value, due_at=now)
        )


def _known(connection: Connection, rows: Sequence[Any]) -> _Known:
    known = _Known()
    columns = [*schema.record_columns, _leads.source, _leads.outcome, _leads.outcome_at]
    for account in sorted({row.account for row in rows}):
        customers = sorted({row.customer_id for row in rows if row.account == account and row.customer_id})
        found: list[Any] = []
        for chunk in chunks(customers):
            query = sa.select(*columns).where(_leads.account == account, _leads.customer_id.in_(chunk))
            # Ordered, so that two processes never wait for each other in a circle.
            found += connection.execute(query.order_by(_leads.id).with_for_update())
        for *values, source, outcome, outcome_at in found:
            record = Record(*values)
            known.records.setdefault((account, str(record.customer_id)), []).append(record)
            known.sources[record.id] = source
            if outcome is not None:
                known.ends[record.id] = (outcome, outcome_at)
    return known


def _process(connection: Connection, ledger: Ledger, row: Any, known: _Known, now: float) -> _Done | None:
    """What becomes of one event; None: to be looked at again later."""
    kind = EventKind(row.kind)
    if row.customer_id is None:
        return _nobody(kind, "no_customer")
    candidates = known.candidates(row)
    if kind is EventKind.SCHEDULED:
        local = datetime.fromisoformat(row.slot_local) if row.slot_local else None
        match = matching.match_scheduled(candidates, local, _account_timezone(connection, row, candidates))
    elif kind in OUTCOMES:
        match = matching.match_outcome(candidates, _when(row))
    else:
        match = matching.match_customer(candidates)
    if match.record is None:
        if match.reason == matching.UNKNOWN_CUSTOMER and row.tries < len(RETRY_SECONDS):
            return None
        return _nobody(kind, match.reason)
    if kind is EventKind.SCHEDULED:
        return _scheduled(connection, ledger, row, match, known)
    if kind in ENDINGS:
        _ended(connection, row, match.record, known, now)
    return _Done(EventStatus.MATCHED, "outcome" if kind in OUTCOMES else "noted", match.record)


def _nobody(kind: EventKind, reason: str) -> _Done:
    """What needs no booking needs no person either: every visitor of the shop makes such events."""
    needs_one = kind is EventKind.SCHEDULED or kind in OUTCOMES
    return _Done(EventStatus.UNMATCHED if needs_one else EventStatus.NOTED, reason)


def _scheduled(connection: Connection, ledger: Ledger, row: Any, match: Match, known: _Known) -> _Done:
    record = match.record
    assert record is not None
    event = Evidence(
        record.id,
        match.slot_start,
        _slot_time(match, row.slot_local),
        match.timezone,
        f"webhook event {row.id}",
    )
    ledger.apply(connection, row.account, [event])
    after = locked(connection, [record.id])[record.id]
    known.changed(row, after)
    return _Done(EventStatus.MATCHED, _effect(record, after, match), after)


def _effect(before: Record, after: Record, match: Match) -> str:
    if match.slot_start is None or match.slot_start != before.slot_start:
        return "alarm"
    if before.booking_state == BookingState.BOOKED:
        return "confirmed"
    if before.booking_state == BookingState.SENDING:
        return "remembered"
    return "resolved" if after.booking_state == BookingState.BOOKED else "alarm"


def _slot_time(match: Match, local: str) -> str:
    """Popin's string for the instant, which the page shows; its own digits where there is none."""
    if match.slot_start is None or match.timezone is None:
        return local
    try:
        return format_popin_time(datetime.fromtimestamp(match.slot_start, UTC), match.timezone)
    except PopinInputError:
        return local


def _ended(connection: Connection, row: Any, record: Record, known: _Known, now: float) -> None:
    """Keep how the call ended. A success stands, whatever comes after or came before; else the last word."""
    told = (row.kind, _when(row))
    before = known.ends.get(record.id)
    if before is not None and _weight(before) >= _weight(told):
        return
    known.ends[record.id] = told
    source = known.sources[record.id]
    if source not in known.told_at:
        known.told_at[source] = _after_all_others(connection, source, now)
    connection.execute(
        schema.leads.update()
        .where(_leads.id == record.id)
        .values(outcome=told[0], outcome_at=told[1], outcome_told_at=known.told_at[source])
    )


def _after_all_others(connection: Connection, source: str, now: float) -> float:
    """Now, or just after what was told last: who brings endings to the CRM goes on from there, and a clock
    that was set back, or that of another server after a failover, must not hide one.
    """
    told = sa.select(sa.func.max(_leads.outcome_told_at)).where(
        _leads.source == source, _leads.outcome_told_at.is_not(None)
    )
    newest = connection.execute(told).scalar()
    return now if newest is None else max(now, float(newest) + _A_LITTLE)


def _weight(told: tuple[str, float]) -> tuple[bool, float, str]:
    return told[0] == EventKind.SUCCESSFUL.value, told[1], told[0]


def _when(row: Any) -> float:
    return float(row.received_at if row.occurred_at is None else row.occurred_at)


def _account_timezone(connection: Connection, row: Any, candidates: Sequence[Candidate]) -> str | None:
    """The seller's timezone as other calls of the account have it, for a lead that has no slot of its own."""
    if not candidates or any(one.record.slot_timezone is not None for one in candidates):
        return None
    query = (
        sa.select(_leads.slot_timezone)
        .select_from(schema.seats.join(schema.leads, schema.seats.c.lead == _leads.id))
        .where(schema.seats.c.account == row.account, _leads.slot_timezone.is_not(None))
        .order_by(schema.seats.c.slot_start.desc())
        .limit(1)
    )
    found = connection.execute(query).scalar()
    return None if found is None else str(found)


def _note(connection: Connection, row: Any, done: _Done | None, now: float) -> None:
    values: Mapping[str, object]
    if done is None:
        values = {"tries": row.tries + 1, "due_at": now + RETRY_SECONDS[row.tries]}
    else:
        lead = done.record.id if done.record is not None else None
        values = {"status": done.status.value, "reason": done.reason, "lead": lead, "due_at": None}
    connection.execute(tables.events.update().where(_events.id == row.id).values(**values))
