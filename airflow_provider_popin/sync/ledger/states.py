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
                                              ^        ├──────> waiting   (a person: not booked)
              any state without a call ───────┘        └──────> sending   (on_in_doubt="resend", once)
                (late success or webhook: with an alarm)

The rules that keep the promise:

* ``sending`` is committed before the POST (:class:`Intent`), and every intent makes a new attempt number.
  Whatever comes back (:class:`Settled`) counts only for its own attempt; told twice, it counts once.
* What may have reached Popin is ``in_doubt``. From then on (``booking_doubted``) only a documented success,
  the webhook or a person ends the doubt: "slot taken" may be our own booking. The seat is kept.
* ``sending`` past its deadline, seen by anyone, is ``in_doubt`` (:class:`Expired`): the sender died.
* A success for an attempt that was given up is never dropped: it raises an alarm and holds the lead, in
  flight or not. So does a webhook (:class:`Evidence`) about a call that the lead is not held for.
* A webhook about the slot that is being sent waits for the answer. Whatever that is, the call exists: the
  lead becomes ``booked`` where a lost answer would have left a doubt, and where Popin refuses, which
  contradicts it, ``in_doubt`` with an alarm. The rules of evidence and alarms stand in ``evidence``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from airflow_provider_popin.sync.ledger.events import (
    Adopted,
    AlarmCleared,
    Answer,
    BookingState,
    CaptureState,
    Claimed,
    Corrected,
    Effects,
    Event,
    Evidence,
    Expired,
    Intent,
    Planned,
    Record,
    Refused,
    Released,
    Resolved,
    Settled,
    Step,
)
from airflow_provider_popin.sync.ledger.evidence import alarm_cleared, ends_attempt, evidence
from airflow_provider_popin.sync.ledger.transitions import (
    UnplannedCall,
    alarm_about,
    doubt,
    release_seat,
    settle,
)

# An exchange may take its whole timeout; after that much more nobody can still be waiting for its answer.
DEADLINE_MARGIN_SECONDS = 10.0


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
        # Larger with every change, even within one tick of the clock: it tells one version from the next.
        record.updated_at = max(now, math.nextafter(record.updated_at, math.inf))
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
            if not _may_resend(record, event):
                return False
            record.resends += 1
        elif record.booking_state != BookingState.PLANNED or record.booking_doubted:
            return False
        record.booking_state = BookingState.SENDING
    record.attempt += 1
    record.deadline = now + event.timeout_seconds + DEADLINE_MARGIN_SECONDS
    record.run = event.run
    return True


def _may_resend(record: Record, event: Intent) -> bool:
    """Once per lead and generation, not in the run that made the doubt, not where two calls may exist."""
    return (
        record.booking_state == BookingState.IN_DOUBT
        and not record.resends
        and not record.alarm
        and record.doubt_run != event.run
    )


def _settled(record: Record, event: Settled, effects: Effects, now: float) -> bool:
    if event.step is Step.CAPTURE:
        return _capture_settled(record, event, effects)
    return _booking_settled(record, event, effects, now)


def _capture_settled(record: Record, event: Settled, effects: Effects) -> bool:
    mine = record.attempt == event.attempt and record.capture_state in (
        CaptureState.SENDING,
        CaptureState.IN_DOUBT,
    )
    if event.answer is Answer.SUCCESS:
        return _captured(record, event, effects, mine)
    if not mine:
        return False
    if event.answer is Answer.REJECTED:
        record.capture_state = CaptureState.REJECTED
        record.wish = None
        settle(record, event.reason)
    elif event.answer is Answer.UNKNOWN or record.capture_doubted:
        record.capture_doubted = True
        record.capture_state = CaptureState.IN_DOUBT
        settle(record, event.reason)
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
    elif record.capture_state in (CaptureState.REJECTED, CaptureState.CAPTURED):
        return False  # captured without a customer_id: a person had it forgotten
    else:
        record.customer_id = event.customer_id
        record.join_url = event.join_url
    record.capture_state = CaptureState.CAPTURED
    record.capture_doubted = False
    record.reply_incomplete = record.reply_incomplete or event.incomplete
    if not mine:
        # Late answer of an attempt that was sent again: the newer one, if in flight, makes a second customer.
        record.attempt += 1
    settle(record, None)
    record.run = event.run
    return True


