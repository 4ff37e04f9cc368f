"""Webhooks of a running sandbox: who is told what, and when."""

from __future__ import annotations

import base64
import http.client
import time
from contextlib import suppress
from datetime import datetime

import pytest

from airflow_provider_popin.sandbox import webhook_events as events
from airflow_provider_popin.sandbox.server import SandboxServer
from tests.sandbox.receiver import KEY, Receiver, tell, wait_for_deliveries
from tests.sandbox.talk import FRIDAY, book, control, new_customer, schedule


def test_capture_and_booking_are_told(told: SandboxServer, receiver: Receiver) -> None:
    customer_id = book(told)
    told.wait_webhooks()
    captured, scheduled = receiver.bodies()
    assert (captured["event"], scheduled["event"]) == ("popin_user_captured", "popin_scheduled_created")
    assert captured["user_id"] == scheduled["user_id"] == base64.b64decode(customer_id).decode()
    assert captured["full_phone_number"] == "+919544500001"
    assert captured["timestamp"] == "2025-09-24T06:30:00.000000Z"
    assert scheduled["properties"]["scheduled_time"] == "10:00 AM"
    assert scheduled["properties"]["scheduled_date"] == "26-Sep-2025"
    assert scheduled["properties"]["url"] == told.bookings()[0]["join_url"]
    for arrived in receiver.arrived:
        assert arrived.path == "/hooks/popin"
        assert arrived.headers["x-api-key"] == KEY
        assert arrived.headers["content-type"] == "application/json"


def test_without_a_key_there_is_no_such_header(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, key="")
    new_customer(popin)
    popin.wait_webhooks()
    assert "x-api-key" not in receiver.arrived[0].headers


def test_nobody_is_told_by_default(popin: SandboxServer) -> None:
    book(popin)
    assert popin.webhooks() == []
    assert popin.stats()["webhooks"] == {"open": 0, "ended": {}, "answers": {}, "events": {}}


@pytest.mark.parametrize(
    "fault", ["reset_after_commit", "500_after_commit", "html_after_commit", "cut_body", "empty_body"]
)
def test_a_commit_whose_answer_was_lost_is_told(told: SandboxServer, receiver: Receiver, fault: str) -> None:
    customer_id = new_customer(told)
    told.set_faults(f"schedule:{fault}")
    with suppress(OSError, http.client.HTTPException):
        schedule(told, customer_id, f"{FRIDAY} 10:00 AM")
    told.wait_webhooks()
    assert receiver.names() == [events.CAPTURED, events.SCHEDULED]


@pytest.mark.parametrize("fault", ["500_before_commit", "422(time)", "status0", "429"])
def test_what_was_not_committed_is_not_told(told: SandboxServer, receiver: Receiver, fault: str) -> None:
    customer_id = new_customer(told)
    told.set_faults(f"schedule:{fault}")
    schedule(told, customer_id, f"{FRIDAY} 10:00 AM")
    told.wait_webhooks()
    assert receiver.names() == [events.CAPTURED]


def test_a_booking_is_told_before_its_slow_answer(told: SandboxServer, receiver: Receiver) -> None:
    customer_id = new_customer(told)
    told.wait_webhooks()
    told.set_faults("schedule:slow_after_commit(3)")
    began = time.monotonic()
    schedule(told, customer_id, f"{FRIDAY} 10:00 AM")
    answered = time.monotonic() - began
    (row,) = told.webhooks(event=events.SCHEDULED)
    assert answered >= 3
    assert row["state"] == "answered"


def test_notifications_for_which_it_is_too_late_are_left_out(
    popin: SandboxServer, receiver: Receiver
) -> None:
    tell(popin, receiver, notified=1.0)
    book(popin, day="Wed, 24 Sep 2025", clock="12:15 PM")
    popin.wait_webhooks()
    assert receiver.names()[2:] == [events.SCHEDULED_NOTIFICATION]


def test_a_call_from_booking_to_rating(popin: SandboxServer, receiver: Receiver) -> None:
    certain = dict.fromkeys(("notified", "successful", "guest_connected", "rated", "remark_added"), 1.0)
    tell(popin, receiver, **certain)
    book(popin)
    popin.wait_webhooks()
    names = receiver.names()
    assert names[:4] == [
        events.CAPTURED,
        events.SCHEDULED,
        events.PRESCHEDULED_NOTIFICATION,
        events.SCHEDULED_NOTIFICATION,
    ]
    assert names[4:] == [events.GUEST_CONNECTED, events.SUCCESSFUL, events.RATED, events.REMARK_ADDED]
    timestamps = [body["timestamp"] for body in receiver.bodies()[2:]]
    # Of uncompressed time, although all of it happened at once: the slot is two days off.
    assert timestamps == sorted(timestamps)
    assert timestamps[0] == "2025-09-26T04:00:00.000000Z"
    assert timestamps[2] == "2025-09-26T04:31:00.000000Z"
    assert [row["occurred"][:19] for row in popin.webhooks()[2:]] == [text[:19] for text in timestamps]


@pytest.mark.parametrize("outcome", ["missed", "abandoned"])
def test_other_outcomes(popin: SandboxServer, receiver: Receiver, outcome: str) -> None:
    tell(popin, receiver, **{outcome: 1.0})
    book(popin)
    popin.wait_webhooks()
    rest = [events.MISSED_NOTIFICATION] if outcome == "missed" else []
    assert receiver.names()[2:] == [f"popin_call_{outcome}", *rest]
    (row,) = popin.webhooks(event=f"popin_call_{outcome}")
    assert row["request_n"] == 1


