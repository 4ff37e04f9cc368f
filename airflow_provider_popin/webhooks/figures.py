"""What the page counts. Fast with 100,000 leads; instants are epoch seconds, UTC.

A lead counts for the day on which the ledger first heard of it, so each day's funnel is about the same leads
from end to end, and its later numbers may still grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from airflow_provider_popin.sync.ledger import Ledger


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
    raise NotImplementedError


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
    """
    raise NotImplementedError


def rejections(
    ledger: Ledger, *, since: float, until: float | None = None, source: str | None = None
) -> list[Rejection]:
    """Rejected leads by source and reason, the most frequent first. Parameters as for :func:`funnel`."""
    raise NotImplementedError


def utilisation(ledger: Ledger, *, since: float, until: float, account: str | None = None) -> list[SlotUse]:
    """Seats by slot, ascending.

    :param ledger: with the seats.
    :param since: first start of a slot that counts.
    :param until: first start that does not count any more.
    :param account: only this account.
    """
    raise NotImplementedError


def runs(ledger: Ledger, *, source: str | None = None, limit: int = 50) -> list[RunView]:
    """Runs of the lead sync, the newest first.

    :param ledger: with the runs.
    :param source: only this source.
    :param limit: at most so many.
    """
    raise NotImplementedError
