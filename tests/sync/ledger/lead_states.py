"""What the tests of the state machine share: a record in any state, and one event of each kind."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from airflow_provider_popin.sync.ledger import states
from airflow_provider_popin.sync.ledger.events import (
    Adopted,
    AlarmCleared,
    Answer,
    BookingState,
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

NOW = 1_800_000_000.0
ATTEMPT = 3
SLOT = 1_800_100_800
TIME, ZONE = "Thu, 25 Sep 2025 03:15 PM", "Asia/Kolkata"

SEATED = ("planned", "sending", "in_doubt", "booked")


def events(attempt: int = ATTEMPT, owner: str = "me") -> dict[str, Event]:
    """One event of each kind and variant."""
    outcomes = {
        f"{step.value}_{answer.value}": Settled(
            7,
            step,
            attempt,
            answer,
            "run",
            reason="because",
            customer_id="C1",
            join_url="https://live.example.com/1",
            slot_start=SLOT,
            slot_time=TIME,
            slot_timezone=ZONE,
        )
        for step, answer in product(Step, Answer)
    }
    return {
        "intent_capture": Intent(7, Step.CAPTURE, attempt, owner, "run", 30.0),
        "intent_booking": Intent(7, Step.BOOKING, attempt, owner, "run", 30.0),
        "intent_resend": Intent(7, Step.BOOKING, attempt, owner, "run", 30.0, resend=True),
        **outcomes,
        "planned": Planned(7, attempt, owner, SLOT, TIME, ZONE, 1),
        "released_waiting": Released(7, owner, BookingState.WAITING, "run"),
        "released_unassigned": Released(7, owner, BookingState.UNASSIGNED, "run", "slots_full"),
        "expired": Expired(7),
        "resolved_booked": Resolved(7, True, "ann", "seen"),
        "resolved_not_booked": Resolved(7, False, "ann", "not seen"),
        "claimed": Claimed(7, attempt, owner, frozenset({"me"}), "{}", "print"),
        "refused": Refused(7, "phone_letters", "print", "run"),
        "corrected": Corrected(7),
        "adopted": Adopted(7, "C1", "run"),
        "evidence": Evidence(7, SLOT, TIME, ZONE, "webhook event 1"),
        "evidence_elsewhere": Evidence(7, SLOT + 900, "later", ZONE, "webhook event 2"),
        "evidence_sometime": Evidence(7, None, None, None, "webhook event 3"),
        "alarm_cleared": AlarmCleared(7, "ann", "called them"),
    }


def settled(kind: str, attempt: int = ATTEMPT, **changes: Any) -> Settled:
    event = events(attempt)[kind]
    assert isinstance(event, Settled)
    return replace(event, **changes)


def record_in(state: str, **changes: Any) -> Record:
    """A record as it is in a state, its attempt under way past its deadline."""
    capture, _, booking = state.partition("/")
    record = Record(7, "L1", 1, capture, booking, ATTEMPT, claim_owner="me", doubt_run="earlier run")
    if capture == "captured":
        record.customer_id, record.join_url = "C1", "https://live.example.com/1"
    if booking in SEATED:
        record.slot_start, record.slot_time, record.slot_timezone, record.seat = SLOT, TIME, ZONE, 1
    record.capture_doubted = capture == "in_doubt"
    record.booking_doubted = booking == "in_doubt"
    if "sending" in state:
        record.deadline = NOW
    return replace(record, **changes)


def apply(record: Record, event: Event) -> tuple[bool, Effects]:
    effects = Effects()
    return states.apply(record, event, effects, NOW), effects


def state_of(record: Record) -> str:
    return f"{record.capture_state}/{record.booking_state}"
