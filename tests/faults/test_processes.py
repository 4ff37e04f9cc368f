"""Several processes on one ledger: at once, killed at any time, paused, and coming back."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import MakeWorld, on_each_database
from tests.faults.invariants import check_invariants
from tests.faults.people import lead_rows
from tests.faults.test_mixed_faults import faults_with_much_of
from tests.faults.worker import Worker, Workers

CONCURRENCY = 4
KILL_SECONDS = 3.0


@on_each_database
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_at_once_share_the_leads(
    make_world: MakeWorld, workers: Workers, tmp_path: Path, processes: int
) -> None:
    world = make_world(60)

    running = [
        workers.start(world.task(tmp_path / str(number), dag_run=f"dag/{number}/sync"))
        for number in range(processes)
    ]

    assert [worker.wait() for worker in running] == [0] * processes
    for worker in running:
        world.take_over(worker)
    assert world.sandbox.stats()["customers_per_lead_max"] == 1
    check_invariants(world)
    world.settle()
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


@on_each_database
def test_processes_at_once_under_faults_keep_the_promise(
    make_world: MakeWorld, workers: Workers, tmp_path: Path
) -> None:
    world = make_world(40)
    world.sandbox.set_faults(*faults_with_much_of("422(time)"), seed=5)

    running = [
        workers.start(world.task(tmp_path / str(number), dag_run=f"dag/{number % 2}/sync"))
        for number in range(3)
    ]

    for worker in running:
        assert worker.wait() in (0, 1)
        world.take_over(worker)
    check_invariants(world)
    world.settle(runs=2)
    check_invariants(world)
    assert set(world.ledger.ended().values()) <= {"booked", "rejected", "in_doubt"}


@on_each_database
def test_processes_that_are_killed_at_any_time_book_nobody_twice(
    make_world: MakeWorld, workers: Workers, tmp_path: Path
) -> None:
    world = make_world(0)
    world.sandbox.reset(latency_ms=3, seats_per_slot=3)
    dice = random.Random(20261123)
    kills = rounds = 0
    ends = time.monotonic() + KILL_SECONDS

    while time.monotonic() < ends:
        rounds += 1
        world.rows = [*lead_rows(20 * rounds)]
        world.sandbox.set_faults(*faults_with_much_of("500_after_commit"), seed=rounds)
        running: list[Worker] = []
        for _ in range(dice.choice([1, 1, 2])):
            folder = tmp_path / f"{rounds}-{len(running)}"
            # Two workers of one Dag run: a retry that began while the first try was still alive.
            task = world.task(folder, dag_run=f"dag/{rounds}/sync", calls_per_slot=3)
            running.append(workers.start(task))
            time.sleep(dice.uniform(0.05, 0.25))
        for worker in running:
            worker.send(signal.SIGKILL)
            kills += worker.wait() == -signal.SIGKILL
            world.take_over(worker)
        interrupted = kills * CONCURRENCY
        check_invariants(world, interrupted=interrupted, at_rest=False, calls_per_slot=3, private=False)
        world.ledger.let_time_pass()

    assert kills > rounds / 2
    world.all_rows = world.rows[:100]
    world.settle(runs=2, calls_per_slot=3)
    check_invariants(world, interrupted=kills * CONCURRENCY, calls_per_slot=3)
    assert set(world.ledger.ended().values()) <= {"booked", "rejected", "in_doubt"}


def test_sigterm_ends_a_process_early_with_everything_committed(
    make_world: MakeWorld, workers: Workers, tmp_path: Path
) -> None:
    world = make_world(200)
    world.sandbox.set_faults("schedule:slow_after_commit(0.5)")
    worker = workers.start(world.task(tmp_path / "stopped", max_concurrency=1))
    while not world.sandbox.bookings():
        time.sleep(0.01)

    worker.send(signal.SIGTERM)
    asked = time.monotonic()

    assert worker.wait() == 1
    assert time.monotonic() - asked < 60, "it went on to the end"
    assert "SIGTERM" in worker.told()
    world.take_over(worker)
    assert "in_doubt" not in world.ledger.ended().values()
    check_invariants(world, private=False)
    world.settle()
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world, private=False)


@pytest.mark.parametrize(
    "step", ["intent.booking:committed", "schedule:unsent", "intent.capture:committed", "capture:unsent"]
)
def test_a_process_that_was_paused_beyond_its_deadline_does_not_send(
    make_world: MakeWorld, workers: Workers, tmp_path: Path, step: str
) -> None:
    """A stopped container, a suspended laptop: when it comes back, another run has acted on its attempt."""
    # Before the connection the sender looks at the clock; after it, the body does.
    world = make_world(4, connect_timeout_seconds=0.1 if "unsent" in step else 5.0)
    worker = workers.start(
        world.task(
            tmp_path / "paused",
            dag_run="dag/paused/sync",
            max_concurrency=1,
            signal_at=(step, 2),
            signal_number=signal.SIGSTOP,
            latest_send_seconds=0.2,
        )
    )
    worker.wait_stopped()
    paused = {mark for mark, states in world.ledger.states().items() if "sending" in states}
    assert len(paused) == 1
    time.sleep(0.4)
    world.ledger.let_time_pass()

    other = world.run("dag/other/sync")
    worker.send(signal.SIGCONT)
    assert worker.wait() == 0
    world.take_over(worker)

    endpoint = "schedule" if "booking" in step or "schedule" in step else "capture"
    lead = paused.pop()
    if endpoint == "schedule":
        assert other.results[lead.partition("#")[0]] == "in_doubt"
        assert not world.sandbox.requests(endpoint="schedule", lead=lead)
    else:
        # The other run registered the lead; the one that came back did not do it a second time.
        assert len(world.sandbox.requests(endpoint="capture", lead=lead)) == 1
    check_invariants(world, interrupted=1)
    world.settle()
    check_invariants(world, interrupted=1)


def test_a_process_that_was_paused_for_a_moment_sends_later(
    make_world: MakeWorld, workers: Workers, tmp_path: Path
) -> None:
    """Nobody has acted on its attempt meanwhile: it is planned again, and nothing is in doubt."""
    world = make_world(4, connect_timeout_seconds=0.1)
    worker = workers.start(
        world.task(
            tmp_path / "paused",
            max_concurrency=1,
            signal_at=("schedule:unsent", 2),
            signal_number=signal.SIGSTOP,
            latest_send_seconds=0.2,
        )
    )
    worker.wait_stopped()
    time.sleep(0.4)

    worker.send(signal.SIGCONT)

    assert worker.wait() == 0
    assert set(world.take_over(worker).results.values()) == {"booked"}
    check_invariants(world)


def test_a_process_whose_leads_were_taken_over_while_it_was_paused_leaves_them_alone(
    make_world: MakeWorld, workers: Workers, tmp_path: Path
) -> None:
    """Both have planned the same leads, and neither has sent: only the one that holds the claims may."""
    world = make_world(3)
    paused = []
    for name in ("early", "late"):
        task = world.task(
            tmp_path / name,
            dag_run=f"dag/{name}/sync",
            max_concurrency=1,
            signal_at=("planned:committed", 1),
            signal_number=signal.SIGSTOP,
        )
        paused.append(workers.start(task))
        paused[-1].wait_stopped()
        if name == "early":
            world.ledger.let_time_pass()
    early, late = paused

    early.send(signal.SIGCONT)
    assert early.wait() == 0
    assert not world.sandbox.requests(endpoint="schedule")
    late.send(signal.SIGCONT)
    assert late.wait() == 0

    assert set(world.take_over(early).results.values()) == {"pending"}
    assert set(world.take_over(late).results.values()) == {"booked"}
    check_invariants(world)
