"""The state machine, against a table of what the design allows; everything else must be refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from airflow_provider_popin.sync.ledger.events import (
    BookingState,
    CaptureState,
    Effects,
    Expired,
)
from tests.sync.ledger.lead_states import ATTEMPT, NOW, SEATED, SLOT, apply, events, record_in, state_of

# What the design allows, for an owner that holds the claim and the attempt that the record stands at.
# "capture/booking": {event: "capture/booking"}.
ALLOWED: dict[str, dict[str, str]] = {
    "new/waiting": {
        "intent_capture": "sending/waiting",
        "claimed": "new/waiting",
        "refused": "rejected/waiting",
        "adopted": "captured/waiting",
        "capture_success": "captured/waiting",  # a late one: the first customer_id committed stays
    },
    "sending/waiting": {
        "capture_success": "captured/waiting",
        "capture_rejected": "rejected/waiting",
        "capture_not_sent": "new/waiting",
        "capture_taken": "new/waiting",  # no capture is ever told so
        "capture_unknown": "in_doubt/waiting",
        "expired": "in_doubt/waiting",
    },
    "in_doubt/waiting": {
        "intent_capture": "sending/waiting",  # every run sends it again
        "capture_success": "captured/waiting",
        "capture_rejected": "rejected/waiting",
        "capture_not_sent": "in_doubt/waiting",
        "capture_taken": "in_doubt/waiting",
        "capture_unknown": "in_doubt/waiting",
        "claimed": "in_doubt/waiting",
        "refused": "rejected/waiting",
        "adopted": "captured/waiting",
    },
    "rejected/waiting": {
        "corrected": "new/waiting",
        "refused": "rejected/waiting",
    },
    "captured/waiting": {
        "planned": "captured/planned",
        "released_unassigned": "captured/unassigned",
        "claimed": "captured/waiting",
        "refused": "captured/rejected",
        "capture_success": "captured/waiting",
    },
    "captured/unassigned": {
        "planned": "captured/planned",
        "released_waiting": "captured/waiting",
        "released_unassigned": "captured/unassigned",  # for another reason
        "claimed": "captured/unassigned",
        "refused": "captured/rejected",
        "capture_success": "captured/unassigned",
    },
    "captured/planned": {
        "intent_booking": "captured/sending",
        "released_waiting": "captured/waiting",
        "released_unassigned": "captured/unassigned",
        "claimed": "captured/waiting",  # its planner is gone, and perhaps its slot
        "capture_success": "captured/planned",
    },
    "captured/sending": {
        "booking_success": "captured/booked",
        "booking_rejected": "captured/rejected",
        "booking_taken": "captured/waiting",
        "booking_not_sent": "captured/planned",
        "booking_unknown": "captured/in_doubt",
        "expired": "captured/in_doubt",
        "capture_success": "captured/sending",
        "evidence": "captured/sending",  # remembered
        "evidence_elsewhere": "captured/sending",  # with an alarm
        "evidence_sometime": "captured/sending",  # with an alarm
    },
    "captured/in_doubt": {
        "booking_success": "captured/booked",
        "resolved_booked": "captured/booked",
        "resolved_not_booked": "captured/waiting",
        "intent_resend": "captured/sending",
        "claimed": "captured/in_doubt",
        "capture_success": "captured/in_doubt",
        "evidence": "captured/booked",
        "evidence_elsewhere": "captured/in_doubt",  # with an alarm
        "evidence_sometime": "captured/in_doubt",  # with an alarm
    },
    "captured/rejected": {
        "corrected": "captured/waiting",
        "refused": "captured/rejected",
        "capture_success": "captured/rejected",
    },
    "captured/booked": {
        "booking_success": "captured/booked",  # told again
        "capture_success": "captured/booked",
        "evidence": "captured/booked",  # confirmed
        "evidence_elsewhere": "captured/booked",  # with an alarm
        "evidence_sometime": "captured/booked",  # with an alarm
    },
}
# A booking that succeeds after its attempt was given up, or that a webhook tells of, is never dropped: it
# holds the lead, with an alarm.
GIVEN_UP = [name for name in ALLOWED if name.endswith(("/waiting", "/unassigned", "/planned", "/rejected"))]
for name in GIVEN_UP:
    for kind in ("booking_success", "evidence", "evidence_elsewhere", "evidence_sometime"):
        ALLOWED[name][kind] = name.partition("/")[0] + "/in_doubt"


class TestTable:
    @pytest.mark.parametrize("kind", list(events()))
    @pytest.mark.parametrize("state", list(ALLOWED))
    def test_every_event_in_every_state(self, state: str, kind: str) -> None:
        record = record_in(state)
        before = replace(record)
        accepted, effects = apply(record, events()[kind])
        expected = ALLOWED[state].get(kind)
        if expected is None:
            assert not accepted
            assert record == before
            assert effects == Effects()
        else:
            assert accepted
            assert state_of(record) == expected
            assert record.updated_at == NOW

    def test_the_table_knows_every_state_that_a_lead_can_be_in(self) -> None:
        # Nobody is booked, planned or rejected by the second POST before the first one succeeded.
        reachable = {f"{capture}/waiting" for capture in CaptureState} | {
            f"captured/{booking}" for booking in BookingState
        }
        assert set(ALLOWED) == reachable

    @pytest.mark.parametrize("kind", ["intent_booking", "intent_resend", "planned", "released_unassigned"])
    @pytest.mark.parametrize(
        ("capture", "booking"),
        [*product([state for state in CaptureState if state != CaptureState.CAPTURED], BookingState)],
    )
    def test_a_lead_that_is_not_captured_is_never_planned_or_sent(
        self, capture: CaptureState, booking: BookingState, kind: str
    ) -> None:
        record = record_in(f"{capture}/{booking}", slot_start=SLOT)
        accepted, _ = apply(record, events()[kind])
        assert not accepted

    @pytest.mark.parametrize("kind", list(events()))
    @pytest.mark.parametrize("state", list(ALLOWED))
    def test_a_seat_is_held_from_plan_to_booking_and_no_longer(self, state: str, kind: str) -> None:
        if kind == "evidence_sometime":
            return  # of such a call no slot is known, see test_states_evidence
        record = record_in(state)
        accepted, effects = apply(record, events()[kind])
        held = state.endswith(SEATED)
        holds = record.booking_state in SEATED
        assert (record.slot_start is not None) == holds
        if accepted and held and not holds:
            assert effects.release_seats == [7]
            assert effects.take_seats == []
        elif accepted and holds and not held:
            assert effects.take_seats == [7]
        else:
            # A late success on a planned seat gives that back and takes the one it is about.
            assert (effects.release_seats, effects.take_seats) in (([], []), ([7], [7]))


class TestAttempts:
    @pytest.mark.parametrize("kind", list(events()))
    @pytest.mark.parametrize("state", list(ALLOWED))
    @pytest.mark.parametrize("attempt", [ATTEMPT - 1, ATTEMPT + 1])
    def test_only_a_success_counts_for_another_attempt(self, state: str, kind: str, attempt: int) -> None:
        if not hasattr(events()[kind], "attempt"):
            return
        record = record_in(state)
        before = replace(record)
        accepted, effects = apply(record, events(attempt)[kind])
        if not kind.endswith("_success"):
            assert not accepted
            assert record == before
            assert effects == Effects()
        elif kind == "booking_success":
            assert accepted
            assert record.alarm
            assert record.booking_state in ("in_doubt", "sending", "booked")

    @pytest.mark.parametrize("kind", ["intent_capture", "intent_booking", "intent_resend"])
    def test_every_intent_is_a_new_attempt_with_a_deadline(self, kind: str) -> None:
        state = {"intent_capture": "new/waiting", "intent_booking": "captured/planned"}.get(
            kind, "captured/in_doubt"
        )
        record = record_in(state)
        assert apply(record, events()[kind])[0]
        assert record.attempt == ATTEMPT + 1
        assert record.deadline == NOW + 30.0 + 10.0
        assert record.run == "run"

    @pytest.mark.parametrize("kind", ["intent_capture", "planned", "released_unassigned"])
    def test_only_the_owner_of_the_claim_acts(self, kind: str) -> None:
        state = "new/waiting" if kind == "intent_capture" else "captured/waiting"
        assert not apply(record_in(state), events(owner="other")[kind])[0]
        assert not apply(record_in(state, claim_owner=None), events()[kind])[0]
        assert apply(record_in(state), events()[kind])[0]

    def test_sending_expires_only_when_its_deadline_has_passed(self) -> None:
        for state in ("sending/waiting", "captured/sending"):
            assert not apply(record_in(state, deadline=NOW + 0.001), Expired(7))[0]
            record = record_in(state)
            assert apply(record, Expired(7))[0]
            assert record.reason == "no_outcome_recorded"
            assert record.deadline is None

    def test_an_expired_booking_counts_as_a_doubt_of_the_run_that_sent_it(self) -> None:
        record = record_in("captured/sending", run="the run that died", doubt_run=None)
        apply(record, Expired(7))
        assert record.doubt_run == "the run that died"
        assert record.booking_doubted
