"""Stopped from outside: within Airflow's five seconds, with everything committed that is known."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_popin.sync import engine, exchange_loop
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.errors import SyncStoppedError
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.others import when
from tests.faults.people import Row, lead_row
from tests.faults.world import Run, World, kept_logs

# What a stop must not wait for takes longer than this, and a busy machine needs less for the stop. That it
# fits into the five seconds that Airflow grants is tested under a real supervisor.
WAITED_SECONDS = 12.0


class Terminated(BaseException):
    """What Airflow raises in the task's thread on SIGTERM, and at a timeout of the task."""


@pytest.fixture
def short_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_loop, "DRAIN_SECONDS", 0.3)
    monkeypatch.setattr(engine, "STOP_SECONDS", 70.0)


@pytest.fixture
def long_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_loop, "DRAIN_SECONDS", 60.0)
    monkeypatch.setattr(engine, "STOP_SECONDS", 70.0)


@pytest.fixture
def _signal_terminates() -> Iterator[None]:
    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGUSR1, terminate)
    yield
    signal.signal(signal.SIGUSR1, before)


@contextmanager
def stopped_when(world: World, sync: LeadSync, condition: Callable[[], object]) -> Iterator[list[float]]:
    """Stop a run as soon as a condition holds; yields a list that gets the moment."""
    moments: list[float] = []

    def stop() -> None:
        moments.append(time.monotonic())
        sync.stop("the task was killed")

    with when(condition, stop):
        yield moments


def run_and_stop(
    world: World, condition: Callable[[], object], rows: Iterator[Row] | None = None, **settings: Any
) -> tuple[Run, float]:
    """Run until a condition holds, stop, and return how long that took."""
    run = Run(rows=None)
    world.runs.append(run)
    sync = world.sync(run, **settings)
    with kept_logs(world.log), stopped_when(world, sync, condition) as moments:
        try:
            sync.run(iter(world.rows) if rows is None else rows)
        except SyncStoppedError as error:
            run.error = error
        ended = time.monotonic()
    assert isinstance(run.error, SyncStoppedError)
    assert "killed" in str(run.error)
    return run, ended - moments[0]


@pytest.mark.usefixtures("long_drain")
@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
def test_answers_that_come_in_time_are_kept(make_world: MakeWorld, endpoint: str) -> None:
    world = make_world(12)
    world.sandbox.set_faults(f"{endpoint}:slow_after_commit(1)")

    _, seconds = run_and_stop(
        world, lambda: world.sandbox.stats()["committed"][endpoint] == 4, max_concurrency=4
    )

    assert seconds < exchange_loop.DRAIN_SECONDS
    done = "captured" if endpoint == "capture" else "booked"
    ended = list(world.ledger.ended().values())
    assert ended.count(done) == 4
    assert set(ended) <= {"new", "captured", "booked"}
    check_invariants(world)
    world.settle()
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
def test_what_is_unanswered_after_three_seconds_is_in_doubt(
    make_world: MakeWorld, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "STOP_SECONDS", 70.0)
    world = make_world(8, timeout_seconds=20)
    world.sandbox.set_faults(f"{endpoint}:slow_after_commit(15)@2-")

    _, seconds = run_and_stop(
        world, lambda: world.sandbox.stats()["committed"][endpoint] >= 5, max_concurrency=4
    )

    assert 2.5 < seconds < WAITED_SECONDS
    ended = list(world.ledger.ended().values())
    assert ended.count("in_doubt") == 4
    assert not world.ledger.live_owners()
    world.sandbox.set_faults()
    world.sandbox.reset() if endpoint == "capture" else world.sandbox.wait_idle()
    if endpoint == "schedule":
        check_invariants(world, interrupted=4)


