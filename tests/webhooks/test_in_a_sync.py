"""Webhooks that wait count at the start and at the end of every lead sync."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.faults.conftest import MakeWorld, _short_waits, ledger_url, make_world, on_each_database
from tests.faults.invariants import check_invariants
from tests.faults.world import World
from tests.webhooks.deliveries import body, deliver, scheduled

__all__ = ["_short_waits", "ledger_url", "make_world"]


def webhook_of(booking: Mapping[str, Any], **more: Any) -> bytes:
    """What Popin would tell of a booking of the sandbox's oracle."""
    user_id = base64.b64decode(str(booking["customer_id"])).decode()
    start = datetime.fromisoformat(str(booking["start"])).timestamp()
    return scheduled(start, user_id, zone="Asia/Kolkata", **more)


def tell_all(world: World, ledger: Ledger) -> None:
    bookings: list[Any] = list(world.sandbox.bookings())
    deliver(ledger, *(webhook_of(booking) for booking in bookings), account=world.config.account_key)


@on_each_database
def test_evidence_ends_exactly_the_doubts_about_calls_that_exist(
    sandbox: SandboxServer, make_world: MakeWorld
) -> None:
    world = make_world(24)
    sandbox.set_faults(
        "schedule:500_after_commit=0.3",
        "schedule:500_before_commit=0.3",
        "capture:500_after_commit=0.1",
        seed=7,
    )
    world.run("dag/0/sync", max_concurrency=4)
    sandbox.set_faults()
    exist = {str(booking["lead"]) for booking in sandbox.bookings()}
    doubted = {mark for mark, (_, state) in world.ledger.states().items() if state == "in_doubt"}
    assert doubted & exist, "the faults left no doubt about a call that exists"
    assert doubted - exist, "the faults left no doubt about a call that does not exist"

    tell_all(world, world.open_ledger())
    report = world.run("dag/1/sync").report

    assert report is not None
    states = {mark: state for mark, (_, state) in world.ledger.states().items()}
    assert {mark for mark in doubted if states[mark] == "booked"} == doubted & exist
    assert {mark for mark in doubted if states[mark] == "in_doubt"} == doubted - exist
    assert report.in_doubt_open == len(doubted - exist)
    assert report.alarms == 0
    check_invariants(world)


def test_what_comes_while_a_run_is_under_way_counts_in_its_report(
    sandbox: SandboxServer, make_world: MakeWorld
) -> None:
    world = make_world(6)
    ledger = world.open_ledger()
    sandbox.set_faults("schedule:500_after_commit")

    def rows() -> Iterator[Mapping[str, object]]:
        yield from world.rows

    told: list[int] = []

    def tell(batch: object) -> None:
        told.append(1)

    sync_run = world.run("dag/0/sync", rows=rows(), write_back=tell)
    assert sync_run.counts() == {"in_doubt": 6}
    tell_all(world, ledger)
    # Nobody processes them between the runs.
    with ledger.read() as connection:
        waiting = connection.execute(sa.select(tables.events.c.status)).scalars().all()
    assert set(waiting) == {"waiting"}
    sandbox.set_faults()
    again = world.run("dag/1/sync")
    assert again.counts() == {"skipped": 6}
    assert len(sandbox.bookings()) == 6


def test_at_the_end_of_a_run_too(
    sandbox: SandboxServer, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_popin.sync.session import Session

    world = make_world(3)
    ledger = world.open_ledger()
    sandbox.set_faults("schedule:500_after_commit")
    real: Callable[[Session], Any] = Session.book

    async def book_then_hear(session: Session) -> None:
        await real(session)
        await asyncio.to_thread(tell_all, world, ledger)

    monkeypatch.setattr(Session, "book", book_then_hear)
    run = world.run("dag/0/sync")
    # The doubts of this run ended in this run: its report and its results know of none.
    assert run.counts() == {"booked": 3}
    assert run.report is not None
    assert (run.report.in_doubt_open, run.report.in_doubt_this_run) == (0, 0)
    check_invariants(world)


def test_a_resend_is_not_sent_where_a_webhook_waits(sandbox: SandboxServer, make_world: MakeWorld) -> None:
    world = make_world(4)
    sandbox.set_faults("schedule:500_after_commit")
    world.run("dag/0/sync")
    tell_all(world, world.open_ledger())
    sandbox.set_faults()
    run = world.run("dag/1/sync", on_in_doubt="resend")
    assert run.counts() == {"skipped": 4}
    assert len(sandbox.bookings()) == 4


def test_nothing_personal_of_a_webhook_is_in_the_ledger(
    sandbox: SandboxServer, make_world: MakeWorld
) -> None:
    from tests.privacy import assert_no_personal_data
    from tests.sync.ledgers import dump
    from tests.webhooks.deliveries import PERSON

    world = make_world(2)
    world.run("dag/0/sync")
    ledger = world.open_ledger()
    tell_all(world, ledger)
    deliver(ledger, body("popin_call_rated", "999", comments=f"ask {PERSON['name']} at {PERSON['mobile']}"))
    world.run("dag/1/sync")
    assert_no_personal_data(dump(ledger), PERSON.values())
