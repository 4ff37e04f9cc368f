"""The first page: what needs a person, then the funnel, the slots and the runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from airflow_provider_popin.client.slots import shown_timezone
from airflow_provider_popin.plugins.page.formats import display_timezone
from airflow_provider_popin.plugins.page.frame import Page, page
from airflow_provider_popin.plugins.page.rendering import render
from airflow_provider_popin.webhooks import figures, queries
from airflow_provider_popin.webhooks.figures import FunnelDay, SlotUse

PERIODS = (7, 30, 90)
DEFAULT_PERIOD = 30
# Slots that are still to come matter more than those that have been.
_SLOT_DAYS_BACK, _SLOT_DAYS_AHEAD = 7, 21
_SHOWN = 5
# What an action says afterwards; anything else in the query is ignored.
_DONE = {
    "booked": "Recorded as booked. The lead is done.",
    "not-booked": "Recorded as not booked. The next run may book the lead.",
    "dismissed": "The event is dismissed.",
    "cleared": "The alarm is cleared.",
}

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Leads by what became of them; the fields of :class:`~.webhooks.figures.FunnelDay`."""

    read: int = 0
    captured: int = 0
    booked: int = 0
    happened: int = 0
    missed: int = 0
    in_doubt: int = 0
    rejected: int = 0
    waiting: int = 0

    @property
    def open(self) -> int:
        """Booked, and nothing was told about the call yet."""
        return self.booked - self.happened - self.missed


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotDay:
    """Seats of one day."""

    day: date
    slots: int
    booked: int
    in_doubt: int
    planned: int
    fullest: int


@router.get("/")
def overview(
    shown: Annotated[Page, Depends(page)],
    days: int = DEFAULT_PERIOD,
    source: str | None = None,
    done: str | None = None,
) -> HTMLResponse:
    """The overview.

    :param shown: the ledger.
    :param days: period of the funnel; one of :data:`PERIODS`.
    :param source: only this source, where the ledger knows it.
    :param done: what was just done.
    """
    ledger, now = shown.ledger, time.time()
    days = days if days in PERIODS else DEFAULT_PERIOD
    sources = figures.sources(ledger)
    chosen = source if source in sources else None
    zone = display_timezone()
    first_day = datetime.fromtimestamp(now, ZoneInfo(zone)).date() - timedelta(days=days - 1)
    since = datetime(first_day.year, first_day.month, first_day.day, tzinfo=ZoneInfo(zone)).timestamp()
    funnel = figures.funnel(ledger, since=since, source=chosen, timezone=zone)
    seats = figures.utilisation(
        ledger,
        account=shown.open.account,
        since=now - _SLOT_DAYS_BACK * 86_400,
        until=now + _SLOT_DAYS_AHEAD * 86_400,
    )
    context = {
        "attention": queries.attention(ledger),
        "doubts": queries.in_doubt(ledger, limit=_SHOWN),
        "alarms": queries.alarms(ledger, limit=_SHOWN),
        "unmatched": queries.unmatched(ledger, limit=_SHOWN),
        "sources": sources,
        "source": chosen,
        "periods": PERIODS,
        "days": days,
        "zone": zone,
        "total": total(funnel),
        "by_day": by_day(funnel, first_day, days),
        "by_source": by_source(funnel),
        "rejections": figures.rejections(ledger, since=since, source=chosen),
        "slot_days": slot_days(seats),
        "slot_zone": next((seat.timezone for seat in seats if seat.timezone), "UTC"),
        "runs": figures.runs(ledger, source=chosen, limit=_SHOWN),
        "done": _DONE.get(done or ""),
    }
    return render(shown.request, "overview.html", context)


def total(funnel: Iterable[FunnelDay]) -> Counts:
    """Add up some rows of the funnel.

    :param funnel: any of them.
    """
    rows = list(funnel)
    return Counts(**{field.name: sum(getattr(row, field.name) for row in rows) for field in fields(Counts)})


def by_day(funnel: Sequence[FunnelDay], first: date, days: int) -> list[tuple[date, Counts]]:
    """Add up the sources of each day; days without leads are there too, as zeros.

    :param funnel: ascending by day.
    :param first: first day.
    :param days: how many.
    """
    known = {day: total(rows) for day, rows in groupby(funnel, key=lambda row: row.day)}
    calendar = (first + timedelta(days=offset) for offset in range(days))
    return [(day, known.get(day, Counts())) for day in calendar]


def by_source(funnel: Iterable[FunnelDay]) -> list[tuple[str, Counts]]:
    """Add up the days of each source, the biggest source first.

    :param funnel: in any order.
    """
    rows = sorted(funnel, key=lambda row: row.source)
    totals = [(source, total(group)) for source, group in groupby(rows, key=lambda row: row.source)]
    return sorted(totals, key=lambda pair: -pair[1].read)


def slot_days(seats: Iterable[SlotUse]) -> list[SlotDay]:
    """Add up the slots of each day, in the seller's timezone.

    :param seats: ascending by slot.
    """
    return [
        SlotDay(
            day=day,
            slots=len(rows),
            booked=sum(row.booked for row in rows),
            in_doubt=sum(row.in_doubt for row in rows),
            planned=sum(row.planned for row in rows),
            fullest=max(row.booked + row.in_doubt + row.planned for row in rows),
        )
        for day, group in groupby(seats, key=_seller_day)
        if (rows := list(group))
    ]


def _seller_day(use: SlotUse) -> date:
    return datetime.fromtimestamp(use.slot_start, shown_timezone(use.timezone)).date()
