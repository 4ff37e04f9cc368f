"""Bookings whose answer was lost are told by webhook: the doubt ends where Popin has a call, and only there.

The sandbox's oracle knows which bookings exist. Nothing but its webhooks tells the ledger.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox.rows import BookingRow
from airflow_provider_popin.sandbox.server import SandboxServer
from tests import privacy
from tests.faults.conftest import MakeWorld, on_each_database
from tests.faults.invariants import check_invariants
from tests.faults.people import values_of
from tests.faults.post_office import KEY, PostOffice
from tests.faults.test_mixed_faults import faults_with_much_of
from tests.faults.test_outcome_table import NOT_COMMITTED, SLOW, UNKNOWN, lead_of
from tests.faults.worker import Workers
from tests.faults.world import World

# The slow ones only take their time here.
LOST = [fault for fault in UNKNOWN if fault not in SLOW]
OUTCOMES = {"popin_call_successful", "popin_call_missed", "popin_call_abandoned"}


@pytest.fixture
def held(make_world: MakeWorld) -> Iterator[PostOffice]:
    """A post office that keeps everybody waiting until it is opened; it closes before the ledger does."""
    with PostOffice(held=True) as office:
        yield office


@pytest.fixture
def live(make_world: MakeWorld) -> Iterator[PostOffice]:
    """A post office that takes and processes while the runs go on; it closes before the ledger does."""
    with PostOffice(processing=True) as office:
        yield office


def begin(sandbox: SandboxServer, office: PostOffice, make_world: MakeWorld, leads: int, **how: Any) -> World:
    """A scenario whose sandbox tells the post office; `webhooks` are settings of theirs."""
    sandbox.reset(webhooks=office.tells(**how.pop("webhooks", {})))
    world = make_world(leads, **how)
    office.serve(world)
    return world


def check_against_the_oracle(world: World, told: set[str], *, interrupted: int = 0) -> None:
    """Of the calls told, each is booked in the ledger, at its time and for its customer.

    :param interrupted: see `check_invariants`
    """
    check_invariants(world, interrupted=interrupted, private=False)
    privacy.assert_no_personal_data(
        "\n".join([*world.log, world.ledger.dump(), *dump_events(world)]),
        {*values_of(world.all_rows), world.config.api_key, KEY},
    )
    by_lead = {str(booking["lead"]): booking for booking in world.sandbox.bookings()}
    for mark, lead in world.ledger.leads().items():
        if lead["booking_state"] == "booked":
            assert lead["slot_start"] == start_of(by_lead[mark])
            assert lead["customer_id"] == by_lead[mark]["customer_id"]
        assert not lead["alarm"], f"{mark}: nothing contradicted anything"
    booked = {mark for mark, state in world.ledger.ended().items() if state == "booked"}
    assert told <= booked, "a call that was told of is still in doubt"


def told_of(world: World) -> set[str]:
    """The leads whose booking was told and taken."""
    rows = world.sandbox.webhooks(event="popin_scheduled_created", state="answered")
    assert {row["status"] for row in rows} <= {200}
    return {str(row["lead"]) for row in rows}


def dump_events(world: World) -> list[str]:
    """Everything in the tables of what was told."""
    return [str(row) for name in ("popin_events", "popin_outbox") for row in world.ledger.rows(name)]


def start_of(booking: BookingRow) -> int:
    """Epoch seconds of a booking's slot."""
    return int(datetime.fromisoformat(booking["start"]).timestamp())


def test_doubts_end_where_a_call_exists_and_nowhere_else(
    sandbox: SandboxServer, held: PostOffice, make_world: MakeWorld
) -> None:
    world = begin(sandbox, held, make_world, len(LOST) + 1)
    sandbox.set_faults(*(f"schedule:{fault}@{i + 1}" for i, fault in enumerate(LOST)))
    run = world.run(max_concurrency=1)
    assert run.counts() == {"in_doubt": len(LOST), "booked": 1}

    held.open()

    states = world.ledger.ended()
    expected = {
        f"{lead_of(i)}#1": "in_doubt" if fault in NOT_COMMITTED else "booked" for i, fault in enumerate(LOST)
    }
    assert states == {**expected, f"{lead_of(len(LOST))}#1": "booked"}
    check_against_the_oracle(world, told_of(world))
    # The next run leaves them alone, and books nobody again.
    again = world.settle()
    assert again.counts() == {
        "skipped": 1 + len(LOST) - len(NOT_COMMITTED.intersection(LOST)),
        "in_doubt": len(NOT_COMMITTED.intersection(LOST)),
    }
    check_against_the_oracle(world, told_of(world))


