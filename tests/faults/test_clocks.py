"""Clocks that jump, of the database and of the worker, in mid-run: leases and deadlines are only hints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync import booking, calendar_keeper, exchange_loop
from airflow_provider_popin.sync.ledger import schema
from tests.faults.conftest import MakeWorld, on_each_database
from tests.faults.invariants import check_invariants
from tests.faults.others import when
from tests.faults.worker import Workers

HOUR = 3600.0


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.offset = 0.0

    def jump(self, seconds: float) -> None:
        self.offset = seconds


@pytest.fixture
def database_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the offset of the database's clock, as this process is told."""
    clock, real = Clock(), schema.database_clock

    def shifted(connection: Connection) -> Any:
        return sa.text(f"({real(connection).text}) + {clock.offset}")

    monkeypatch.setattr(schema, "database_clock", shifted)
    return clock


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the offset of this process's wall clock."""
    clock = Clock()

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=clock.offset)

    for module in (calendar_keeper, booking, exchange_loop):
        monkeypatch.setattr(module, "datetime", Shifted)
    return clock


@on_each_database
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_the_databases_clock_jumps_while_two_runs_are_under_way(
    make_world: MakeWorld, workers: Workers, tmp_path: Path, database_clock: Clock, jump: float
) -> None:
    """Forward, this run sees all leases and attempts of the other as over; backward, its own are eternal."""
    world = make_world(40)
    world.sandbox.set_faults("schedule:slow_after_commit(0.03)", "capture:slow_after_commit(0.03)")
    # The other one may claim all of the leads that it knows before this one comes.
    known = world.rows[:25]
    other = workers.start(world.task(tmp_path / "other", dag_run="dag/other/sync", rows=known))

    with when(lambda: world.sandbox.stats()["committed"]["capture"] > 8, lambda: database_clock.jump(jump)):
        world.run("dag/own/sync")

    assert other.wait() in (0, 1)
    world.take_over(other)
    database_clock.jump(0)
    check_invariants(world, interrupted=8, at_rest=False)
    world.ledger.let_time_pass()
    world.ledger.let_time_pass()
    world.settle(runs=2)
    check_invariants(world, interrupted=8)
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt"}


@pytest.mark.parametrize("jump", [30 * 24 * HOUR, -30 * 24 * HOUR, 24 * HOUR, -HOUR])
def test_the_workers_clock_jumps_in_mid_run(make_world: MakeWorld, wall_clock: Clock, jump: float) -> None:
    world = make_world(12)
    world.sandbox.set_faults("schedule:slow_after_commit(0.08)")

    with when(lambda: len(world.sandbox.bookings()) > 2, lambda: wall_clock.jump(jump)):
        run = world.run(max_concurrency=1)

    assert run.error is None
    assert set(run.results.values()) <= {"booked", "unassigned"}
    check_invariants(world)
    if jump > 7 * 24 * HOUR:
        assert "unassigned" in run.results.values(), "every slot looked past"
        assert "no_slot_in_window" in run.reasons.values() or "no_slots_open" in run.reasons.values()
    wall_clock.jump(0)
    world.settle()
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


def test_a_clock_that_is_wrong_from_the_start_books_nothing_too_soon(
    make_world: MakeWorld, wall_clock: Clock
) -> None:
    world = make_world(3)
    wall_clock.jump(2 * 24 * HOUR)

    run = world.run()

    assert set(run.results.values()) == {"booked"}
    soonest = min(datetime.fromisoformat(row["start"]) for row in world.sandbox.bookings())
    assert soonest - datetime.now(UTC) > timedelta(days=2)
    check_invariants(world)
