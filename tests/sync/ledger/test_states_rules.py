"""The rules of the state machine that keep the promise, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_popin.sync.ledger.events import (
    BookingState,
    Claimed,
    Corrected,
    Effects,
    Released,
    Resolved,
)
from tests.sync.ledger.lead_states import ATTEMPT, SLOT, apply, events, record_in, settled, state_of

GIVEN_UP = ["new/waiting", "captured/waiting", "captured/unassigned", "captured/planned", "captured/rejected"]


class TestLateSuccess:
    @pytest.mark.parametrize("state", GIVEN_UP)
    def test_it_takes_a_seat_of_its_own_slot_and_holds_the_lead(self, state: str) -> None:
        record = record_in(state)
        late = settled("booking_success", ATTEMPT - 1, slot_start=SLOT + 900, slot_time="later")
        accepted, effects = apply(record, late)
        assert accepted
        assert record.alarm
        assert record.booking_doubted
        assert (record.slot_start, record.slot_time, record.seat) == (SLOT + 900, "later", None)
        assert effects.take_seats == [7]
        assert record.attempt == ATTEMPT + 1  # whoever planned it must not send
        assert ("double_booking_alarm", ATTEMPT - 1) in [(kind, at) for _, at, kind, _, _ in effects.notes]

    @pytest.mark.parametrize("answer", ["rejected", "taken", "not_sent", "unknown"])
    def test_while_another_attempt_is_in_flight_only_success_ends_it(self, answer: str) -> None:
        record = record_in("captured/sending", doubt_run=None)
        assert apply(record, events(ATTEMPT - 1)["booking_success"])[0]
        assert state_of(record) == "captured/sending"
        assert apply(record, events()[f"booking_{answer}"])[0]
        # "Taken" may be about the call that exists: planning again would book the lead twice.
        assert state_of(record) == "captured/in_doubt"
        assert record.slot_start == SLOT
        assert record.alarm
        assert record.doubt_run == "run"

    def test_while_another_attempt_is_in_flight_success_books_and_the_alarm_stays(self) -> None:
        record = record_in("captured/sending")
        apply(record, events(ATTEMPT - 1)["booking_success"])
        assert apply(record, events()["booking_success"])[0]
        assert state_of(record) == "captured/booked"
        assert record.alarm

    def test_while_a_doubt_is_sent_again_it_stays_the_doubt_of_its_run(self) -> None:
        record = record_in("captured/in_doubt")
        apply(record, events()["intent_resend"])
        assert apply(record, events()["booking_success"])[0]
        assert state_of(record) == "captured/sending"
        assert (record.alarm, record.doubt_run) == (True, "earlier run")

    def test_a_booked_lead_stays_booked_and_raises_the_alarm(self) -> None:
        record = record_in("captured/booked")
        accepted, effects = apply(record, events(ATTEMPT - 1)["booking_success"])
        assert accepted
        assert state_of(record) == "captured/booked"
        assert record.alarm
        assert effects.take_seats == []

    def test_the_same_success_told_twice_is_no_alarm(self) -> None:
        record = record_in("captured/sending")
        apply(record, events()["booking_success"])
        change = record.change
        accepted, effects = apply(record, events()["booking_success"])
        assert accepted
        assert not record.alarm
        assert record.change == change
        assert effects == Effects()

    def test_a_person_ends_the_alarm_with_the_doubt(self) -> None:
        record = record_in("captured/waiting")
        apply(record, events(ATTEMPT - 1)["booking_success"])
        assert apply(record, events()["resolved_booked"])[0]
        assert not record.alarm
        assert not record.booking_doubted


class TestDoubt:
    @pytest.mark.parametrize("answer", ["rejected", "taken", "not_sent", "unknown"])
    def test_every_other_answer_to_a_resend_returns_to_doubt_with_slot_and_seat(self, answer: str) -> None:
        record = record_in("captured/in_doubt")
        assert apply(record, events()["intent_resend"])[0]
        accepted, effects = apply(record, events(ATTEMPT + 1)[f"booking_{answer}"])
        assert accepted
        assert state_of(record) == "captured/in_doubt"
        assert (record.slot_start, record.seat) == (SLOT, 1)
        assert effects.release_seats == []
        assert record.doubt_run == ("run" if answer == "unknown" else "earlier run")

    def test_a_resend_that_succeeds_books(self) -> None:
        record = record_in("captured/in_doubt")
        apply(record, events()["intent_resend"])
        assert apply(record, events(ATTEMPT + 1)["booking_success"])[0]
        assert state_of(record) == "captured/booked"
        assert not record.booking_doubted

    def test_a_doubt_is_sent_again_once_and_never_more(self) -> None:
        record = record_in("captured/in_doubt")
        assert apply(record, events()["intent_resend"])[0]
        apply(record, events(ATTEMPT + 1)["booking_unknown"])
        assert not apply(record, events(ATTEMPT + 1)["intent_resend"])[0]

    def test_a_resend_that_never_left_may_be_tried_again(self) -> None:
        record = record_in("captured/in_doubt")
        apply(record, events()["intent_resend"])
        apply(record, events(ATTEMPT + 1)["booking_not_sent"])
        assert record.resends == 0
        assert apply(record, events(ATTEMPT + 1)["intent_resend"])[0]
        apply(record, events(ATTEMPT + 2)["booking_unknown"])
        assert not apply(record, events(ATTEMPT + 2)["intent_resend"])[0]

    def test_a_booking_that_never_left_gives_no_spent_resend_back(self) -> None:
        record = record_in("captured/sending", resends=1)
        assert apply(record, events()["booking_not_sent"])[0]
        assert (record.booking_state, record.resends) == ("planned", 1)

    def test_a_resend_stays_spent_when_a_person_lets_the_lead_be_booked_again(self) -> None:
        record = record_in("captured/in_doubt", resends=1)
        apply(record, events()["resolved_not_booked"])
        assert record.resends == 1

    @pytest.mark.parametrize("changes", [{"doubt_run": "run"}, {"alarm": True}, {"slot_start": None}])
    def test_a_doubt_is_not_sent_again_in_its_own_run_nor_under_an_alarm(
        self, changes: dict[str, Any]
    ) -> None:
        assert not apply(record_in("captured/in_doubt", **changes), events()["intent_resend"])[0]

    @pytest.mark.parametrize("kind", ["planned", "intent_booking"])
    def test_a_doubted_booking_is_never_planned_elsewhere(self, kind: str) -> None:
        for booking in ("waiting", "unassigned", "planned"):
            record = record_in(f"captured/{booking}", booking_doubted=True, slot_start=SLOT)
            assert not apply(record, events()[kind])[0]

    def test_resolving_is_recorded_with_who_and_why(self) -> None:
        record = record_in("captured/in_doubt")
        _, effects = apply(record, Resolved(7, True, "ann", "seen in the dashboard"))
        assert effects.notes == [(7, ATTEMPT, "resolved_booked", "ann", "seen in the dashboard")]
        record = record_in("captured/in_doubt")
        _, effects = apply(record, Resolved(7, False, "ann", "no such call"))
        assert effects.notes == [(7, ATTEMPT, "resolved_not_booked", "ann", "no such call")]
        assert record.claim_owner is None

    def test_a_doubt_is_noted_with_its_reason(self) -> None:
        record = record_in("captured/sending", doubt_run=None)
        _, effects = apply(record, events()["booking_unknown"])
        assert effects.notes == [(7, ATTEMPT, "in_doubt", None, "because")]
        assert (record.reason, record.doubt_run) == ("because", "run")


class TestClaims:
    @pytest.mark.parametrize(
        ("owner", "live", "accepted"),
        [
            (None, {"me", "other"}, True),
            ("me", {"me", "other"}, True),
            ("other", {"me"}, True),  # its lease has run out
            ("other", {"me", "other"}, False),
        ],
    )
    def test_a_claim_yields_to_a_live_owner_only(
        self, owner: str | None, live: set[str], accepted: bool
    ) -> None:
        record = record_in("captured/waiting", claim_owner=owner)
        assert apply(record, Claimed(7, ATTEMPT, "me", frozenset(live), "{}", "print"))[0] is accepted
        assert record.claim_owner == ("me" if accepted else owner)

    def test_a_claim_brings_the_wish_and_the_fingerprint_of_the_row(self) -> None:
        record = record_in("new/waiting")
        apply(record, Claimed(7, ATTEMPT, "me", frozenset(), '{"priority":2}', "print"))
        assert (record.wish, record.fingerprint) == ('{"priority":2}', "print")

    def test_a_finished_lead_keeps_no_wish(self) -> None:
        for state, kind in (
            ("sending/waiting", "capture_rejected"),
            ("captured/sending", "booking_success"),
            ("captured/sending", "booking_rejected"),
            ("captured/in_doubt", "resolved_booked"),
        ):
            record = record_in(state, wish="{}", fingerprint="print")
            apply(record, events()[kind])
            assert record.wish is None
            # A rejected row must be known again; a booked one need not be.
            assert record.fingerprint == ("print" if kind.endswith("rejected") else None)


class TestCapture:
    def test_the_first_customer_stays_and_a_second_one_is_noted(self) -> None:
        record = record_in("captured/waiting")
        late = settled("capture_success", ATTEMPT - 1, customer_id="C2")
        accepted, effects = apply(record, late)
        assert accepted
        assert (record.customer_id, record.second_customer) == ("C1", "C2")
        assert effects.notes == [(7, ATTEMPT - 1, "second_customer", None, None)]

    def test_a_late_capture_takes_the_attempt_from_whoever_sends_again(self) -> None:
        record = record_in("sending/waiting")
        assert apply(record, events(ATTEMPT - 1)["capture_success"])[0]
        assert state_of(record) == "captured/waiting"
        assert record.attempt == ATTEMPT + 1
        late = settled("capture_success", customer_id="C2")
        assert apply(record, late)[0]
        assert (record.customer_id, record.second_customer) == ("C1", "C2")
        assert not apply(record, events()["capture_rejected"])[0]

    @pytest.mark.parametrize("state", ["captured/waiting", "captured/sending"])
    def test_a_forgotten_customer_does_not_come_back(self, state: str) -> None:
        record = record_in(state, customer_id=None, join_url=None)
        assert not apply(record, events(ATTEMPT - 1)["capture_success"])[0]
        assert record.customer_id is None
        assert record.attempt == ATTEMPT

    def test_a_rejected_capture_that_was_in_doubt_is_in_doubt_again_when_corrected(self) -> None:
        record = record_in("rejected/waiting", capture_doubted=True)
        assert apply(record, Corrected(7))[0]
        assert record.capture_state == "in_doubt"

    def test_what_a_reply_lacked_and_another_time_are_kept(self) -> None:
        record = record_in("sending/waiting")
        apply(record, settled("capture_success", incomplete=True))
        assert record.reply_incomplete
        record = record_in("captured/sending", reply_incomplete=True)
        apply(record, settled("booking_success", time_mismatch=True))
        assert record.time_mismatch
        assert record.reply_incomplete


class TestChanges:
    def test_what_the_source_must_hear_of_counts_as_a_change(self) -> None:
        told = {
            ("sending/waiting", "capture_success"),
            ("sending/waiting", "capture_rejected"),
            ("sending/waiting", "capture_unknown"),
            ("captured/sending", "booking_success"),
            ("captured/sending", "booking_rejected"),
            ("captured/sending", "booking_unknown"),
            ("captured/sending", "expired"),
            ("captured/waiting", "released_unassigned"),
            ("captured/in_doubt", "resolved_booked"),
            ("captured/in_doubt", "resolved_not_booked"),
            ("new/waiting", "refused"),
            ("new/waiting", "adopted"),
        }
        for state, kind in told:
            record = record_in(state)
            apply(record, events()[kind])
            assert record.change == 1, (state, kind)
        for state, kind in {("captured/waiting", "planned"), ("captured/planned", "intent_booking")}:
            record = record_in(state)
            apply(record, events()[kind])
            assert record.change == 0, (state, kind)

    def test_the_same_reason_for_no_slot_is_not_told_twice(self) -> None:
        record = record_in("captured/unassigned", reason="slots_full")
        assert not apply(record, Released(7, "me", BookingState.UNASSIGNED, "run", "slots_full"))[0]
        assert apply(record, Released(7, "me", BookingState.UNASSIGNED, "run", "no_slots_open"))[0]

    def test_a_lead_is_released_to_waiting_or_unassigned_only(self) -> None:
        for to in set(BookingState) - {BookingState.WAITING, BookingState.UNASSIGNED}:
            assert not apply(record_in("captured/planned"), Released(7, "me", to, "run"))[0]


def test_the_record_shows_no_customer_and_no_link() -> None:
    record = record_in("captured/waiting", second_customer="C2")
    assert "C1" not in repr(record)
    assert "C2" not in repr(record)
    assert "live.example.com" not in repr(record)
    for event in events().values():
        assert "C1" not in repr(event)
