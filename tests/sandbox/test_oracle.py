"""The oracle: what it counts, and that nothing that happens to a client or a server makes it lie."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable

import aiohttp
import pytest

from airflow_provider_popin.sandbox import runner
from airflow_provider_popin.sandbox.oracle import Oracle
from airflow_provider_popin.sandbox.rows import WebhookCounts
from airflow_provider_popin.sandbox.server import SandboxServer
from tests.sandbox.talk import (
    FRIDAY,
    SETTINGS,
    capture,
    connect,
    control,
    headers,
    lead,
    new_customer,
    raw_request,
    schedule,
    slots,
    times,
)
from tests.waiting import wait_until

NOTHING_TOLD: WebhookCounts = {"open": 0, "ended": {}, "answers": {}, "events": {}}

TEN = f"{FRIDAY} 10:00 AM"


def test_a_lead_is_followed_to_its_bookings(popin: SandboxServer) -> None:
    first, again = new_customer(popin, 1), new_customer(popin, 1)
    other = new_customer(popin, 2)
    nobody = new_customer(popin, 3, campaign=None)
    for customer, clock in ((first, "10:00"), (again, "10:15"), (other, "10:30"), (nobody, "10:45")):
        assert schedule(popin, customer, f"{FRIDAY} {clock} AM").status == 200
    assert [row["lead"] for row in popin.bookings()] == ["lead-1", "lead-1", "lead-2", None]
    assert [row["customer_id"] for row in popin.bookings(lead="lead-1")] == [first, again]
    assert len(popin.requests(lead="lead-1")) == 4
    assert [row["customer_id"] for row in popin.customers(lead="lead-2")] == [other]
    stats = popin.stats()
    assert stats["requests"] == {"capture": 4, "slots": 0, "schedule": 4, "all": 8}
    assert stats["committed"] == {"capture": 4, "slots": 0, "schedule": 4, "all": 8}
    assert stats["customers"] == 4
    assert stats["customers_per_lead_max"] == 2
    assert stats["bookings"] == 4
    assert stats["bookings_without_lead"] == 1
    assert stats["leads_booked"] == 2
    assert stats["bookings_per_lead_max"] == 2
    assert stats["leads_booked_twice"] == ["lead-1"]
    assert stats["bookings_per_customer_max"] == 1
    assert stats["statuses"] == {"200": 8}


def test_requests_in_order(popin: SandboxServer) -> None:
    capture(popin)
    slots(popin)
    schedule(popin, "unknown==", TEN)
    rows = popin.requests()
    assert [(row["endpoint"], row["n"], row["status"]) for row in rows] == [
        ("capture", 1, 200),
        ("slots", 1, 200),
        ("schedule", 1, 422),
    ]
    assert [row["committed"] for row in rows] == [True, False, False]
    assert [row["method"] for row in rows] == ["POST", "GET", "POST"]
    assert rows == sorted(rows, key=lambda row: row["monotonic"])
    assert popin.requests(endpoint="slots") == rows[1:2]
    assert popin.requests(limit=2) == rows[1:]
    assert popin.requests(limit=0) == []
    assert not any(row["open"] for row in rows)


def test_the_same_over_http(popin: SandboxServer) -> None:
    schedule(popin, new_customer(popin), TEN)
    assert control(popin, "GET", "/requests").json() == {"requests": popin.requests()}
    assert control(popin, "GET", "/requests?endpoint=schedule&lead=lead-1&limit=5").json() == {
        "requests": popin.requests(endpoint="schedule")
    }
    assert control(popin, "GET", "/bookings").json() == {"bookings": popin.bookings()}
    assert control(popin, "GET", "/bookings?lead=nobody").json() == {"bookings": []}
    assert control(popin, "GET", "/customers?lead=lead-1").json() == {"customers": popin.customers()}
    assert control(popin, "GET", "/stats").json() == popin.stats()


def test_many_requests_come_in_chunks(popin: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_popin.sandbox.control.ROWS_PER_CHUNK", 2)
    for _ in range(5):
        slots(popin)
    assert control(popin, "GET", "/requests").json() == {"requests": popin.requests()}
    popin.reset()
    assert control(popin, "GET", "/requests").json() == {"requests": []}


def test_nothing_personal_in_the_oracle(popin: SandboxServer) -> None:
    schedule(popin, new_customer(popin), TEN)
    for path in ("/requests", "/bookings", "/stats", ""):
        told = control(popin, "GET", path).body.decode()
        for secret in ("Asha", "9544500001", "asha1@", popin.settings.api_key):
            assert secret not in told


def rst(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture(params=["uvloop", "asyncio"])
def each_loop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SandboxServer]:
    if request.param == "asyncio":
        monkeypatch.setattr(runner, "LOOP_FACTORY", None)
    return lambda **changes: SandboxServer(SETTINGS.changed(changes))


@pytest.mark.parametrize("pieces", [1, 2], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("end", [socket.socket.close, rst], ids=["closed", "reset"])
def test_a_vanished_client_is_booked_all_the_same(
    each_loop: Callable[..., SandboxServer], pieces: int, end: Callable[[socket.socket], None]
) -> None:
    with each_loop(latency_ms=300) as popin:
        head, body = raw_request(
            "/api/v1/external/schedule", {"customer_id": new_customer(popin), "time": TEN}
        )
        connection = connect(popin)
        if pieces == 1:
            connection.sendall(head + body)
        else:
            connection.sendall(head)
            wait_until(lambda: len(popin.requests(endpoint="schedule")) == 1)
            connection.sendall(body)
        if end is rst:  # a reset throws away what the server has not read yet, so let it read
            time.sleep(0.15)
        end(connection)
        wait_until(lambda: len(popin.requests(endpoint="schedule")) == 1)
        popin.wait_idle()
        assert popin.stats()["bookings_per_lead_max"] == 1
        assert popin.requests()[-1]["committed"]


@pytest.mark.parametrize("faults", [(), ("schedule:500_after_commit",)])
def test_half_a_request_books_nothing(popin: SandboxServer, faults: tuple[str, ...]) -> None:
    head, body = raw_request("/api/v1/external/schedule", {"customer_id": new_customer(popin), "time": TEN})
    popin.set_faults(*faults)
    with connect(popin) as connection:
        connection.sendall(head + body[:-1])
        wait_until(lambda: popin.stats()["open_requests"] == 1)
    popin.wait_idle()
    row = popin.requests()[-1]
    assert (row["status"], row["committed"]) == (None, False)
    assert popin.bookings() == []


def test_wait_idle_gives_up(popin: SandboxServer) -> None:
    head, _ = raw_request("/api/v1/external/schedule", {})
    with connect(popin) as connection:
        connection.sendall(head)
        wait_until(lambda: popin.stats()["open_requests"] == 1)
        with pytest.raises(TimeoutError):
            popin.wait_idle(timeout_seconds=0.02)


def test_a_request_from_before_a_reset_changes_nothing_after_it(popin: SandboxServer) -> None:
    customer_id = new_customer(popin)
    popin.set_faults("schedule:slow_before_commit(0.05)")
    head, body = raw_request("/api/v1/external/schedule", {"customer_id": customer_id, "time": TEN})
    with connect(popin) as connection:
        connection.sendall(head + body)
        wait_until(lambda: popin.stats()["open_requests"] == 1)
        popin.reset()
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert popin.bookings() == []
    assert TEN in times(slots(popin))
    assert popin.stats()["requests"]["schedule"] == 0


async def test_queries_while_requests_fly(popin: SandboxServer) -> None:
    popin.reset(seats_per_slot=100, latency_ms=5)
    base = f"{popin.url}/api/v1/external"

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        async with session.post(f"{base}/capture", json=lead(number)) as answer:
            customer_id = (await answer.json())["customer_id"]
        body = {"customer_id": customer_id, "time": TEN}
        async with session.post(f"{base}/schedule", json=body) as answer:
            assert answer.status == 200

    async def ask(session: aiohttp.ClientSession) -> None:
        async with session.get(f"{popin.url}/_sandbox/stats") as answer:
            stats = await answer.json()
        assert stats["bookings"] == stats["committed"]["schedule"]
        async with session.get(f"{popin.url}/_sandbox/requests") as answer:
            rows = (await answer.json())["requests"]
        assert [row["n"] for row in rows if row["endpoint"] == "capture"] == list(
            range(1, 1 + sum(row["endpoint"] == "capture" for row in rows))
        )

    async with aiohttp.ClientSession(headers=headers()) as session:
        await asyncio.gather(*(one(session, n) for n in range(60)), *(ask(session) for _ in range(5)))
    stats = popin.stats()
    assert stats["leads_booked"] == stats["bookings"] == 60
    assert stats["bookings_per_lead_max"] == 1
    assert 10 <= stats["max_concurrency"]["all"] <= 60
    assert stats["peak_requests_per_second"]["all"] >= 60


def test_peak_is_over_any_one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, now = Oracle(keep_requests=10), 100.0
    monkeypatch.setattr("airflow_provider_popin.sandbox.oracle.time.monotonic", lambda: now)
    for now in (100.0, 100.6, 100.9, 101.5, 101.55, 103.0):  # noqa: B007  (the clock reads it)
        oracle.left(oracle.arrived("capture", "POST"))
    stats = oracle.stats(customers=0, free_seats=0, bookings_per_slot_max=0, webhooks=NOTHING_TOLD)
    assert stats["peak_requests_per_second"] == {"capture": 4, "slots": 0, "schedule": 0, "all": 4}
    assert stats["max_concurrency"]["all"] == 1


def test_old_requests_are_forgotten_but_counted(popin: SandboxServer) -> None:
    popin.reset(keep_requests=3)
    for _ in range(5):
        slots(popin)
    assert [row["n"] for row in popin.requests()] == [3, 4, 5]
    assert popin.stats()["requests"]["slots"] == 5
    assert popin.stats()["requests_forgotten"] == 2


def test_two_hundred_thousand_requests() -> None:
    oracle = Oracle(keep_requests=500_000)
    for number in range(200_000):
        record = oracle.arrived("capture", "POST")
        record.lead = f"lead-{number}"
        oracle.committed(record)
        oracle.captured(record.lead)
        oracle.left(record)
    stats = oracle.stats(customers=200_000, free_seats=0, bookings_per_slot_max=0, webhooks=NOTHING_TOLD)
    assert stats["committed"]["all"] == 200_000
    assert [row["n"] for row in oracle.rows(limit=1)] == [200_000]
