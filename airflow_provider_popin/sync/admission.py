"""What this run does with one row of the source, given what the ledger knows about its lead. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_popin.sync.ledger.events import BookingState, CaptureState, Ending, Record
from airflow_provider_popin.sync.source.rows import BadRow, LeadRow


class ResultSet(StrEnum):
    """Where a row ends. Every row ends in exactly one."""

    BOOKED = "booked"
    CAPTURED = "captured"
    REJECTED = "rejected"
    UNASSIGNED = "unassigned"
    IN_DOUBT = "in_doubt"
    SKIPPED = "skipped"
    PENDING = "pending"
    PLANNED = "planned"


_RESULTS_OF_BOOKING: Mapping[str, ResultSet] = {
    BookingState.BOOKED: ResultSet.BOOKED,
    BookingState.REJECTED: ResultSet.REJECTED,
    BookingState.IN_DOUBT: ResultSet.IN_DOUBT,
    BookingState.SENDING: ResultSet.IN_DOUBT,
    BookingState.UNASSIGNED: ResultSet.UNASSIGNED,
}


class Action(StrEnum):
    """What is to be done for a row."""

    CAPTURE = "capture"
    BOOK = "book"
    RESEND = "resend"
    REFUSE = "refuse"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Situation:
    """What is the same for all rows of a run.

    :param dag_run: the run's identity, the same for all of its tries
    :param books: whether calls are scheduled
    :param resend: whether bookings in doubt are sent once more
    :param owner: this run's lease
    :param live_owners: leases that have not run out
    :param captures: whether unknown leads are registered at Popin
    """

    dag_run: str
    books: bool
    resend: bool
    owner: str
    live_owners: frozenset[str]
    captures: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, or where the row ends without doing anything.

    :param result: None where the ledger says at the end of the run
    """

    action: Action
    result: ResultSet | None = None
    reason: str | None = None


_CAPTURE = Decision(Action.CAPTURE)  # made once: it is what most rows come to


def decide(row: LeadRow | BadRow, family: Sequence[Record], situation: Situation) -> Decision:
    """Decide about one row.

    :param row: with a usable identity, lead_id and generation
    :param family: the ledger's records of this lead id, of all generations; what had to expire has expired
    :param situation: see :class:`Situation`
    """
    if not family:  # as of most leads: the rules below would find nothing
        return _begin(row, situation)
    record = next((known for known in family if known.generation == row.generation), None)
    if any(known.generation > (row.generation or 1) for known in family):
        return Decision(Action.NOTHING, ResultSet.SKIPPED, "older_generation")
    if record is not None:
        held = _held(record, situation)
        if held is not None:
            return held
    if any(not _is_finished(known) for known in family if known is not record):
        return Decision(Action.NOTHING, ResultSet.PENDING, "earlier_generation_unfinished")
    if record is not None and _is_rejected(record) and record.fingerprint == row.fingerprint:
        return _unchanged(record, situation)
    if isinstance(row, BadRow) or record is None or record.capture_state != CaptureState.CAPTURED:
        return _begin(row, situation)
    return _continue(record, situation)


def final_result(ending: Ending, situation: Situation) -> tuple[ResultSet, str | None]:
    """Where a row that this run worked on ends, read from the ledger afterwards.

    :param ending: what the ledger tells of the lead now
    :param situation: see :class:`Situation`
    :return: the set, and the reason where there is one
    """
    found = _RESULTS_OF_BOOKING.get(ending.booking_state)
    if found is not None:
        return found, ending.reason
    if ending.capture_state == CaptureState.REJECTED:
        return ResultSet.REJECTED, ending.reason
    if ending.capture_state in (CaptureState.IN_DOUBT, CaptureState.SENDING):
        return ResultSet.IN_DOUBT, ending.reason or "capture_in_doubt"
    if ending.capture_state == CaptureState.CAPTURED and not situation.books:
        return ResultSet.CAPTURED, None
    return ResultSet.PENDING, ending.reason


def _held(record: Record, situation: Situation) -> Decision | None:
    """What must not be touched by this run, whatever the row says."""
    this_run = record.run == situation.dag_run
    if record.booking_state == BookingState.BOOKED:
        if this_run:
            return Decision(Action.NOTHING, ResultSet.BOOKED)
        return Decision(Action.NOTHING, ResultSet.SKIPPED, "already_booked")
    claimed = (
        record.claim_owner not in (None, situation.owner) and record.claim_owner in situation.live_owners
    )
    if record.booking_state == BookingState.IN_DOUBT and not _may_resend(record, situation):
        # Whoever holds it: it was sent, and a person must hear of it.
        return Decision(Action.NOTHING, ResultSet.IN_DOUBT, record.reason)
    if claimed or CaptureState.SENDING in (record.capture_state, record.booking_state):
        return Decision(Action.NOTHING, ResultSet.PENDING, "claimed_elsewhere")
    return Decision(Action.RESEND) if record.booking_state == BookingState.IN_DOUBT else None


def _may_resend(record: Record, situation: Situation) -> bool:
    allowed = situation.resend and situation.books and not record.resends and not record.alarm
    return allowed and record.doubt_run != situation.dag_run


def _unchanged(record: Record, situation: Situation) -> Decision:
    if record.run == situation.dag_run:
        return Decision(Action.NOTHING, ResultSet.REJECTED, record.reason)
    return Decision(Action.NOTHING, ResultSet.SKIPPED, "unchanged_since_rejection")


def _begin(row: LeadRow | BadRow, situation: Situation) -> Decision:
    if isinstance(row, BadRow):
        return Decision(Action.REFUSE, reason=row.reason)
    if row.customer_id is None:
        if not situation.captures:
            return Decision(Action.NOTHING, ResultSet.PENDING, "not_captured")
        return _CAPTURE
    if situation.books:
        return Decision(Action.BOOK)
    return Decision(Action.NOTHING)


def _continue(record: Record, situation: Situation) -> Decision:
    if record.customer_id is None:
        return Decision(Action.NOTHING, ResultSet.SKIPPED, "forgotten")  # erased by `ledger forget`
    if situation.books:
        return Decision(Action.BOOK)
    if record.run == situation.dag_run:
        return Decision(Action.NOTHING, ResultSet.CAPTURED)
    return Decision(Action.NOTHING, ResultSet.SKIPPED, "already_captured")


def _is_finished(record: Record) -> bool:
    return record.booking_state == BookingState.BOOKED or _is_rejected(record)


def _is_rejected(record: Record) -> bool:
    return BookingState.REJECTED in (record.capture_state, record.booking_state)
