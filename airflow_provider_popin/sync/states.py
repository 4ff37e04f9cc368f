"""The state machine of a lead in the ledger: pure functions, no database.

A lead is registered at Popin (the capture), then booked. Both halves live in one record::

    capture    new ──> sending ──> captured
                ^         ├──────> rejected ──> new        (the row was corrected)
                └─ not ───┤
                   sent   └──────> in_doubt ──> sending    (every run sends it again: a registration)

    booking    waiting ──> planned ──> sending ──> booked
                  ^  ^        │           ├──────> rejected ──> waiting   (the row was corrected)
                  │  └────────┘           ├──────> waiting                (the slot is taken: plan again)
                  v   released            ├──────> planned                (not sent)
              unassigned                  └──────> in_doubt ──> booked    (late answer, webhook, a person)
                                                       ├──────> waiting   (a person: not booked)
                                                       └──────> sending   (on_in_doubt="resend", once)

The rules that keep the promise:

* ``sending`` is committed before the POST (:class:`Intent`), and every intent makes a new attempt number. Whatever
  comes back (:class:`Settled`) counts only for its own attempt.
* What may have reached Popin is ``in_doubt``. From then on (``booking_doubted``) only a documented success, the webhook
  or a person ends the doubt: "slot taken" may be our own booking. The seat is kept.
* ``sending`` past its deadline, seen by anyone, is ``in_doubt`` (:class:`Expired`): the sender died.
* A success for an attempt that was given up is never dropped: it raises an alarm and holds the lead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

# An exchange may take its whole timeout; after that much more nobody can still be waiting for its answer.
DEADLINE_MARGIN_SECONDS = 10.0


class CaptureState(StrEnum):
    """Where the registration of a lead at Popin stands."""

    NEW = "new"
    SENDING = "sending"
    CAPTURED = "captured"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"


class BookingState(StrEnum):
    """Where the call of a lead stands."""

    WAITING = "waiting"
    PLANNED = "planned"
    SENDING = "sending"
    BOOKED = "booked"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    UNASSIGNED = "unassigned"


class Step(StrEnum):
    """The two POSTs."""

    CAPTURE = "capture"
    BOOKING = "booking"


class Answer(StrEnum):
    """What came of one POST, as far as the ledger cares (see ``client.outcomes`` for the classification)."""

    SUCCESS = "success"
    REJECTED = "rejected"
    TAKEN = "taken"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Record:
    """One lead of one generation, as the ledger holds it. Field order is the column order of ``schema.leads``.

    Times are seconds since the epoch by the database's clock; ``slot_start`` is whole seconds, UTC.
    """

    id: int
    lead_id: str
    generation: int
    capture_state: str = CaptureState.NEW
    booking_state: str = BookingState.WAITING
    attempt: int = 0
    deadline: float | None = None
    capture_doubted: bool = False
    booking_doubted: bool = False
    resends: int = 0
    customer_id: str | None = field(default=None, repr=False)
    second_customer: str | None = field(default=None, repr=False)
    join_url: str | None = field(default=None, repr=False)
    slot_start: int | None = None
    slot_time: str | None = None
    slot_timezone: str | None = None
    seat: int | None = None
    reply_incomplete: bool = False
    time_mismatch: bool = False
    alarm: bool = False
    reason: str | None = None
    fingerprint: str | None = None
    wish: str | None = None
    claim_owner: str | None = None
    run: str | None = None
    doubt_run: str | None = None
    change: int = 0
    written: int = 0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Intent:
    """About to send: the record goes to ``sending`` under a new attempt number.

    :param attempt: the attempt number that the sender read; another number means that somebody else acted.
    :param owner: the lease owner that must hold the claim.
    :param run: the Dag run on whose behalf it is sent.
    :param timeout_seconds: whole-exchange timeout; the deadline is this plus :data:`DEADLINE_MARGIN_SECONDS`.
    :param resend: a booking in doubt is sent again on purpose (``on_in_doubt="resend"``).
    """

    id: int
    step: Step
    attempt: int
    owner: str
    run: str
    timeout_seconds: float
    resend: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of attempt ``attempt``. ``slot_*`` name the slot that was sent, for late answers."""

    id: int
    step: Step
    attempt: int
    answer: Answer
    run: str
    reason: str | None = None
    customer_id: str | None = field(default=None, repr=False)
    join_url: str | None = field(default=None, repr=False)
    incomplete: bool = False
    time_mismatch: bool = False
    fingerprint: str | None = None
    slot_start: int | None = None
    slot_time: str | None = None
    slot_timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner chose a slot; accepted only if the seat is free (its unique key decides)."""

    id: int
    attempt: int
    owner: str
    slot_start: int
    slot_time: str
    slot_timezone: str
    seat: int


@dataclass(frozen=True, slots=True)
class Released:
    """A planned seat is given back, or a waiting lead is told why no slot fits (``unassigned``)."""

    id: int
    owner: str
    to: BookingState
    run: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """Somebody saw ``sending``; accepted once the deadline has passed."""

    id: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """A person, or evidence, ends the doubt about a booking."""

    id: int
    booked: bool
    who: str
    why: str


Event = Intent | Settled | Planned | Released | Expired | Resolved


@dataclass(slots=True)
class Effects:
    """What a step asks of the database beside the record itself.

    :param take_seats: ids of records that hold a seat from now on.
    :param release_seats: ids of records whose seat is given back.
    :param notes: ``(record id, attempt, kind, who, why)`` for the history table.
    """

    take_seats: list[int] = field(default_factory=list)
    release_seats: list[int] = field(default_factory=list)
    notes: list[tuple[int, int, str, str | None, str | None]] = field(default_factory=list)


def apply(record: Record, event: Event, effects: Effects, now: float) -> bool:
    """Move ``record`` as ``event`` says, if the machine allows it.

    :param record: changed in place when accepted, untouched when refused.
    :param event: what happened.
    :param effects: collects seats and history notes.
    :param now: the database's clock, epoch seconds.
    :return: True when accepted. A refused event says that somebody else acted: the caller must not send.
    """
    accepted = _HANDLERS[type(event)](record, event, effects, now)
    if accepted:
        record.updated_at = now
    return accepted


def _intent(record: Record, event: Intent, effects: Effects, now: float) -> bool:
    if record.attempt != event.attempt or record.claim_owner != event.owner:
        return False
    if event.step is Step.CAPTURE:
        if record.capture_state not in (CaptureState.NEW, CaptureState.IN_DOUBT):
            return False
        record.capture_state = CaptureState.SENDING
    else:
        if record.capture_state != CaptureState.CAPTURED or record.slot_start is None:
            return False
        if event.resend:
            if record.booking_state != BookingState.IN_DOUBT or record.resends:
                return False
            record.resends += 1
        elif record.booking_state != BookingState.PLANNED or record.booking_doubted:
            return False
        record.booking_state = BookingState.SENDING
    record.attempt += 1
    record.deadline = now + event.timeout_seconds + DEADLINE_MARGIN_SECONDS
    record.run = event.run
    return True


def _settled(record: Record, event: Settled, effects: Effects, now: float) -> bool:
    if event.step is Step.CAPTURE:
        return _capture_settled(record, event, effects)
    return _booking_settled(record, event, effects)


def _capture_settled(record: Record, event: Settled, effects: Effects) -> bool:
    mine = record.attempt == event.attempt and record.capture_state in (CaptureState.SENDING, CaptureState.IN_DOUBT)
    if event.answer is Answer.SUCCESS:
        return _captured(record, event, effects, mine)
    if not mine:
        return False
    if event.answer is Answer.REJECTED:
        record.capture_state = CaptureState.REJECTED
        record.fingerprint = event.fingerprint
        _settle(record, event.reason)
        record.wish = None
    elif event.answer is Answer.UNKNOWN or record.capture_doubted:
        record.capture_doubted = True
        record.capture_state = CaptureState.IN_DOUBT
        _settle(record, event.reason)
    else:
        record.capture_state = CaptureState.NEW
        record.deadline = None
    return True


def _captured(record: Record, event: Settled, effects: Effects, mine: bool) -> bool:
    if record.customer_id is not None:
        # The first customer_id committed stays: bookings may hang on it already.
        if event.customer_id != record.customer_id:
            record.second_customer = event.customer_id
            effects.notes.append((record.id, event.attempt, "second_customer", None, None))
        if not mine:
            return True
    elif record.capture_state == CaptureState.REJECTED:
        return False
    else:
        record.customer_id = event.customer_id
        record.join_url = event.join_url
    record.capture_state = CaptureState.CAPTURED
    record.capture_doubted = False
    record.reply_incomplete = record.reply_incomplete or event.incomplete
    if not mine:
        # A late answer of an attempt that was sent again: the newer attempt, if in flight, becomes a second customer.
        record.attempt += 1
    _settle(record, None)
    record.run = event.run
    return True


def _booking_settled(record: Record, event: Settled, effects: Effects) -> bool:
    mine = record.attempt == event.attempt and record.booking_state in (BookingState.SENDING, BookingState.IN_DOUBT)
    if event.answer is Answer.SUCCESS:
        if not mine:
            return _late_success(record, event, effects)
        record.booking_state = BookingState.BOOKED
        record.booking_doubted = False
        record.reply_incomplete = record.reply_incomplete or event.incomplete
        record.time_mismatch = event.time_mismatch
        record.wish = None
        record.run = event.run
        _settle(record, None)
        return True
    if not mine or record.booking_state == BookingState.IN_DOUBT:
        # Only a success may end a doubt; a late refusal of an expired attempt proves nothing.
        return False
    if event.answer is Answer.UNKNOWN or record.booking_doubted:
        _doubt(record, event.reason, event.run, effects)
    elif event.answer is Answer.REJECTED:
        record.booking_state = BookingState.REJECTED
        record.fingerprint = event.fingerprint
        record.wish = None
        _settle(record, event.reason)
        _release_seat(record, effects)
    elif event.answer is Answer.TAKEN:
        record.booking_state = BookingState.WAITING
        record.deadline = None
        _release_seat(record, effects)
    else:
        record.booking_state = BookingState.PLANNED
        record.deadline = None
    return True


def _late_success(record: Record, event: Settled, effects: Effects) -> bool:
    effects.notes.append((record.id, event.attempt, "double_booking_alarm", None, event.slot_time))
    record.alarm = True
    if record.booking_state in (BookingState.SENDING, BookingState.BOOKED, BookingState.IN_DOUBT):
        return True
    if record.seat is not None:
        _release_seat(record, effects)
    record.slot_start, record.slot_time, record.slot_timezone = event.slot_start, event.slot_time, event.slot_timezone
    effects.take_seats.append(record.id)
    # A new attempt number keeps whoever still holds the old one from sending.
    record.attempt += 1
    _doubt(record, "late_success", event.run, effects)
    return True


def _planned(record: Record, event: Planned, effects: Effects, now: float) -> bool:
    if record.attempt != event.attempt or record.claim_owner != event.owner or record.booking_doubted:
        return False
    if record.capture_state != CaptureState.CAPTURED:
        return False
    if record.booking_state not in (BookingState.WAITING, BookingState.UNASSIGNED):
        return False
    record.booking_state = BookingState.PLANNED
    record.slot_start, record.slot_time, record.slot_timezone = event.slot_start, event.slot_time, event.slot_timezone
    record.seat = event.seat
    record.reason = None
    effects.take_seats.append(record.id)
    return True


def _released(record: Record, event: Released, effects: Effects, now: float) -> bool:
    if event.to not in (BookingState.WAITING, BookingState.UNASSIGNED) or record.claim_owner != event.owner:
        return False
    if record.booking_state == BookingState.PLANNED:
        _release_seat(record, effects)
    elif record.booking_state not in (BookingState.WAITING, BookingState.UNASSIGNED):
        return False
    if event.to == BookingState.UNASSIGNED and (record.booking_state, record.reason) != (event.to, event.reason):
        record.change += 1
    record.booking_state = event.to
    record.reason = event.reason
    record.run = event.run
    return True


def _expired(record: Record, event: Expired, effects: Effects, now: float) -> bool:
    if record.deadline is None or record.deadline > now:
        return False
    if record.booking_state == BookingState.SENDING:
        _doubt(record, "no_outcome_recorded", record.run, effects)
        return True
    if record.capture_state == CaptureState.SENDING:
        record.capture_state = CaptureState.IN_DOUBT
        record.capture_doubted = True
        _settle(record, "no_outcome_recorded")
        return True
    return False


def _resolved(record: Record, event: Resolved, effects: Effects, now: float) -> bool:
    if record.booking_state != BookingState.IN_DOUBT:
        return False
    kind = "resolved_booked" if event.booked else "resolved_not_booked"
    effects.notes.append((record.id, record.attempt, kind, event.who, event.why))
    record.booking_doubted = False
    record.alarm = False
    _settle(record, None)
    if event.booked:
        record.booking_state = BookingState.BOOKED
        record.wish = None
    else:
        record.booking_state = BookingState.WAITING
        record.claim_owner = None
        _release_seat(record, effects)
    return True


def _doubt(record: Record, reason: str | None, run: str | None, effects: Effects) -> None:
    record.booking_state = BookingState.IN_DOUBT
    if not record.booking_doubted:
        record.doubt_run = run
    record.booking_doubted = True
    _settle(record, reason)
    effects.notes.append((record.id, record.attempt, "in_doubt", None, reason))


def _settle(record: Record, reason: str | None) -> None:
    record.deadline = None
    record.reason = reason
    record.change += 1


def _release_seat(record: Record, effects: Effects) -> None:
    effects.release_seats.append(record.id)
    record.slot_start = record.slot_time = record.slot_timezone = record.seat = None


_HANDLERS = {
    Intent: _intent,
    Settled: _settled,
    Planned: _planned,
    Released: _released,
    Expired: _expired,
    Resolved: _resolved,
}