def _booking_settled(record: Record, event: Settled, effects: Effects, now: float) -> bool:
    mine = record.attempt == event.attempt and record.booking_state in (
        BookingState.SENDING,
        BookingState.IN_DOUBT,
    )
    if event.answer is Answer.SUCCESS:
        if record.attempt == event.attempt and record.booking_state == BookingState.BOOKED:
            return True  # told again after a lost commit, or a person said so first
        if not mine:
            return _late_success(record, event, effects)
        if record.evidence_slot is not None:
            record.confirmed_at, record.evidence_slot = now, None
        record.booking_state = BookingState.BOOKED
        record.booking_doubted = False
        record.reply_incomplete = record.reply_incomplete or event.incomplete
        record.time_mismatch = event.time_mismatch
        record.wish = record.fingerprint = None
        record.run = event.run
        settle(record, None)
        return True
    if not mine or record.booking_state == BookingState.IN_DOUBT:
        # Only a success may end a doubt; a late refusal of an expired attempt proves nothing.
        return False
    if ends_attempt(record, event.answer, event, effects, now):
        return True
    if event.answer is Answer.UNKNOWN or record.booking_doubted:
        _booking_in_doubt(record, event, effects)
    elif event.answer is Answer.REJECTED:
        record.booking_state = BookingState.REJECTED
        record.wish = None
        settle(record, event.reason)
        release_seat(record, effects)
    elif event.answer is Answer.TAKEN:
        record.booking_state = BookingState.WAITING
        record.deadline = None
        release_seat(record, effects)
    else:
        record.booking_state = BookingState.PLANNED
        record.deadline = None
    return True


def _booking_in_doubt(record: Record, event: Settled, effects: Effects) -> None:
    if event.answer is Answer.NOT_SENT:
        # A resend that never left is not the one that is allowed.
        record.resends = max(0, record.resends - 1)
    doubt(record, event.reason, event.run, effects, anew=event.answer is Answer.UNKNOWN)


def _late_success(record: Record, event: Settled, effects: Effects) -> bool:
    call = UnplannedCall(
        slot_start=event.slot_start,
        slot_time=event.slot_time,
        slot_timezone=event.slot_timezone,
        attempt=event.attempt,
        reason="late_success",
        run=event.run,
    )
    alarm_about(record, call, effects)
    return True


def _planned(record: Record, event: Planned, effects: Effects, now: float) -> bool:
    if record.attempt != event.attempt or record.claim_owner != event.owner or record.booking_doubted:
        return False
    if record.capture_state != CaptureState.CAPTURED:
        return False
    if record.booking_state not in (BookingState.WAITING, BookingState.UNASSIGNED):
        return False
    record.booking_state = BookingState.PLANNED
    record.slot_start, record.slot_time, record.slot_timezone = (
        event.slot_start,
        event.slot_time,
        event.slot_timezone,
    )
    record.seat = event.seat
    record.reason = None
    effects.take_seats.append(record.id)
    return True


def _released(record: Record, event: Released, effects: Effects, now: float) -> bool:
    if event.to not in (BookingState.WAITING, BookingState.UNASSIGNED) or record.claim_owner != event.owner:
        return False
    if record.capture_state != CaptureState.CAPTURED:
        return False
    if record.booking_state == BookingState.PLANNED:
        release_seat(record, effects)
    elif record.booking_state not in (BookingState.WAITING, BookingState.UNASSIGNED):
        return False
    if (record.booking_state, record.reason) == (event.to, event.reason):
        return False  # nothing new: a run with 100,000 unassigned leads should not rewrite them all
    if event.to == BookingState.UNASSIGNED:
        record.change += 1
    record.booking_state = event.to
    record.reason = event.reason
    record.run = event.run
    return True


