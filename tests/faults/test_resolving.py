"""A person ends the doubts of a fault run; the next run does what follows from it."""

from __future__ import annotations

import pytest

from airflow_provider_popin.sync import admin
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.others import when
from tests.faults.world import SOURCE, World


def resolve(world: World, lead_id: str, outcome: str) -> None:
    admin.resolve(
        world.open_ledger(),
        source=SOURCE,
        lead_id=lead_id,
        generation=None,
        outcome=outcome,
        who="operator",
        why="looked it up in the dashboard",
    )


def test_a_person_ends_each_doubt_as_the_dashboard_says(make_world: MakeWorld) -> None:
    world = make_world(8)
    world.sandbox.set_faults("schedule:500_after_commit@1-4", "schedule:500_before_commit@5-8")
    world.run("dag/0/sync", max_concurrency=1)
    truth = {mark: bool(world.sandbox.bookings(lead=mark)) for mark in world.ledger.leads()}

    for mark, booked in truth.items():
        resolve(world, mark.partition("#")[0], "booked" if booked else "not-booked")
    run = world.settle()

    assert run.counts() == {"booked": 4, "skipped": 4}
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


def test_a_lead_that_was_said_to_be_not_booked_gets_a_new_seat(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.sandbox.set_faults("schedule:500")
    world.run("dag/0/sync", max_concurrency=1)

    resolve(world, "L001", "not-booked")
    check_invariants(world)
    run = world.settle()

    assert run.results == {"L001": "booked", "L002": "in_doubt"}
    check_invariants(world)


def test_what_a_person_calls_booked_is_never_sent_again(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.sandbox.set_faults("schedule:500")
    world.run("dag/0/sync")

    resolve(world, "L001", "booked")
    run = world.settle(runs=2, on_in_doubt="hold")

    assert run.results == {"L001": "skipped", "L002": "in_doubt"}
    assert not world.sandbox.bookings()
    check_invariants(world, resolved_booked={"L001#1"})


@pytest.mark.parametrize("lead", ["L001", "L003"])
def test_a_lead_that_is_forgotten_in_mid_run_is_left_alone(make_world: MakeWorld, lead: str) -> None:
    world = make_world(6)
    world.sandbox.set_faults("capture:slow_after_commit(1)@6")

    with when(
        lambda: world.sandbox.stats()["committed"]["capture"] == 6,
        lambda: admin.forget(world.open_ledger(), source=SOURCE, lead_id=lead),
    ):
        run = world.run(max_concurrency=1)

    assert run.error is None
    assert {name for name, result in run.results.items() if result != "booked"} == {lead}
    assert run.counts() == {"booked": 5, "pending": 1}
    assert not world.sandbox.bookings(lead=f"{lead}#1")
    check_invariants(world)
