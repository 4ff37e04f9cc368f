"""The rules of the state machine for what Popin's webhooks prove, and for alarms; part of ``states``.

A webhook says that a call of this customer at this instant exists. It is as good as a success of the POST for
the slot that it names, and it proves nothing else: a webhook that does not come proves nothing at all. It
ends no doubt of a lead under alarm, where two calls may exist: a person has to look.
"""

from __future__ import annotations

from airflow_provider_popin.sync.ledger.events import (
    AlarmCleared,
    Answer,
    BookingState,
    Effects,
    Evidence,
    Record,
    Settled,
)
from airflow_provider_popin.sync.ledger.transitions import UnplannedCall, alarm_about, doubt, settle

WHO = "webhook"
CONTRADICTION = "webhook_contradicts_refusal"


def evidence(record: Record, event: Evidence, effects: Effects, now: float) -> bool:
    """A call exists.

    :param record: changed in place
    :param event: which call
    :param effects: gets notes, and the seat of a call that the ledger did not expect
    :param now: the database's clock, epoch seconds
    :return: always True: evidence is never dropped
    """
    here = event.slot_start is not None and event.slot_start == record.slot_start
    if here and record.booking_state == BookingState.BOOKED:
        if record.confirmed_at is None:
            record.confirmed_at = now
            _note(record, "confirmed", event.why, effects)
    elif here and record.booking_state == BookingState.SENDING:
        # The answer may still come, and may tell more; see :func:`ends_attempt`.
        record.evidence_slot = event.slot_start
        _note(record, "evidence", event.why, effects)
    elif here and record.booking_state == BookingState.IN_DOUBT:
        if record.alarm:
            _note(record, "evidence", event.why, effects)
        else:
            _booked(record, event.why, effects, now)
    else:
        call = UnplannedCall(
            slot_start=event.slot_start,
            slot_time=event.slot_time,
            slot_timezone=event.slot_timezone,
            attempt=record.attempt,
            reason="webhook_names_a_call",
            run=record.run,
            who=WHO,
        )
        alarm_about(record, call, effects)
    return True


def ends_attempt(record: Record, answer: Answer, event: Settled | None, effects: Effects, now: float) -> bool:
    """What remembered evidence makes of an attempt that did not succeed, or was not heard of again.

    :param record: ``sending``; changed in place
    :param answer: none of success; unknown where the deadline passed
    :param event: the answer; None where the deadline passed
    :param effects: gets notes
    :param now: the database's clock, epoch seconds
    :return: False where there is no evidence: the ordinary rules apply
    """
    if record.evidence_slot is None or record.evidence_slot != record.slot_start:
        return False
    record.evidence_slot = None
    refused = answer is not Answer.UNKNOWN
    # Refused while sent again: the call is the one of the attempt before.
    if not record.alarm and (not refused or record.booking_doubted):
        _booked(record, f"the attempt ended: {answer.value}", effects, now)
        return True
    if refused:
        record.alarm = True
        _note(record, "double_booking_alarm", f"{CONTRADICTION}: {answer.value}", effects)
    reason = CONTRADICTION if refused else (event.reason if event is not None else "no_outcome_recorded")
    doubt(record, reason, event.run if event is not None else record.run, effects)
    return True


def alarm_cleared(record: Record, event: AlarmCleared, effects: Effects, now: float) -> bool:
    """A person has dealt with an alarm. Where there is a doubt too, ending that ends both.

    :param record: changed in place when accepted
    :param event: who and why
    :param effects: gets a note
    :param now: unused; the same for all rules
    """
    if not record.alarm or record.booking_state in (BookingState.SENDING, BookingState.IN_DOUBT):
        return False
    record.alarm = False
    effects.notes.append((record.id, record.attempt, "alarm_cleared", event.who, event.why))
    return True


def _booked(record: Record, why: str, effects: Effects, now: float) -> None:
    record.booking_state = BookingState.BOOKED
    record.booking_doubted = False
    record.confirmed_at = now
    record.wish = record.fingerprint = None
    settle(record, None)
    _note(record, "resolved_booked", why, effects)


def _note(record: Record, kind: str, why: str, effects: Effects) -> None:
    effects.notes.append((record.id, record.attempt, kind, WHO, why))
