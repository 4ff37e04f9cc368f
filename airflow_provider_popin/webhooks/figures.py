"""What the page counts. Fast with 100,000 leads; instants are epoch seconds, UTC.

A lead counts for the day on which the ledger first heard of it, so each day's funnel is about the same leads
from end to end, and its later numbers may still grow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.client.slots import load_timezone
from airflow_provider_popin.sync import schema
from airflow_provider_popin.sync.events import BookingState, CaptureState
from airflow_provider_popin.sync.ledger import Ledger
from airflow_provider_popin.webhooks.events import EventKind

_DAY = 86_400

_leads = schema.leads.c
_seats = schema.seats.c
_runs = schema.runs.c


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
    :param waiting: everything else: not sent yet, or no slot fits.
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

    account: str
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
        query = sa.select(schema.sources.c.source).order_by(schema.sources.c.source)
        return [row[0] for row in connection.execute(query)]


def funnel(
    ledger: Ledger,
    *,
    since: float,
    until: float | None = None,
    source: str | None = None,
    timezone: str = "UTC",
) -> list[FunnelDay]:
    """The funnel by day and source, ascending; a day without leads is absent.

    :param ledger: with the leads.
    :param since: first instant that counts.
    :param until: first instant that does not count any more; None for now.
    :param source: only this source.
    :param timezone: IANA name; whose days.
    :raises PopinInputError: no such timezone
    """
    zone = load_timezone(timezone)
    states = (_leads.capture_state, _leads.booking_state, _leads.outcome)
    days: dict[tuple[date, str], Counter[str]] = {}
    with ledger.read() as connection:
        for begin, end, first, length in _spans(*_range(connection, since, until), zone):
            number = _day_number(connection, begin)
            query = sa.select(number, _leads.source, *states, sa.func.count())
            query = query.where(*_first_heard(max(begin, since), end, source))
            for offset, name, *found, count in connection.execute(
                query.group_by(number, _leads.source, *states)
            ):
                # A day of 25 hours is a span of its own: its last hour is no day after it.
                day = first + timedelta(days=min(offset, length - 1))
                counts = days.setdefault((day, name), Counter())
                counts.update(dict.fromkeys(_stages(*found), count))
    return [_funnel_day(day, name, days[day, name]) for day, name in sorted(days)]


def rejections(
    ledger: Ledger, *, since: float, until: float | None = None, source: str | None = None
) -> list[Rejection]:
    """Rejected leads by source and reason, the most frequent first. Parameters as for :func:`funnel`."""
    rejected = sa.or_(
        _leads.capture_state == CaptureState.REJECTED.value,
        _leads.booking_state == BookingState.REJECTED.value,
    )
    query = sa.select(_leads.source, _leads.reason, sa.func.count())
    query = query.where(rejected, *_first_heard(since, until, source)).group_by(_leads.source, _leads.reason)
    counts: Counter[tuple[str, str]] = Counter()
    with ledger.read() as connection:
        for name, reason, count in connection.execute(query):
            # A Popin text may follow the code.
            counts[name, (reason or "unknown").partition(":")[0]] += count
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Rejection(source=name, reason=reason, leads=count) for (name, reason), count in ordered]


def utilisation(ledger: Ledger, *, since: float, until: float, account: str | None = None) -> list[SlotUse]:
    """Seats by slot, ascending.

    :param ledger: with the seats.
    :param since: first start of a slot that counts.
    :param until: first start that does not count any more.
    :param account: only this account.
    """
    by_slot: dict[tuple[int, str], Counter[str]] = {}
    zones: dict[tuple[int, str], str | None] = {}
    with ledger.read() as connection:
        for name in _accounts(connection) if account is None else [account]:
            query = (
                sa.select(
                    _seats.slot_start,
                    _leads.booking_state,
                    sa.func.max(_leads.slot_timezone),
                    sa.func.count(),
                )
                .select_from(schema.seats.outerjoin(schema.leads, _seats.lead == _leads.id))
                .where(_seats.account == name, _seats.slot_start >= since, _seats.slot_start < until)
                .group_by(_seats.slot_start, _leads.booking_state)
            )
            for start, state, zone, count in connection.execute(query):
                by_slot.setdefault((start, name), Counter())[state] += count
                zones[start, name] = zone or zones.get((start, name))
    return [
        _slot_use(start, name, zones[start, name], by_slot[start, name]) for start, name in sorted(by_slot)
    ]


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


def _range(connection: Connection, since: float, until: float | None) -> tuple[float, float]:
    """The part of a period in which there are leads."""
    query = sa.select(sa.func.min(_leads.created_at), sa.func.max(_leads.created_at))
    earliest, latest = connection.execute(query.where(*_first_heard(since, until, None))).one()
    if earliest is None:
        return since, since
    return float(earliest), float(latest) + 1 if until is None else min(float(latest) + 1, until)


def _spans(since: float, until: float, zone: ZoneInfo) -> Iterator[tuple[int, float, date, int]]:
    """Cut a period where days stop having 24 hours, so that the database can count days by dividing.

    :return: begin (a midnight), end, the day that begins there, and how many days
    """
    if until <= since:
        return
    begin = day = datetime.fromtimestamp(since, zone).date()
    while _midnight(day, zone) < until:
        after = day + timedelta(days=1)
        if _midnight(after, zone) - _midnight(day, zone) != _DAY:
            if begin < day:
                yield _midnight(begin, zone), _midnight(day, zone), begin, (day - begin).days
            yield _midnight(day, zone), _midnight(after, zone), day, 1
            begin = after
        day = after
    if begin < day:
        yield _midnight(begin, zone), min(_midnight(day, zone), until), begin, (day - begin).days


def _midnight(day: date, zone: ZoneInfo) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _day_number(connection: Connection, begin: int) -> Any:
    passed = (_leads.created_at - sa.literal_column(f"{begin}.0")) / sa.literal_column(f"{_DAY}.0")
    if connection.dialect.name == "sqlite":
        return sa.cast(passed, sa.Integer)
    return sa.cast(sa.func.floor(passed), sa.BigInteger)


def _first_heard(
    since: float, until: float | None, source: str | None
) -> Iterable[sa.sql.elements.ColumnElement[bool]]:
    yield _leads.created_at >= since
    if until is not None:
        yield _leads.created_at < until
    if source is not None:
        yield _leads.source == source


def _stages(capture: str, booking: str, outcome: str | None) -> Iterable[str]:
    """Which numbers of the funnel a lead counts for."""
    yield "read"
    if capture == CaptureState.CAPTURED:
        yield "captured"
    if booking == BookingState.BOOKED:
        yield "booked"
        if outcome == EventKind.SUCCESSFUL:
            yield "happened"
        elif outcome is not None:
            yield "missed"
    elif booking in (BookingState.IN_DOUBT, BookingState.SENDING):
        yield "in_doubt"
    elif CaptureState.REJECTED in (capture, booking):
        yield "rejected"
    else:
        yield "waiting"


def _funnel_day(day: date, source: str, counts: Mapping[str, int]) -> FunnelDay:
    return FunnelDay(
        day=day,
        source=source,
        read=counts.get("read", 0),
        captured=counts.get("captured", 0),
        booked=counts.get("booked", 0),
        happened=counts.get("happened", 0),
        missed=counts.get("missed", 0),
        in_doubt=counts.get("in_doubt", 0),
        rejected=counts.get("rejected", 0),
        waiting=counts.get("waiting", 0),
    )


def _accounts(connection: Connection) -> list[str]:
    query = sa.select(schema.sources.c.account).distinct()
    return sorted(row[0] for row in connection.execute(query))


def _slot_use(start: int, account: str, timezone: str | None, states: Mapping[str, int]) -> SlotUse:
    doubted = states.get(BookingState.IN_DOUBT, 0) + states.get(BookingState.SENDING, 0)
    return SlotUse(
        account=account,
        slot_start=start,
        timezone=timezone,
        booked=states.get(BookingState.BOOKED, 0),
        in_doubt=doubted,
        planned=states.get(BookingState.PLANNED, 0),
    )
