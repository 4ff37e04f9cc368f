"""Small steps that several rules of the state machine share; ``states`` says when they are taken."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_popin.sync.ledger.events import BookingState, Effects, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class UnplannedCall:
    """A call that exists at Popin though the ledger does not hold the lead for it.

    :param slot_start: epoch seconds; None where its instant cannot be told. So ``slot_time``, Popin's string,
        and ``slot_timezone``.
    :param attempt: the attempt that made it, for the history.
    :param reason: why the lead is held.
    :param who: who says so, None for Popin's answer.
    """

    slot_start: int | None
    slot_time: str | None
    slot_timezone: str | None
    attempt: int
    reason: str
    run: str | None
    who: str | None = None


def settle(record: Record, reason: str | None) -> None:
    """End what is under way: a change that the CRM is told.

    :param record: changed in place, here as in every function of this module
    :param reason: why it ended so; None for none
    """
    record.deadline = None
    record.reason = reason
    record.change += 1


def doubt(
    record: Record, reason: str | None, run: str | None, effects: Effects, *, anew: bool = False
) -> None:
    """Nobody knows whether the call exists.

    :param reason: why not
    :param run: the Dag run that made the doubt, if it is a new one
    :param anew: another answer was lost, so that the doubt is this run's, though it was in doubt before
    :param effects: gets a note
    """
    record.booking_state = BookingState.IN_DOUBT
    if anew or not record.booking_doubted:
        record.doubt_run = run
    record.booking_doubted = True
    record.evidence_slot = None
    settle(record, reason)
    effects.notes.append((record.id, record.attempt, "in_doubt", None, reason))


def release_seat(record: Record, effects: Effects) -> None:
    """Give slot and seat back.

    :param effects: gets the seat
    """
    effects.release_seats.append(record.id)
    record.slot_start = record.slot_time = record.slot_timezone = record.seat = None


def alarm_about(record: Record, call: UnplannedCall, effects: Effects) -> None:
    """A call exists that the ledger had given up: never dropped, the lead is held, in flight or not.

    :param call: which
    :param effects: gets a note, and the seat of the call
    """
    effects.notes.append((record.id, call.attempt, "double_booking_alarm", call.who, call.slot_time))
    record.alarm = True
    if record.booking_state == BookingState.SENDING:
        # A call exists already: what the attempt in flight is told, "taken" above all, may be about that.
        if not record.booking_doubted:
            record.doubt_run = call.run
        record.booking_doubted = True
    if record.booking_state in (BookingState.SENDING, BookingState.BOOKED, BookingState.IN_DOUBT):
        return
    if record.seat is not None:
        release_seat(record, effects)
    record.slot_start, record.slot_time, record.slot_timezone = (
        call.slot_start,
        call.slot_time,
        call.slot_timezone,
    )
    if record.slot_start is not None:
        effects.take_seats.append(record.id)
    # A new attempt number keeps whoever still holds the old one from sending.
    record.attempt += 1
    doubt(record, call.reason, call.run, effects)