def _expired(record: Record, event: Expired, effects: Effects, now: float) -> bool:
    if record.deadline is None or record.deadline > now:
        return False
    if record.booking_state == BookingState.SENDING:
        if not ends_attempt(record, Answer.UNKNOWN, None, effects, now):
            doubt(record, "no_outcome_recorded", record.run, effects, anew=True)
        return True
    if record.capture_state == CaptureState.SENDING:
        record.capture_state = CaptureState.IN_DOUBT
        record.capture_doubted = True
        settle(record, "no_outcome_recorded")
        return True
    return False


def _resolved(record: Record, event: Resolved, effects: Effects, now: float) -> bool:
    if record.booking_state != BookingState.IN_DOUBT:
        return False
    kind = "resolved_booked" if event.booked else "resolved_not_booked"
    effects.notes.append((record.id, record.attempt, kind, event.who, event.why))
    record.booking_doubted = False
    record.alarm = False
    settle(record, None)
    if event.booked:
        record.booking_state = BookingState.BOOKED
        record.wish = record.fingerprint = None
    else:
        record.booking_state = BookingState.WAITING
        record.claim_owner = None
        release_seat(record, effects)
    return True


def _claimed(record: Record, event: Claimed, effects: Effects, now: float) -> bool:
    held = record.claim_owner not in (None, event.owner) and record.claim_owner in event.live_owners
    if held or record.attempt != event.attempt:
        return False
    closed = {BookingState.SENDING, BookingState.BOOKED, BookingState.REJECTED}
    if record.booking_state in closed or record.capture_state in closed:
        return False
    if record.booking_state == BookingState.PLANNED:
        # Planned by a run that is gone: its slot may be gone too.
        record.booking_state = BookingState.WAITING
        release_seat(record, effects)
    record.claim_owner = event.owner
    record.wish = event.wish
    record.fingerprint = event.fingerprint
    return True


def _refused(record: Record, event: Refused, effects: Effects, now: float) -> bool:
    if record.capture_state == CaptureState.CAPTURED:
        if record.booking_state not in (BookingState.WAITING, BookingState.UNASSIGNED, BookingState.REJECTED):
            return False
        record.booking_state = BookingState.REJECTED
    elif record.capture_state == CaptureState.SENDING:
        return False
    else:
        record.capture_state = CaptureState.REJECTED
    record.fingerprint = event.fingerprint
    record.wish = None
    record.run = event.run
    settle(record, event.reason)
    return True


def _corrected(record: Record, event: Corrected, effects: Effects, now: float) -> bool:
    if record.booking_state == BookingState.REJECTED:
        record.booking_state = BookingState.WAITING
    elif record.capture_state == CaptureState.REJECTED:
        record.capture_state = CaptureState.IN_DOUBT if record.capture_doubted else CaptureState.NEW
    else:
        return False
    record.reason = None
    return True


def _adopted(record: Record, event: Adopted, effects: Effects, now: float) -> bool:
    if record.capture_state not in (CaptureState.NEW, CaptureState.IN_DOUBT):
        return False
    record.capture_state = CaptureState.CAPTURED
    record.customer_id = event.customer_id
    record.run = event.run
    settle(record, None)
    return True


_HANDLERS: dict[type, Callable[[Record, Any, Effects, float], bool]] = {
    Intent: _intent,
    Settled: _settled,
    Planned: _planned,
    Released: _released,
    Expired: _expired,
    Resolved: _resolved,
    Claimed: _claimed,
    Refused: _refused,
    Corrected: _corrected,
    Adopted: _adopted,
    Evidence: evidence,
    AlarmCleared: alarm_cleared,
}
