"""The rules of the state machine for webhooks and alarms, one by one."""

from __future__ import annotations

import pytest

from airflow_provider_popin.sync.ledger.events import Effects, Expired, Record
from airflow_provider_popin.sync.ledger.evidence import CONTRADICTION
from tests.sync.ledger.lead_states import ATTEMPT, NOW, SLOT, apply, events, record_in, settled, state_of

REFUSALS = ["rejected", "taken", "not_sent"]
WITHOUT_A_CALL = ["captured/waiting", "captured/unassigned", "captured/planned", "captured/rejected"]


def kinds(effects: Effects) -> list[str]:
    return [kind for _, _, kind, _, _ in effects.notes]


def told_while_sending(**changes: object) -> Record:
    record = record_in("captured/sending", **changes)
    assert apply(record, events()["evidence"])[0]
    assert state_of(record) == "captured/sending"
    return record


class TestDoubt:
    def test_a_webhook_about_its_very_slot_ends_it(self) -> None:
        record = record_in("captured/in_doubt", reason="read_timeout", wish="{}")
        _, effects = apply(record, events()["evidence"])
        assert state_of(record) == "captured/booked"
        assert (record.booking_doubted, record.reason, record.wish) == (False, None, None)
        assert (record.slot_start, record.seat, record.confirmed_at) == (SLOT, 1, NOW)
        assert effects.notes == [(7, ATTEMPT, "resolved_booked", "webhook", "webhook event 1")]
        assert record.change == 1  # the CRM is told

    @pytest.mark.parametrize("kind", ["evidence_elsewhere", "evidence_sometime"])
    def test_a_webhook_about_another_call_raises_the_alarm_and_moves_nothing(self, kind: str) -> None:
        record = record_in("captured/in_doubt")
        _, effects = apply(record, events()[kind])
        assert state_of(record) == "captured/in_doubt"
        assert record.alarm
        assert (record.slot_start, record.seat) == (SLOT, 1)
        assert kinds(effects) == ["double_booking_alarm"]

    def test_under_an_alarm_only_a_person_ends_it(self) -> None:
        record = record_in("captured/in_doubt", alarm=True)
        _, effects = apply(record, events()["evidence"])
        assert state_of(record) == "captured/in_doubt"
        assert record.booking_doubted
        assert kinds(effects) == ["evidence"]

    def test_the_late_answer_of_the_same_attempt_is_no_alarm(self) -> None:
        record = record_in("captured/in_doubt")
        apply(record, events()["evidence"])
        assert apply(record, events()["booking_success"])[0]
        assert not record.alarm


class TestSending:
    def test_success_books_and_the_webhook_has_confirmed_it(self) -> None:
        record = told_while_sending()
        apply(record, events()["booking_success"])
        assert state_of(record) == "captured/booked"
        assert (record.confirmed_at, record.evidence_slot, record.alarm) == (NOW, None, False)

    def test_success_without_a_webhook_confirms_nothing(self) -> None:
        record = record_in("captured/sending")
        apply(record, events()["booking_success"])
        assert record.confirmed_at is None

    def test_a_lost_answer_books(self) -> None:
        record = told_while_sending()
        _, effects = apply(record, events()["booking_unknown"])
        assert state_of(record) == "captured/booked"
        assert (record.evidence_slot, record.booking_doubted, record.deadline) == (None, False, None)
        assert kinds(effects) == ["resolved_booked"]

    def test_a_passed_deadline_books(self) -> None:
        record = told_while_sending()
        apply(record, Expired(7))
        assert state_of(record) == "captured/booked"
        assert record.confirmed_at == NOW

    @pytest.mark.parametrize("answer", REFUSALS)
    def test_a_refusal_contradicts_it_and_the_lead_is_held(self, answer: str) -> None:
        record = told_while_sending()
        accepted, effects = apply(record, events()[f"booking_{answer}"])
        assert accepted
        assert state_of(record) == "captured/in_doubt"
        assert record.alarm
        assert (record.slot_start, record.seat, record.reason) == (SLOT, 1, CONTRADICTION)
        assert effects.release_seats == []
        assert kinds(effects) == ["double_booking_alarm", "in_doubt"]
        assert record.doubt_run == "run"

    @pytest.mark.parametrize("answer", [*REFUSALS, "unknown"])
    def test_of_a_resend_the_webhook_ends_the_doubt_whatever_the_answer(self, answer: str) -> None:
        # Two attempts for one slot, one call: refused now, it is the call of the attempt before.
        record = told_while_sending(booking_doubted=True)
        apply(record, events()[f"booking_{answer}"])
        assert state_of(record) == "captured/booked"
        assert not record.alarm

    @pytest.mark.parametrize("answer", [*REFUSALS, "unknown"])
    def test_under_an_alarm_the_doubt_stays(self, answer: str) -> None:
        record = told_while_sending(booking_doubted=True, alarm=True)
        apply(record, events()[f"booking_{answer}"])
        assert state_of(record) == "captured/in_doubt"
        assert record.alarm
        assert record.evidence_slot is None

    @pytest.mark.parametrize("kind", ["evidence_elsewhere", "evidence_sometime"])
    @pytest.mark.parametrize("answer", REFUSALS)
    def test_another_call_keeps_the_lead_from_being_planned_again(self, answer: str, kind: str) -> None:
        record = record_in("captured/sending")
        apply(record, events()[kind])
        assert record.evidence_slot is None
        apply(record, events()[f"booking_{answer}"])
        assert state_of(record) == "captured/in_doubt"
        assert record.alarm

    def test_an_answer_of_another_attempt_leaves_it_alone(self) -> None:
        record = told_while_sending()
        assert not apply(record, events(ATTEMPT - 1)["booking_unknown"])[0]
        assert record.evidence_slot == SLOT


