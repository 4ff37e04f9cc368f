"""No silent green: what a Dag run did that a person must look at is told by it, whatever else happened."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import MakeWorld, on_each_database
from tests.faults.invariants import check_invariants
from tests.faults.people import lead_row
from tests.faults.worker import Workers
from tests.faults.world import Run, World


def problems(world: World, run: Run) -> str:
    """Why a run that allows no doubt is not green."""
    assert run.report is not None
    return "\n".join(run.report.problems(world.settings(max_in_doubt=0)))


@on_each_database
@pytest.mark.parametrize(
    ("fault", "told"),
    [("wrong_time", "3 bookings were confirmed"), ("500_after_commit", "3 bookings are in doubt")],
)
def test_leads_that_the_read_did_not_contain(make_world: MakeWorld, fault: str, told: str) -> None:
    world = make_world(3)
    world.run("dag/0/sync", steps=("capture",))
    world.sandbox.set_faults(f"schedule:{fault}")

    run = world.run("dag/1/sync", rows=[], carry_over=True)

    assert told in problems(world, run)
    assert "leads: L001, L002, L003" in problems(world, run)
    check_invariants(world)


def test_leads_that_vanished_between_two_tries(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.sandbox.set_faults("schedule:wrong_time@1", "schedule:500_after_commit@2")

    def fail(_: object) -> None:
        raise RuntimeError("the CRM is away")

    world.run("dag/0/sync", write_back=fail, max_concurrency=1, raises=RuntimeError)
    run = world.run("dag/0/sync", try_number=2, rows=[])

    assert "1 bookings were confirmed for another time than was asked for; leads: L001" in problems(
        world, run
    )
    assert "1 bookings are in doubt (max_in_doubt=0); leads: L002" in problems(world, run)
    assert any("L001" in line and "another time" in line for line in world.log)
    check_invariants(world)


def test_a_resend_that_is_lost_as_well(make_world: MakeWorld) -> None:
    world = make_world(6)
    world.sandbox.set_faults("schedule:500_before_commit")
    options: dict[str, Any] = {"max_concurrency": 1, "max_in_doubt": 0}
    first = world.run("dag/0/sync", **options)
    second = world.run("dag/1/sync", on_in_doubt="resend", **options)
    third = world.run("dag/2/sync", on_in_doubt="resend", max_in_doubt=0, rows=world.rows[:1])

    for run in (first, second):
        assert "1 bookings are in doubt (max_in_doubt=0); leads: L001" in problems(world, run)
    # It is sent again once, and what the second run told need not be told again.
    assert not problems(world, third)
    assert third.report is not None
    assert third.report.in_doubt_open == 1
    check_invariants(world)


def test_a_booking_that_a_killed_try_left_under_way_just_now(
    make_world: MakeWorld, workers: Workers, tmp_path: Path
) -> None:
    """Whether it is in doubt is known when its deadline is over; by then this Dag run has ended."""
    world = make_world(3)
    task = world.task(
        tmp_path / "killed",
        dag_run="dag/0/sync",
        signal_at=["intent.booking:committed", 1],
        max_concurrency=1,
    )
    workers.start(task).wait()

    run = world.run("dag/0/sync", try_number=2)

    assert run.results == {"L001": "pending", "L002": "booked", "L003": "booked"}
    assert "1 bookings are in doubt (max_in_doubt=0); leads: L001" in problems(world, run)
    check_invariants(world, interrupted=1, at_rest=False)


def test_a_resend_keeps_its_instant_and_the_notice(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.sandbox.set_faults("schedule:500_before_commit")
    world.run("dag/0/sync")
    world.sandbox.set_faults()

    late = world.run("dag/1/sync", on_in_doubt="resend", min_notice=timedelta(days=20))
    world.sandbox.set_faults("slots:timezone_change")
    moved = world.run("dag/2/sync", on_in_doubt="resend")

    assert set(late.results.values()) == set(moved.results.values()) == {"in_doubt"}
    assert len(world.sandbox.requests(endpoint="schedule")) == 2


def test_a_lead_whose_row_is_unusable_is_not_carried_over(make_world: MakeWorld) -> None:
    world = make_world([lead_row(1)])
    world.run("dag/0/sync", steps=("capture",))

    run = world.run("dag/1/sync", rows=[lead_row(1) | {"generation": "abc"}], carry_over=True)

    assert run.counts() == {"rejected": 1}
    assert run.report is not None
    assert (run.report.carried_over, run.report.unfinished_absent) == (0, 0)
    assert not world.sandbox.bookings()
    check_invariants(world)


def test_a_dry_run_tells_of_open_doubts(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.sandbox.set_faults("schedule:500_after_commit@1")
    world.run("dag/0/sync")

    run = world.run("dag/1/sync", dry_run=True)

    assert run.report is not None
    assert run.report.in_doubt_open == 1
