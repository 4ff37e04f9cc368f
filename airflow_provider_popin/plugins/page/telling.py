"""The ledger's codes as sentences: a lead's history, and what a list says about a doubt or an alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_popin.plugins.page.formats import NOTHING, clock_time, words
from airflow_provider_popin.webhooks.views import EventView, LeadView, Note

# What is noted with a lead, see ``sync.ledger.states``; other codes are told as they are.
_NOTES = {
    "in_doubt": "The booking is in doubt",
    "resolved_booked": "Resolved: booked",
    "resolved_not_booked": "Resolved: not booked",
    "double_booking_alarm": "Alarm: there may be a second call",
    "second_customer": "Popin made a second customer for this lead",
    "alarm_cleared": "The alarm was cleared",
    "confirmed": "A webhook confirmed the booking",
    "evidence": "A webhook told of this very call",
}
_REASONS = {
    "no_outcome_recorded": "whoever sent it ended before an answer was noted",
    "late_success": "an attempt that was given up succeeded after all",
    "webhook_names_a_call": "a webhook names a call that the ledger did not book",
    "webhook_contradicts_refusal": "Popin refused the booking, and a webhook told of it",
    "no_booking": "no booking fits",
    "several_bookings": "several bookings fit",
    "several_leads": "several leads have this customer",
    "booking_in_doubt": "the booking that fits is in doubt",
    "time_unreadable": "its time cannot be read",
    "time_ambiguous": "its time is ambiguous: clocks changed",
    "unknown_customer": "no lead has this customer",
    "no_customer": "it names no customer",
    "unprocessable": "it cannot be processed: the log of who processes events says why",
}
_ALARM = "double_booking_alarm"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a lead's history.

    :param at: epoch seconds.
    :param payload: of an event.
    """

    at: float
    what: str
    who: str
    why: str
    payload: Mapping[str, object] | None = None


def story(lead: LeadView) -> list[Line]:
    """What was noted about a lead and what Popin told about its customer, oldest first.

    :param lead: with notes and events.
    """
    lines = [_note(note) for note in lead.notes] + [_event(event) for event in lead.events]
    return sorted(lines, key=lambda line: line.at)


def doubted_at(lead: LeadView) -> float:
    """When a booking came to be in doubt.

    :param lead: in doubt.
    """
    return next((note.at for note in reversed(lead.notes) if note.kind == "in_doubt"), lead.updated_at)


def alarm_note(lead: LeadView) -> str:
    """What raised the alarm, in a few words; empty if nothing says it.

    :param lead: with an alarm.
    """
    raised = [note for note in lead.notes if note.kind == _ALARM]
    return _alarm(raised[-1]) if raised else ""


def reason(text: str | None) -> str:
    """Write why something is as it is; a code that is not known here is told as it is.

    :param text: of the ledger: a code, perhaps with Popin's own redacted words after a colon.
    """
    code, colon, rest = (text or "").partition(":")
    told = _REASONS.get(code) or words(code).replace("http ", "HTTP ")
    return f"{told}{colon}{rest}"


def local(text: str | None) -> str:
    """Write a time without offset: ``Thu 25 Sep 2025, 15:15``.

    :param text: ISO 8601, or None.
    """
    return NOTHING if text is None else clock_time(datetime.fromisoformat(text))


def zone(text: str | None) -> str:
    """Write the offset of a time: ``UTC+05:30``; nothing without one.

    :param text: ISO 8601, or None.
    """
    offset = None if text is None else datetime.fromisoformat(text).strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:5]}" if offset else ""


def _note(note: Note) -> Line:
    why = _alarm(note) if note.kind == _ALARM else reason(note.why) if note.why else ""
    return Line(note.at, _NOTES.get(note.kind, words(note.kind)), note.who or "", why)


def _alarm(note: Note) -> str:
    """Its ``why`` is a code, or the time of the call that the ledger did not expect, in Popin's words."""
    if note.why is None or not note.why[:4].endswith(","):
        return reason(note.why) if note.why else "a call that the ledger did not make"
    told = "a webhook tells of" if note.who == "webhook" else "an attempt that was given up made"
    return f"{told} a call at {note.why}"


def _event(event: EventView) -> Line:
    at = event.occurred_at if event.occurred_at is not None else event.received_at
    named = f", for {local(event.slot_local)}" if event.slot_local else ""
    return Line(at, f"Popin told: {words(event.kind)}{named}", "webhook", reason(event.reason), event.payload)
