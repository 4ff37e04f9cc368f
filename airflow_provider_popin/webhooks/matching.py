"""Which lead an event is about: exactly one, or nobody. Pure; the records are those of the event's customer.

A customer may have several records: generations of one lead, and leads that share a phone, which Popin may
know as one customer (grade U). What fits more than one of them is matched to none: a person sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.slots import load_timezone
from airflow_provider_popin.sync.ledger.events import BookingState, Record

# An outcome names no slot: it is of a call that began at most this long before.
OUTCOME_SECONDS = 24 * 3600
# The clocks of Popin and of the ledger's database may differ, and people come early.
EARLY_SECONDS = 300

_MAY_HAVE_A_CALL = (BookingState.SENDING, BookingState.IN_DOUBT, BookingState.BOOKED)
_FINISHED = (BookingState.BOOKED, BookingState.REJECTED)

UNKNOWN_CUSTOMER = "unknown_customer"
BOOKING_IN_DOUBT = "booking_in_doubt"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record of the event's customer."""

    source: str
    record: Record


@dataclass(frozen=True, slots=True)
class Match:
    """Who an event is about.

    :param record: None for nobody.
    :param reason: why nobody; empty for somebody.
    :param slot_start: the call's start, epoch seconds; None where its instant cannot be told. So
        ``timezone``.
    """

    record: Record | None
    reason: str = ""
    slot_start: int | None = None
    timezone: str | None = None


def match_scheduled(
    candidates: Sequence[Candidate], local: datetime | None, account_timezone: str | None
) -> Match:
    """Who has the call that ``popin_scheduled_created`` names.

    :param candidates: all records of the customer.
    :param local: the scheduled time, naive, in the seller's timezone.
    :param account_timezone: of other calls of the account, for customers who have none; None if none is
        known.
    :return: the one record for that very instant, whatever it takes; else the one lead whose call it may be,
        which the ledger then holds with an alarm.
    """
    if not candidates:
        return Match(None, UNKNOWN_CUSTOMER)
    if local is None:
        return Match(None, "time_unreadable")
    exact = [one.record for one in candidates if _has_call_at(one.record, local)]
    if len(exact) == 1:
        return Match(exact[0], "", exact[0].slot_start, exact[0].slot_timezone)
    if exact:
        # One call is told of, and it may be either's: also that of one which is booked already.
        return Match(None, "several_bookings")
    if len({(one.source, one.record.lead_id) for one in candidates}) > 1:
        return Match(None, "several_leads")
    generations = sorted((one.record for one in candidates), key=lambda record: record.generation)
    open_ones = [record for record in generations if record.booking_state not in _FINISHED]
    # Whom the next run would book, or hold the later ones for.
    record = (open_ones or generations[-1:])[0]
    zones = [
        record.slot_timezone,
        *(other.slot_timezone for other in reversed(generations)),
        account_timezone,
    ]
    timezone = next((zone for zone in zones if zone is not None), None)
    return Match(record, "", instant_of(local, timezone), timezone)


def match_outcome(candidates: Sequence[Candidate], when: float) -> Match:
    """Whose call ended.

    :param candidates: all records of the customer.
    :param when: of the event, or of its receipt; epoch seconds.
    """
    if not candidates:
        return Match(None, UNKNOWN_CUSTOMER)
    possible = [
        one.record
        for one in candidates
        if one.record.booking_state in _MAY_HAVE_A_CALL
        and one.record.slot_start is not None
        and when - OUTCOME_SECONDS <= one.record.slot_start <= when + EARLY_SECONDS
    ]
    if not possible:
        return Match(None, "no_booking")
    if len(possible) > 1:
        return Match(None, "several_bookings")
    if possible[0].booking_state != BookingState.BOOKED:
        return Match(None, BOOKING_IN_DOUBT)
    return Match(possible[0])


def match_customer(candidates: Sequence[Candidate]) -> Match:
    """Whose customer it is: the newest generation of the one lead that there is.

    :param candidates: all records of the customer.
    """
    if not candidates:
        return Match(None, UNKNOWN_CUSTOMER)
    if len({(one.source, one.record.lead_id) for one in candidates}) > 1:
        return Match(None, "several_leads")
    return Match(max((one.record for one in candidates), key=lambda record: record.generation))


def instant_of(local: datetime, timezone: str | None) -> int | None:
    """The one instant of a local time; None where a DST change doubles or removes it, or nobody knows.

    :param local: naive.
    :param timezone: IANA name.
    """
    try:
        zone = load_timezone(timezone)
    except PopinInputError:
        return None
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return int(first.timestamp()) if first == second else None


def _has_call_at(record: Record, local: datetime) -> bool:
    return (
        record.booking_state in _MAY_HAVE_A_CALL
        and record.slot_start is not None
        and record.slot_start == instant_of(local, record.slot_timezone)
    )