class TestBooked:
    def test_it_is_confirmed_once(self) -> None:
        record = record_in("captured/booked")
        _, effects = apply(record, events()["evidence"])
        assert (record.confirmed_at, record.alarm, kinds(effects)) == (NOW, False, ["confirmed"])
        accepted, effects = apply(record, events()["evidence"])
        assert accepted
        assert effects == Effects()

    @pytest.mark.parametrize("kind", ["evidence_elsewhere", "evidence_sometime"])
    def test_another_call_raises_the_alarm_and_it_stays_booked(self, kind: str) -> None:
        record = record_in("captured/booked")
        _, effects = apply(record, events()[kind])
        assert state_of(record) == "captured/booked"
        assert (record.alarm, record.slot_start, record.confirmed_at) == (True, SLOT, None)
        assert (effects.take_seats, effects.release_seats) == ([], [])


class TestWithoutACall:
    @pytest.mark.parametrize("state", WITHOUT_A_CALL)
    def test_the_lead_is_held_at_that_slot_with_an_alarm(self, state: str) -> None:
        record = record_in(state)
        _, effects = apply(record, events()["evidence_elsewhere"])
        assert state_of(record) == "captured/in_doubt"
        assert record.alarm
        assert (record.slot_start, record.slot_time, record.seat) == (SLOT + 900, "later", None)
        assert effects.take_seats == [7]
        assert record.attempt == ATTEMPT + 1  # whoever planned it must not send
        assert kinds(effects) == ["double_booking_alarm", "in_doubt"]

    @pytest.mark.parametrize("state", WITHOUT_A_CALL)
    def test_without_an_instant_it_is_held_without_slot_and_seat(self, state: str) -> None:
        record = record_in(state)
        _, effects = apply(record, events()["evidence_sometime"])
        assert state_of(record) == "captured/in_doubt"
        assert (record.slot_start, record.slot_time, record.seat) == (None, None, None)
        assert effects.take_seats == []
        assert effects.release_seats == ([7] if state == "captured/planned" else [])
        assert not apply(record, events(ATTEMPT + 1)["intent_resend"])[0]

    def test_told_again_it_stays_held(self) -> None:
        record = record_in("captured/waiting")
        apply(record, events()["evidence"])
        apply(record, events()["evidence"])
        assert state_of(record) == "captured/in_doubt"
        assert record.alarm

    def test_a_person_ends_it(self) -> None:
        record = record_in("captured/waiting")
        apply(record, events()["evidence"])
        assert apply(record, events()["resolved_booked"])[0]
        assert (state_of(record), record.alarm, record.slot_start) == ("captured/booked", False, SLOT)


class TestAlarmCleared:
    def test_of_a_booked_lead(self) -> None:
        record = record_in("captured/booked", alarm=True)
        accepted, effects = apply(record, events()["alarm_cleared"])
        assert accepted
        assert not record.alarm
        assert effects.notes == [(7, ATTEMPT, "alarm_cleared", "ann", "called them")]

    @pytest.mark.parametrize("state", ["captured/sending", "captured/in_doubt"])
    def test_a_doubt_must_be_resolved_instead(self, state: str) -> None:
        record = record_in(state, alarm=True)
        assert not apply(record, events()["alarm_cleared"])[0]
        assert record.alarm

    def test_a_second_call_later_raises_it_again(self) -> None:
        record = record_in("captured/booked", alarm=True)
        apply(record, events()["alarm_cleared"])
        apply(record, settled("booking_success", ATTEMPT - 1))
        assert record.alarm
