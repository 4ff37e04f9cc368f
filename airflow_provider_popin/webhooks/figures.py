"""What the page counts. Fast with 100,000 leads; instants are epoch seconds, UTC.

A lead counts for the day on which the ledger first heard of it, so each day's funnel is about the same leads
from end to end, and its later numbers may still grow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.client.slots import load_timezone
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.events import BookingState
from airflow_provider_popin.sync.ledger.ledger import Ledger, chunks, clock
from airflow_provider_popin.sync.ledger.tables import Instant
from airflow_provider_popin.webhooks.events import EventKind

# Each is three parameters of one statement, and SQLite's oldest limit is 999.
_DAYS_AT_ONCE = 200

_leads = schema.leads.c
_seats = schema.seats.c
_runs = schema.runs.c
# As text, not as parameters: only so are the indexes used that hold just these leads.
_BOOKED = sa.text("booking_state = 'booked'")
_REJECTED = sa.text(schema.REJECTED)
_STAGES: Mapping[str, Sequence[Any]] = {
    "read": (),
    "captured": (sa.text("capture_state = 'captured'"),),
    "booked": (_BOOKED,),
    "happened": (_BOOKED, sa.text(f"outcome = '{EventKind.SUCCESSFUL.value}'")),
    "missed": (_BOOKED, sa.text(f"outcome <> '{EventKind.SUCCESSFUL.value}'")),
    "in_doubt": (sa.text("booking_state = 'in_doubt'"),),
    "rejected": (_REJECTED,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelDay:
    """What became of the leads of one source that the ledger first heard of on one day.

    :param read: all of them, by lead and generation; rows without a usable identity are in the run's report
        only.
    :param captured: registered at Popin.
    :param booked: of those, with a call.
    :param happened: of those, the call was successful.
    :param missed: of the booked, missed or abandoned.
    :param in_doubt: nobody knows whether the booking exists.
    :param rejected: by the rules or by Popin.
    :param waiting: everything else: not sent yet, being sent, or no slot fits.
    """

    day: date
    source: str
    read: int
    captured: int
    booked: int
    happened: int
    missed: int
    in_doubt: int
    rejected: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Leads of a source that were rejected for one reason (its code, without Popin's text)."""

    source: str
    reason: str
    leads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotUse:
    """Seats of one slot that the ledger holds.

    :param slot_start: epoch seconds.
    :param timezone: the seller's, where a lead of the slot says it.
    """

    slot_start: int
    timezone: str | None
    booked: int
    in_doubt: int
    planned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run of the lead sync.

    :param ended_at: None where it is under way or was killed.
    :param report: see ``sync.report.Report``; None where there is none (yet).
    """

    id: int
    source: str
    run: str
    try_number: int
    started_at: float
    ended_at: float | None
    report: Mapping[str, object] | None


def sources(ledger: Ledger) -> list[str]:
    """Names of all sources, in order of the alphabet.

    :param ledger: with the leads.
    """
    with ledger.read() as connection:
        return _sources(connection)


def funnel(
    ledger: Ledger,
    *,
    since: float,
    source: str | None = None,
    timezone: str = "UTC",
) -> list[FunnelDay]:
    """The funnel by day and source, ascending; a day without leads is absent.

    :param ledger: with the leads.
    :param since: first instant that counts.
    :param source: only this source.
    :param timezone: IANA name; whose days.
    :raises PopinInputError: no such timezone
    """
    zone = load_timezone(timezone)
    found: list[FunnelDay] = []
    with ledger.read() as connection:
        if connection.dialect.name == "postgresql":
            # It takes Postgres longer to compile this statement than to run it.
            connection.exec_driver_sql("SET LOCAL jit = off")
        for name in _sources(connection) if source is None else [source]:
            for chunk in chunks(_days(connection, name, since, zone), _DAYS_AT_ONCE):
                found += _funnel(connection, name, chunk)
    return sorted(found, key=lambda day: (day.day, day.source))


def rejections(ledger: Ledger, *, since: float, source: str | None = None) -> list[Rejection]:
    """Rejected leads by source and reason, the most frequent first. Parameters as for :func:`funnel`."""
    query = sa.select(_leads.source, _leads.reason, sa.func.count())
    query = query.where(_REJECTED, _leads.created_at >= since).group_by(_leads.source, _leads.reason)
    if source is not None:
        query = query.where(_leads.source == source)
    counts: Counter[tuple[str, str]] = Counter()
    with ledger.read() as connection:
        for name, reason, count in connection.execute(query):
            # A Popin text may follow the code.
            counts[name, (reason or "unknown").partition(":")[0]] += count
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Rejection(source=name, reason=reason, leads=count) for (name, reason), count in ordered]


def utilisation(ledger: Ledger, *, account: str, since: float, until: float) -> list[SlotUse]:
    """Seats of an account by slot, ascending.

    :param ledger: with the seats.
    :param account: its name in the ledger.
    :param since: first start of a slot that counts.
    :param until: first start that does not count any more.
    """
    query = (
        sa.select(_seats.slot_start, _leads.booking_state, sa.func.max(_leads.slot_timezone), sa.func.count())
        .select_from(schema.seats.outerjoin(schema.leads, _seats.lead == _leads.id))
        # Whole numbers: for a fraction, Postgres takes neither the index nor its statistics.
        .where(_seats.account == account, _seats.slot_start >= ceil(since), _seats.slot_start < ceil(until))
        .group_by(_seats.slot_start, _leads.booking_state)
    )
    by_slot: dict[int, Counter[str]] = {}
    zones: dict[int, str | None] = {}
    with ledger.read() as connection:
        for start, state, zone, count in connection.execute(query):
            by_slot.setdefault(start, Counter())[state] += count
            zones[start] = zone or zones.get(start)
    return [_slot_use(start, zones[start], by_slot[start]) for start in sorted(by_slot)]


def runs(ledger: Ledger, *, source: str | None = None, limit: int = 50) -> list[RunView]:
    """Runs of the lead sync, the newest first.

    :param ledger: with the runs.
    :param source: only this source.
    :param limit: at most so many.
    """
    query = sa.select(schema.runs).order_by(_runs.id.desc()).limit(limit)
    if source is not None:
        query = query.where(_runs.source == source)
    with ledger.read() as connection:
        rows = connection.execute(query).fetchall()
    return [
        RunView(
            id=row.id,
            source=row.source,
            run=row.run,
            try_number=row.try_number,
            started_at=row.started_at,
            ended_at=row.ended_at,
            report=None if row.report is None else json.loads(row.report),
        )
        for row in rows
    ]


def _days(
    connection: Connection, source: str, since: float, zone: ZoneInfo
) -> list[tuple[date, float, float]]:
    """The days that may have leads: each with its first instant and the first of the next."""
    first = connection.execute(
        sa.select(sa.func.min(_leads.created_at)).where(_leads.created_at >= since, _leads.source == source)
    ).scalar()
    if first is None:
        return []
    now = clock(connection)
    day = datetime.fromtimestamp(first, zone).date()
    days: list[tuple[date, float, float]] = []
    while (begin := datetime.combine(day, time.min, zone).timestamp()) <= now:
        day_after = day + timedelta(days=1)
        days.append((day, max(begin, since), datetime.combine(day_after, time.min, zone).timestamp()))
        day = day_after
    return days


def _funnel(
    connection: Connection, source: str, days: Sequence[tuple[date, float, float]]
) -> Iterator[FunnelDay]:
    """One statement counts every stage of every day from an index, without a look at the leads."""
    spans = sa.union_all(
        *(
            sa.select(
                sa.literal(number).label("number"),
                sa.literal(begin, Instant).label("begin_at"),
                sa.literal(end, Instant).label("end_at"),
            )
            for number, (_, begin, end) in enumerate(days)
        )
    ).subquery("days")

    def count(conditions: Sequence[Any]) -> Any:
        return (
            sa.select(sa.func.count())
            .select_from(schema.leads)
            .where(
                _leads.source == source,
                _leads.created_at >= spans.c.begin_at,
                _leads.created_at < spans.c.end_at,
                *conditions,
            )
            .correlate(spans)
            .scalar_subquery()
        )

    query = sa.select(spans.c.number, *(count(these).label(name) for name, these in _STAGES.items()))
    for row in connection.execute(query):
        if row.read:
            numbers = {name: getattr(row, name) for name in _STAGES}
            waiting = row.read - row.booked - row.in_doubt - row.rejected
            yield FunnelDay(day=days[row.number][0], source=source, waiting=waiting, **numbers)


def _sources(connection: Connection) -> list[str]:
    query = sa.select(schema.sources.c.source).order_by(schema.sources.c.source)
    return [row[0] for row in connection.execute(query)]


def _slot_use(start: int, timezone: str | None, states: Mapping[str, int]) -> SlotUse:
    doubted = states.get(BookingState.IN_DOUBT, 0) + states.get(BookingState.SENDING, 0)
    return SlotUse(
        slot_start=start,
        timezone=timezone,
        booked=states.get(BookingState.BOOKED, 0),
        in_doubt=doubted,
        planned=states.get(BookingState.PLANNED, 0),
    )
