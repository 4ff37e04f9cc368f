"""Deliveries of webhooks: in order unless told otherwise, bounded, and nobody waits for a receiver."""

from __future__ import annotations

import socket
import time

from airflow_provider_popin.sandbox import webhook_events as events
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.webhook_settings import WebhookSettings
from tests.sandbox.receiver import Receiver, tell, wait_for_deliveries
from tests.sandbox.talk import NOON, book, capture, new_customer, slots


def test_duplicates_are_equal_byte_by_byte(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, duplicate=1.0)
    capture(popin)
    popin.wait_webhooks()
    one, two = receiver.arrived
    assert one.body == two.body
    assert [(row["n"], row["faults"]) for row in popin.webhooks()] == [(1, ["duplicate"])] * 2


def test_dropped_events_are_known_to_the_oracle_only(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, drop=1.0, duplicate=1.0)
    book(popin)
    popin.wait_webhooks()
    assert receiver.arrived == []
    assert [row["state"] for row in popin.webhooks()] == ["dropped", "dropped"]


def test_reordered_events_come_after_the_next_one(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, reorder=1.0, delay_seconds=30.0)
    book(popin)
    popin.wait_webhooks()
    assert receiver.names() == [events.SCHEDULED, events.CAPTURED]


def test_a_reordered_event_without_a_next_one_is_late(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, reorder=1.0, delay_seconds=0.5)
    capture(popin)
    assert receiver.arrived == []
    popin.wait_webhooks()
    assert receiver.names() == [events.CAPTURED]


def test_delayed_events_are_late(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, delay=1.0, delay_seconds=0.4)
    for number in range(10):
        new_customer(popin, number)
    popin.wait_webhooks()
    users = [int(body["user_id"]) for body in receiver.bodies()]
    assert sorted(users) == list(range(1001, 1011))
    assert users != sorted(users)


def test_with_one_seed_the_same_faults_strike(popin: SandboxServer, receiver: Receiver) -> None:
    struck = []
    for _ in range(2):
        tell(popin, receiver, duplicate=0.5, drop=0.3)
        for number in range(10):
            new_customer(popin, number)
        popin.wait_webhooks()
        struck.append([row["faults"] for row in popin.webhooks()])
    assert struck[0] == struck[1]
    assert {"duplicate", "drop"} <= {fault for faults in struck[0] for fault in faults}


def test_a_receiver_that_does_not_answer_keeps_nobody_waiting(
    popin: SandboxServer, receiver: Receiver
) -> None:
    receiver.gate.clear()
    tell(popin, receiver, connections=2)
    for number in range(20):
        book(popin, number, f"{1 + number % 9:02}:{15 * (number // 9):02} PM")
    wait_for_deliveries(receiver, 2)
    stats = popin.stats()
    assert stats["bookings"] == 20
    # No more than two at a time are on the wire; the others wait in line.
    assert (len(receiver.arrived), stats["webhooks"]["open"]) == (2, 40)
    receiver.gate.set()
    popin.wait_webhooks()
    assert popin.stats()["webhooks"]["answers"] == {"200": 40}
    by_user: dict[str, list[str]] = {}
    for body in receiver.bodies():
        by_user.setdefault(body["user_id"], []).append(body["event"])
    assert set(map(tuple, by_user.values())) == {(events.CAPTURED, events.SCHEDULED)}


def test_a_receiver_that_is_too_slow_or_away_has_failed(popin: SandboxServer, receiver: Receiver) -> None:
    receiver.gate.clear()
    tell(popin, receiver, timeout_seconds=0.5)
    capture(popin)
    popin.wait_webhooks()
    (row,) = popin.webhooks()
    assert (row["state"], row["status"], row["error"]) == ("failed", None, "TimeoutError")
    assert len(receiver.arrived) == 1
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
    tell(popin, receiver, url=url)
    capture(popin)
    popin.wait_webhooks()
    assert popin.webhooks()[0]["error"] == "ClientConnectorError"
    assert popin.stats()["webhooks"] == {"open": 0, "ended": {"failed": 1}, "answers": {}, "events": {}}


def test_answers_are_kept_and_redirects_not_followed(told: SandboxServer, receiver: Receiver) -> None:
    receiver.status, receiver.location = 307, "http://192.0.2.7/"
    capture(told)
    told.wait_webhooks()
    (row,) = told.webhooks()
    assert (row["state"], row["status"], row["error"]) == ("answered", 307, None)
    assert row["answered"] is not None
    counts = told.stats()["webhooks"]
    assert counts["ended"] == {"answered": 1}
    assert counts["answers"] == {"307": 1}
    assert counts["events"] == {events.CAPTURED: 1}


def test_more_than_may_wait_is_lost_and_counted(popin: SandboxServer, receiver: Receiver) -> None:
    receiver.gate.clear()
    tell(popin, receiver, max_waiting=3)
    for number in range(5):
        new_customer(popin, number)
    assert popin.stats()["webhooks"]["open"] == 3
    receiver.gate.set()
    popin.wait_webhooks()
    assert popin.stats()["webhooks"]["ended"] == {"answered": 3, "lost": 2}


def test_reset_forgets_and_stops(popin: SandboxServer, receiver: Receiver) -> None:
    tell(popin, receiver, missed=1.0, outcome_after=1.0)
    book(popin)
    wait_for_deliveries(receiver, 2)
    tell(popin, receiver)
    assert popin.webhooks() == []
    assert popin.stats()["webhooks"]["open"] == 0
    capture(popin)
    popin.wait_webhooks()
    time.sleep(1.1)
    assert receiver.names() == [events.CAPTURED, events.SCHEDULED, events.CAPTURED]


def test_webhooks_end_with_the_server_and_begin_again(receiver: Receiver) -> None:
    webhooks = WebhookSettings(url=receiver.url, missed=1.0, abandoned=0.0)
    with SandboxServer(SandboxSettings(now=NOON, webhooks=webhooks)) as popin:
        book(popin)
        wait_for_deliveries(receiver, 2)
        popin.__exit__(None, None, None)
        assert popin.stats()["webhooks"]["open"] == 0
        assert popin.stats()["webhooks"]["ended"]["lost"] == 4
        popin.__enter__()
        capture(popin)
        wait_for_deliveries(receiver, 3)


def test_deliveries_do_not_slow_the_endpoints(popin: SandboxServer, receiver: Receiver) -> None:
    def median_of_captures() -> float:
        times = []
        for number in range(30):
            began = time.monotonic()
            new_customer(popin, number)
            times.append(time.monotonic() - began)
        return sorted(times)[15]

    popin.reset()
    median_of_captures()
    without = median_of_captures()
    receiver.gate.clear()
    tell(popin, receiver)
    assert median_of_captures() < without + 0.2
    assert slots(popin).status == 200
