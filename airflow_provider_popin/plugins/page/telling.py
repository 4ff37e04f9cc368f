"""The ledger's codes as sentences: a lead's history, and what a list says about a doubt or an alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_popin.plugins.page.rendering import NOTHING, clock_time, words
from airflow_provider_popin.webhooks.queries import EventView, LeadView, Note

# What is noted with a lead, see ``sync.states``; other codes are told as they are.
_NOTES = {
    "in_doubt": "The booking is in doubt",
    "resolved_booked": "Resolved: booked",
    "resolved_not_booked": "Resolved: not booked",
    "double_booking_alarm": "Alarm: there may be a second call",
    "second_customer": "Popin made a second customer for this lead",
    "alarm_cleared": "The alarm was cleared",
}
_ALARMS = frozenset({"double_booking_alarm"})


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
    raised = [note for note in lead.notes if note.kind in _ALARMS]
    return words(raised[-1].why) if raised and raised[-1].why else ""


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
    return Line(
        note.at, _NOTES.get(note.kind, words(note.kind)), note.who or "", words(note.why) if note.why else ""
    )


def _event(event: EventView) -> Line:
    at = event.occurred_at if event.occurred_at is not None else event.received_at
    named = f", for {local(event.slot_local)}" if event.slot_local else ""
    return Line(at, f"Popin told: {words(event.kind)}{named}", "webhook", words(event.reason), event.payload)
