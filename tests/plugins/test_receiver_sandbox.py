"""The sandbox's webhooks at the receiver in Airflow's real API server: every kind, in every envelope."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox import webhook_events
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.webhooks.events import KINDS, EventKind
from tests.plugins.deliveries import KEY, address, set_up
from tests.privacy import assert_no_personal_data
from tests.sandbox.talk import book, capture, lead, new_customer, times
from tests.sandbox.talk import slots as ask_for_slots

SetConnection = Callable[..., None]
QUIET = {"notified": 0.0, "successful": 0.0, "missed": 0.0, "abandoned": 0.0}


def tell(sandbox: SandboxServer, url: str, **changes: object) -> None:
    """Start over, with webhooks to a receiver and a clock that goes: events carry its time."""
    webhooks = {"url": url, "key": KEY, **QUIET, **changes}
    sandbox.reset(api_key="sandbox-api-key", token="51", now=None, webhooks=webhooks)


def stored(folder: Path) -> list[dict[str, Any]]:
    """The events in the only ledger of a folder."""
    (file,) = folder.glob("*.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM popin_events ORDER BY id")]


@pytest.fixture
def conn_id(set_connection: SetConnection, tmp_path: Path) -> str:
    return set_up(set_connection, tmp_path)


@pytest.mark.parametrize("envelope", webhook_events.ENVELOPES)
@pytest.mark.parametrize("timestamps", webhook_events.TIMESTAMPS)
def test_every_kind_arrives_and_is_understood(
    sandbox: SandboxServer, api_server: str, conn_id: str, tmp_path: Path, envelope: str, timestamps: str
) -> None:
    tell(sandbox, address(api_server, conn_id), envelope=envelope, timestamps=timestamps)
    day, clock = times(ask_for_slots(sandbox))[-1].rsplit(" ", 2)[0], "09:45 PM"
    customer_id = book(sandbox, 1, clock, day=day)
    for event in webhook_events.EVENTS:
        if event not in (webhook_events.CAPTURED, webhook_events.SCHEDULED):  # these came by themselves
            sandbox.send_webhook(event, customer_id)
    sandbox.wait_webhooks()

    told = sandbox.webhooks()
    assert {row["status"] for row in told} == {200}
    events = stored(tmp_path)
    assert sorted(row["name"] for row in events) == sorted(webhook_events.EVENTS)
    assert {row["kind"] for row in events} == {*map(str, KINDS.values())} - {str(EventKind.UNKNOWN)}
    assert {row["customer_id"] for row in events} == {customer_id}
    (booking,) = sandbox.bookings()
    local = datetime.strptime(booking["time"], "%a, %d %b %Y %I:%M %p")  # noqa: DTZ007
    for row in events:
        scheduled = row["name"] in (
            webhook_events.SCHEDULED,
            webhook_events.PRESCHEDULED_NOTIFICATION,
            webhook_events.SCHEDULED_NOTIFICATION,
        )
        assert row["slot_local"] == (local.isoformat() if scheduled else None), row["name"]
        known = row["occurred_at"] is not None
        dated = envelope == "newer" or row["name"].startswith(webhook_events.OUTGOING)
        assert known == (dated or (envelope == "documented" and row["name"] != webhook_events.SCHEDULED))
        if known:
            assert abs(row["occurred_at"] - datetime.now(UTC).timestamp()) < 60
    person = {str(lead()[name]) for name in ("name", "mobile", "email")}
    assert_no_personal_data(str(events), {*person, KEY})


def test_calls_and_their_ends_arrive(
    sandbox: SandboxServer, api_server: str, conn_id: str, tmp_path: Path
) -> None:
    chances = {"successful": None, "missed": 0.3, "abandoned": 0.1, "notified": 0.5, "remark_added": 0.5}
    trouble = {"duplicate": 0.3, "reorder": 0.2, "delay": 0.2, "drop": 0.1, "delay_seconds": 0.2}
    tell(sandbox, address(api_server, conn_id), outcome_after=0.1, **chances, **trouble)
    for number, time in enumerate(times(ask_for_slots(sandbox))[-12:]):
        day, hour, half = time.rsplit(" ", 2)
        book(sandbox, number, f"{hour} {half}", day=day)
    sandbox.wait_webhooks(timeout_seconds=30)

    told = sandbox.webhooks()
    assert {row["state"] for row in told} == {"answered", "dropped"}
    once = {row["n"]: row["event"] for row in told if row["status"] == 200}
    assert Counter(row["name"] for row in stored(tmp_path)) == Counter(once.values())


def test_another_key_is_refused_and_known_to_the_oracle(
    sandbox: SandboxServer, api_server: str, conn_id: str, tmp_path: Path
) -> None:
    tell(sandbox, address(api_server, conn_id), key="another-key")
    capture(sandbox)
    sandbox.wait_webhooks()
    assert [row["status"] for row in sandbox.webhooks()] == [401]
    assert not list(tmp_path.glob("*.db"))
    tell(sandbox, address(api_server, conn_id))
    new_customer(sandbox)
    sandbox.wait_webhooks()
    assert sandbox.stats()["webhooks"]["answers"] == {"200": 1}
    assert [row["name"] for row in stored(tmp_path)] == [webhook_events.CAPTURED]