@pytest.mark.usefixtures("_signal_terminates")
@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
@pytest.mark.parametrize("in_time", [True, False])
def test_an_exception_in_the_waiting_thread_stops_the_run_in_order(
    make_world: MakeWorld, endpoint: str, in_time: bool, request: pytest.FixtureRequest
) -> None:
    """SIGTERM on Airflow 2, a task timeout on any: the exception lands wherever the main thread is."""
    request.getfixturevalue("long_drain" if in_time else "short_drain")
    world = make_world(12)
    # Long enough for the signal to come while the first four are under way, on a machine that has much else
    # to do.
    world.sandbox.set_faults(f"{endpoint}:slow_after_commit({1.0 if in_time else 4.0})")

    with when(
        lambda: world.sandbox.stats()["committed"][endpoint] == 4,
        lambda: os.kill(os.getpid(), signal.SIGUSR1),
    ):
        run = world.run(max_concurrency=4, raises=Terminated)

    assert isinstance(run.error, Terminated)
    assert run.lines is None
    ended = list(world.ledger.ended().values())
    done = "captured" if endpoint == "capture" else "booked"
    assert ended.count(done if in_time else "in_doubt") == 4
    check_invariants(world, interrupted=4)
    world.settle()
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt"}
    check_invariants(world, interrupted=4)


@pytest.mark.parametrize("error", [Terminated, KeyboardInterrupt, ValueError])
def test_a_source_that_raises_in_mid_read_loses_nothing(
    make_world: MakeWorld, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(30)
    closed = []

    def source() -> Iterator[Row]:
        try:
            yield from world.rows
            yield from [{} for _ in range(300)]
            raise error("the CRM is gone")
        finally:
            closed.append(True)

    run = world.run(rows=source(), raises=error, max_concurrency=4)

    assert isinstance(run.error, error)
    assert closed == [True]
    assert not world.sandbox.bookings()
    assert set(world.ledger.ended().values()) <= {"captured", "new"}
    check_invariants(world)
    assert set(world.settle().results.values()) == {"booked"}
    check_invariants(world)


def test_a_stop_does_not_read_an_endless_source_to_its_end(make_world: MakeWorld) -> None:
    world = make_world(0)
    closed = []

    def source() -> Iterator[Row]:
        try:
            number = 0
            while True:
                number += 1
                yield lead_row(number % 90_000, lead_id=f"E{number}")
        finally:
            closed.append(True)

    _, seconds = run_and_stop(
        world, lambda: world.sandbox.stats()["committed"]["capture"], rows=source(), limit=20
    )

    assert seconds < WAITED_SECONDS
    assert closed == [True]
    check_invariants(world)


@pytest.mark.usefixtures("short_drain")
@pytest.mark.parametrize("which", [1, 2])
def test_a_stop_does_not_wait_for_a_list_of_slots(make_world: MakeWorld, which: int) -> None:
    world = make_world(3, timeout_seconds=90)
    world.sandbox.set_faults(f"slots:slow_before_commit(60)@{which}")

    _, seconds = run_and_stop(world, lambda: world.sandbox.stats()["requests"]["slots"] >= which)

    assert seconds < WAITED_SECONDS
    assert not world.sandbox.requests(endpoint="schedule")
    world.sandbox.reset()
    assert not world.ledger.live_owners()


def test_a_run_that_was_stopped_before_it_began_sends_nothing(make_world: MakeWorld) -> None:
    world = make_world(3)
    run = Run(rows=None)
    sync = world.sync(run)

    sync.stop("too early")

    with pytest.raises(SyncStoppedError, match="too early"):
        sync.run(iter(world.rows))
    assert not world.sandbox.requests(endpoint="capture")
    check_invariants(world)


def test_a_stop_does_not_wait_for_somebody_who_locks_the_ledger(make_world: MakeWorld) -> None:
    world = make_world(8)
    world.sandbox.set_faults("schedule:slow_after_commit(0.2)")
    path = world.ledger_url.removeprefix("sqlite:///")
    locker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    released = threading.Timer(60, lambda: locker.execute("ROLLBACK"))

    def lock_and_stop() -> bool:
        if not world.sandbox.bookings():
            return False
        locker.execute("BEGIN EXCLUSIVE")
        released.start()
        return True

    run_and_stop(world, lock_and_stop, max_concurrency=2)

    assert released.is_alive(), "it waited for the lock"
    released.cancel()
    locker.close()
    world.settle()
    check_invariants(world, interrupted=2)