def test_an_outcome_comes_when_it_should(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, abandoned=1.0, outcome_after=0.6)
    book(popin)
    popin.wait_webhooks()
    sent = {row["event"]: row["sent"] for row in popin.webhooks()}
    scheduled, outcome = sent[events.SCHEDULED], sent[events.ABANDONED]
    assert scheduled is not None
    assert outcome is not None
    # From the booking on, of which the receiver was told a moment later.
    assert 0.3 <= parsed(outcome) - parsed(scheduled) < 60


def test_calls_wait_for_their_time(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, missed=1.0, outcome_after=None)
    book(popin)
    wait_for_deliveries(receiver, 2)
    waiting = popin.webhooks(state="waiting")
    assert [row["event"] for row in waiting] == [events.MISSED, events.MISSED_NOTIFICATION]
    assert all(row["sent"] is None for row in waiting)


@pytest.mark.parametrize(
    ("envelope", "has"), [("older", (False, False)), ("documented", (True, False)), ("newer", (True, True))]
)
def test_envelopes(popin: SandboxServer, receiver: Receiver, envelope: str, has: tuple[bool, bool]) -> None:
    tell(popin, receiver, envelope=envelope)
    book(popin)
    popin.wait_webhooks()
    assert tuple("timestamp" in body for body in receiver.bodies()) == has
    assert tuple("full_phone_number" in body for body in receiver.bodies()) == has


def test_outgoing_calls_on_demand(told: SandboxServer, receiver: Receiver) -> None:
    one, two = new_customer(told, 1), new_customer(told, 2)
    for end in ("initiated", "accepted", "successful", "initiated"):
        told.send_webhook(f"popin_outgoing_call_{end}", one)
    told.send_webhook("popin_outgoing_call_network_failure", two, participant="agent")
    told.wait_webhooks()
    calls = [body for body in receiver.bodies() if body["event"].startswith("popin_outgoing")]
    first = [body for body in calls if body["user_id"] == 1001]
    sessions = [body["session_id"] for body in first]
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3]
    assert [body["call_id"] for body in first] == [28001, 28001, 28001, 28002]
    (failed,) = [body for body in calls if body["user_id"] == 1002]
    assert failed["participant"] == "agent"
    assert isinstance(failed["timestamp"], int)


@pytest.mark.parametrize("event", events.EVENTS)
def test_every_event_on_demand_over_http(told: SandboxServer, receiver: Receiver, event: str) -> None:
    customer_id = book(told)
    answer = control(told, "POST", "/webhooks", {"event": event, "customer_id": customer_id})
    assert answer.status == 200
    assert answer.json()["event"] == event
    told.wait_webhooks()
    assert receiver.names() == [events.CAPTURED, events.SCHEDULED, event]
    if event in (events.SCHEDULED, events.SCHEDULED_NOTIFICATION):
        assert receiver.bodies()[2]["properties"]["scheduled_date"] == "26-Sep-2025"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"event": "popin_gremlins"}, "event: one of popin_user_captured"),
        ({"event": 1}, "event and customer_id: text"),
        ({"customer_id": "MQ=="}, "nobody was captured"),
        ({"participant": "guest"}, "participant: one of user, agent"),
        ({"participant": 1}, "participant: text"),
        ({"colour": "red"}, "event and customer_id: text"),
    ],
)
def test_what_cannot_be_sent_is_refused(told: SandboxServer, changes: dict[str, object], why: str) -> None:
    wanted = {"event": events.MISSED, "customer_id": new_customer(told)}
    answer = control(told, "POST", "/webhooks", {**wanted, **changes})
    assert answer.status == 400
    assert why in str(answer.json()["message"])


def test_without_a_url_nothing_can_be_sent(popin: SandboxServer) -> None:
    with pytest.raises(ValueError, match="no url"):
        popin.send_webhook(events.MISSED, new_customer(popin))


def test_oracle_over_http(told: SandboxServer) -> None:
    book(told, 1)
    book(told, 2, "10:15 AM")
    told.wait_webhooks()
    rows = control(told, "GET", "/webhooks").json()["webhooks"]
    assert rows == told.webhooks()
    assert isinstance(rows, list)
    assert {row["status"] for row in rows} == {200}

    def found(query: str) -> list[tuple[str, str]]:
        kept = control(told, "GET", f"/webhooks?{query}").json()["webhooks"]
        assert isinstance(kept, list)
        return [(row["event"], row["lead"]) for row in kept]

    assert found("lead=lead-2") == [(events.CAPTURED, "lead-2"), (events.SCHEDULED, "lead-2")]
    assert found(f"event={events.SCHEDULED}&limit=1") == [(events.SCHEDULED, "lead-2")]
    assert found("state=waiting") == []
    assert found("state=answered&limit=0") == []
    assert control(told, "GET", "/webhooks?limit=x").status == 400
    text = str(control(told, "GET", "").json())
    assert KEY not in text
    assert "outcome_after" in text
    everything = control(told, "GET", "/webhooks").body.decode()
    assert "Example" not in everything
    assert "95445" not in everything


def parsed(text: str) -> float:
    """Epoch seconds of the oracle's text."""
    return datetime.fromisoformat(text).timestamp()