@on_each_database
def test_what_is_told_while_runs_go_on_is_right(
    sandbox: SandboxServer, live: PostOffice, make_world: MakeWorld
) -> None:
    trouble = {"duplicate": 0.3, "delay": 0.3, "reorder": 0.2, "drop": 0.2, "delay_seconds": 0.2}
    world = begin(sandbox, live, make_world, 40, webhooks=trouble)
    sandbox.set_faults(*faults_with_much_of("500_after_commit"), seed=0)

    for number in range(2):
        world.run(f"dag/{number}/sync", max_concurrency=8)
    world.settle()
    live.settle()

    check_against_the_oracle(world, told_of(world))
    states = world.ledger.ended()
    exist = {str(booking["lead"]) for booking in sandbox.bookings()}
    ended = [row["kind"] for row in world.ledger.rows("popin_history") if row["who"] == "webhook"]
    assert "resolved_booked" in ended, "the faults of this seed leave no doubt to be ended"
    # What is left in doubt either does not exist, or its webhook was dropped.
    left = {mark for mark, state in states.items() if state == "in_doubt"}
    dropped = sandbox.webhooks(event="popin_scheduled_created", state="dropped")
    assert left & exist <= {str(row["lead"]) for row in dropped}


def test_a_booking_told_before_its_answer_is_lost_is_never_in_doubt(
    sandbox: SandboxServer, live: PostOffice, make_world: MakeWorld
) -> None:
    world = begin(sandbox, live, make_world, 4, timeout_seconds=3.0)
    sandbox.set_faults("schedule:slow_after_commit(4)")

    run = world.run(max_concurrency=4)
    live.settle()

    # The webhook came while the ledger was waiting for the answer.
    assert run.counts() == {"booked": 4}
    assert set(world.ledger.ended().values()) == {"booked"}
    check_against_the_oracle(world, told_of(world))


@pytest.mark.parametrize("expired", [False, True])
def test_doubts_of_a_killed_process_end_too(
    sandbox: SandboxServer,
    held: PostOffice,
    make_world: MakeWorld,
    workers: Workers,
    tmp_path: Path,
    expired: bool,
) -> None:
    world = begin(sandbox, held, make_world, 9)
    killed = world.task(tmp_path / "killed", signal_at=("schedule:answered", 4), max_concurrency=3)
    worker = workers.start(killed)
    assert worker.wait() == -signal.SIGKILL
    world.take_over(worker)
    sandbox.wait_idle()
    open_ones = world.ledger.sending()
    assert open_ones
    exist = {str(booking["lead"]) for booking in sandbox.bookings()}

    # Word may come while the attempts still count as under way, or after their deadline.
    if expired:
        world.ledger.let_time_pass()
    held.open()
    world.settle(max_concurrency=3)
    held.settle()

    states = world.ledger.ended()
    assert {mark: states[mark] for mark in open_ones} == {
        mark: "booked" if mark in exist else "in_doubt" for mark in open_ones
    }
    check_against_the_oracle(world, told_of(world), interrupted=3)


def test_outcomes_go_to_the_calls_that_they_are_of(
    sandbox: SandboxServer, held: PostOffice, make_world: MakeWorld
) -> None:
    shares = {"successful": 0.4, "missed": 0.2, "abandoned": 0.2}
    world = begin(sandbox, held, make_world, 30, webhooks=shares)
    sandbox.set_faults("schedule:500_after_commit=0.3", "schedule:500_before_commit=0.2", seed=3)
    # One after the other: then the sandbox's dice fall the same way every time.
    world.run(max_concurrency=1)

    held.open()

    told = {
        str(row["lead"]): row["event"].removeprefix("popin_call_")
        for row in sandbox.webhooks()
        if row["event"] in OUTCOMES
    }
    found = {mark: lead["outcome"] for mark, lead in world.ledger.leads().items() if lead["outcome"]}
    assert found == told
    assert len(set(told.values())) == 3
    assert 0 < len(told) < len(sandbox.bookings()), "of some calls nothing is told"
    check_against_the_oracle(world, told_of(world))


def test_every_webhook_is_one_event_however_often_it_comes(
    sandbox: SandboxServer, live: PostOffice, make_world: MakeWorld
) -> None:
    certain = dict.fromkeys(("notified", "missed", "missed_notified", "remark_added"), 1.0)
    always = {**certain, "abandoned": 0.0, "duplicate": 1.0}
    world = begin(sandbox, live, make_world, 5, webhooks=always)
    world.run()
    live.settle()
    customers = [str(customer["customer_id"]) for customer in sandbox.customers()]
    sandbox.send_webhook("popin_outgoing_call_initiated", customers[0])
    sandbox.send_webhook("popin_call_rated", customers[1])
    live.settle()

    sent = {row["n"]: row["event"] for row in sandbox.webhooks() if row["status"] == 200}
    stored = Counter(row["name"] for row in world.ledger.rows("popin_events"))
    assert stored == Counter(sent.values())
    assert len(sandbox.webhooks()) == 2 * len(sent)
    check_against_the_oracle(world, told_of(world))
