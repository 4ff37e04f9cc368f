"""`SandboxServer`: quick, several at once, tidy at its end, able to be away for a while."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from dataclasses import replace

import pytest
from starlette.types import Message

from airflow_provider_popin.sandbox.app import ROUTES, SandboxApp
from airflow_provider_popin.sandbox.faults import FaultError
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.transport import RESET_ON_CLOSE, Connections
from tests.sandbox.talk import (
    FRIDAY,
    SETTINGS,
    capture,
    connect,
    control,
    keep_connected,
    lead,
    new_customer,
    raw_request,
    schedule,
    slots,
)
from tests.waiting import wait_until


def test_it_stops_without_waiting_for_idle_clients_and_starts_again() -> None:
    # A server of other tests may run in this process, too.
    before = set(threading.enumerate())
    with SandboxServer(SETTINGS) as popin:
        assert slots(popin).status == 200
        with keep_connected(popin) as idle:
            popin.__exit__(None, None, None)
            with pytest.raises(ConnectionResetError):
                idle.recv(1)
        popin.__enter__()
        assert slots(popin).status == 200
    assert not [
        thread
        for thread in set(threading.enumerate()) - before
        if thread.name == "popin-sandbox" and thread.is_alive()
    ]


def test_several_at_once() -> None:
    with SandboxServer(SETTINGS) as one, SandboxServer(SETTINGS) as two:
        assert one.url != two.url
        capture(one)
        assert (len(one.customers()), len(two.customers())) == (1, 0)


def test_defaults_follow_the_real_clock() -> None:
    with SandboxServer() as popin:
        assert popin.url == f"http://127.0.0.1:{popin.port}"
        assert slots(popin).status == 200
        assert popin.stats()["free_seats"] >= 6 * 48  # in the evening nothing is left of today


def test_ipv6() -> None:
    try:
        with SandboxServer(SandboxSettings(host="::1")) as popin:
            assert popin.url.startswith("http://[::1]:")
            assert slots(popin).status == 200
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = SandboxServer(SandboxSettings(port=taken.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            server.__enter__()


def test_the_oracle_outlives_the_server() -> None:
    with SandboxServer(SETTINGS) as popin:
        schedule(popin, new_customer(popin), f"{FRIDAY} 10:00 AM")
    assert popin.stats()["bookings"] == 1
    assert len(popin.bookings()) == 1
    assert [row["endpoint"] for row in popin.requests()] == ["capture", "schedule"]
    with pytest.raises(AssertionError, match="not running"):
        popin.stop_listening()


def test_stop_cuts_open_requests_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with SandboxServer(SETTINGS.changed({"latency_ms": 60_000.0})) as popin, connect(popin) as connection:
        head, body = raw_request("/api/v1/external/capture", {})
        connection.sendall(head + body)
        wait_until(lambda: popin.stats()["open_requests"])
        popin.__exit__(None, None, None)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert popin.stats()["open_requests"] == 0
        popin.__enter__()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_latency(popin: SandboxServer) -> None:
    popin.reset(latency_ms=50)
    began = time.monotonic()
    slots(popin)
    assert time.monotonic() - began >= 0.05
    popin.set_faults("slots:429")
    began = time.monotonic()
    slots(popin)
    assert time.monotonic() - began >= 0.05


def test_faults_that_cannot_be_used_leave_the_old_ones(popin: SandboxServer) -> None:
    popin.set_faults("capture:500@1")
    with pytest.raises(FaultError, match="known: "):
        popin.set_faults("capture:gremlins")
    assert capture(popin).status == 500
    popin.set_faults()
    assert capture(popin).status == 200


def test_reset_that_cannot_be_made_changes_nothing(popin: SandboxServer) -> None:
    capture(popin)
    with pytest.raises(ValueError, match="days"):
        popin.reset(days=-1)
    assert len(popin.customers()) == 1


def test_closed_port_refuses_until_it_opens_again(popin: SandboxServer) -> None:
    capture(popin)
    with keep_connected(popin) as open_one:
        popin.stop_listening()
        with pytest.raises(ConnectionResetError):
            open_one.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(popin)
    assert len(popin.customers()) == 1
    popin.start_listening()
    assert capture(popin).status == 200
    assert len(popin.customers()) == 2


def test_a_handler_survives_the_closing_of_the_port(popin: SandboxServer) -> None:
    customer_id = new_customer(popin)
    popin.set_faults("schedule:slow_before_commit(0.05)")
    head, body = raw_request(
        "/api/v1/external/schedule", {"customer_id": customer_id, "time": f"{FRIDAY} 10:00 AM"}
    )
    with connect(popin) as connection:
        connection.sendall(head + body)
        wait_until(lambda: popin.stats()["open_requests"])
        popin.stop_listening()
    popin.start_listening()
    popin.wait_idle()
    assert len(popin.bookings()) == 1


def test_outage_by_fault_and_over_http(popin: SandboxServer) -> None:
    popin.set_faults("slots:outage(0.1)@1")
    with pytest.raises(ConnectionResetError):
        slots(popin)
    popin.wait_listening()
    assert slots(popin).status == 200
    assert control(popin, "POST", "/outage", {"seconds": 1}).status == 200
    time.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        connect(popin)
    popin.wait_listening()
    assert slots(popin).status == 200


def test_a_port_lost_during_an_outage_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_popin.sandbox.runner.REBIND_SECONDS", 0.02)
    with SandboxServer(SETTINGS) as popin:
        popin.stop_listening()
        with pytest.raises(TimeoutError, match="port"):
            popin.wait_listening(timeout_seconds=0.02)
        with socket.create_server(("127.0.0.1", popin.port)), pytest.raises(OSError, match="in use"):
            popin.start_listening()


def test_stop_during_an_outage() -> None:
    with SandboxServer(SETTINGS) as popin:
        control(popin, "POST", "/outage", {"seconds": 60})
    assert popin.bookings() == []


def test_access_log_has_no_bodies(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "airflow_provider_popin.sandbox")
    with SandboxServer(SETTINGS) as quiet:
        capture(quiet)
    assert "capture" not in caplog.text
    with SandboxServer(SETTINGS, access_log=True) as popin:
        popin.set_faults("slots:429@1")
        capture(popin)
        slots(popin)
    assert "POST /api/v1/external/capture 200 -" in caplog.text
    assert "GET /api/v1/external/slots 429 429" in caplog.text
    assert "Asha" not in caplog.text
    assert popin.settings.api_key not in caplog.text


def test_connections_that_are_gone_are_no_trouble() -> None:
    connections = Connections()
    connections.reset(("127.0.0.1", 1))
    connections.close(("127.0.0.1", 1))
    connections.reset_all()


def test_clients_that_go_away_while_they_are_answered_are_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """At the right moment uvloop knows it and uvicorn does not: of these clients about thirty meet it."""
    latency = 0.02
    request = b"".join(raw_request("/api/v1/external/capture", lead(1)))

    def go_away(popin: SandboxServer) -> None:
        for number in range(40):
            with connect(popin) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                client.sendall(request)
                time.sleep(latency + number % 8 * 0.0003)

    with SandboxServer(replace(SETTINGS, latency_ms=latency * 1000)) as popin:
        clients = [threading.Thread(target=go_away, args=(popin,)) for _ in range(16)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert popin.stats()["committed"]["capture"]
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_any_other_failed_write_is_an_error() -> None:
    connections, client = Connections(), ("127.0.0.1", 5)
    connections.opened(client, asyncio.Transport())
    app = SandboxApp(settings=SETTINGS, connections=connections, outage=lambda seconds: None)

    async def send(message: Message) -> None:
        raise RuntimeError("a write that failed")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": next(iter(ROUTES)), "headers": [], "client": client}
    with pytest.raises(RuntimeError, match="a write that failed"):
        asyncio.run(app(scope, receive, send))
