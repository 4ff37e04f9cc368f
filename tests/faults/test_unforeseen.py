"""What nobody foresaw, where it hurts; and the quiet helpers of a run: its lease and its list of slots."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client import outcomes
from airflow_provider_popin.client.errors import PopinAccessError
from airflow_provider_popin.client.exchange import Endpoint
from airflow_provider_popin.sync import booking, calendar_keeper, exchange_loop, session
from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError, SyncStoppedError
from airflow_provider_popin.sync.ledger import leases
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.planning import planner
from tests.faults.checkpoints import checkpoints
from tests.faults.conftest import MakeWorld, on_each_database
from tests.faults.invariants import check_invariants
from tests.faults.others import when
from tests.faults.world import Run


class UnforeseenError(Exception):
    """A bug."""


@pytest.mark.parametrize("endpoint", [Endpoint.CAPTURE, Endpoint.SCHEDULE])
def test_an_unforeseen_error_after_a_post_leaves_a_doubt_and_stops_the_run(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    world = make_world(8)
    calls: list[Endpoint] = []

    def classify(asked: Endpoint, *args: Any, **kwargs: Any) -> Any:
        if asked is endpoint:
            calls.append(asked)
            if len(calls) == 3:
                raise UnforeseenError("what is this?")
        return outcomes.classify(asked, *args, **kwargs)

    monkeypatch.setattr(exchange_loop, "classify", classify)
    run = world.run(max_concurrency=2, raises=UnforeseenError)

    assert isinstance(run.error, UnforeseenError)
    ended = list(world.ledger.ended().values())
    assert ended.count("in_doubt") == 1
    assert "unforeseen UnforeseenError" in {lead["reason"] for lead in world.ledger.leads().values()}
    check_invariants(world, interrupted=1)
    monkeypatch.setattr(exchange_loop, "classify", outcomes.classify)
    world.settle(runs=2)
    check_invariants(world, interrupted=1)
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt"}


@pytest.mark.parametrize(
    "step", ["intent.capture", "settled.capture.success", "intent.booking", "settled.booking.success"]
)
def test_a_database_that_refuses_a_statement_stops_the_run(make_world: MakeWorld, step: str) -> None:
    """Not unreachable: the same statement would be refused again, so nothing is tried twice."""
    world = make_world(8)
    refused: list[str] = []

    def reach(name: str) -> None:
        if name == f"{step}:uncommitted" and len(refused) < 50:
            refused.append(name)
            raise LedgerError("the ledger's database answered: no such column")

    with checkpoints(reach):
        run = world.run(max_concurrency=2)

    assert isinstance(run.error, LedgerError)
    assert not isinstance(run.error, LedgerUnreachableError)
    assert run.lines is None
    world.ledger.let_time_pass()
    check_invariants(world, interrupted=4, at_rest=False)
    world.settle(runs=2)
    check_invariants(world, interrupted=4)
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt"}


def test_a_list_of_slots_that_cannot_be_read_again_leaves_the_last_one_in_force(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar_keeper, "REFRESH_SECONDS", 0.03)
    world = make_world(4)
    world.sandbox.set_faults("slots:500@3-", "schedule:slow_after_commit(0.2)@1-2")

    run = world.run(max_concurrency=1)

    assert run.counts() == {"booked": 4}
    assert any("could not be read again" in line for line in world.log)
    check_invariants(world)


def test_an_access_error_at_a_list_of_slots_stops_the_bookings(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calendar_keeper, "REFRESH_SECONDS", 0.05)
    world = make_world(6)
    world.sandbox.set_faults("schedule:slow_after_commit(1)@2")

    with when(lambda: len(world.sandbox.bookings()) == 2, lambda: world.sandbox.set_faults("slots:401")):
        run = world.run(max_concurrency=1)

    assert isinstance(run.error, PopinAccessError)
    assert list(run.results.values()).count("booked") == 2
    assert set(run.results.values()) == {"booked", "pending"}
    check_invariants(world)


@on_each_database
def test_a_run_renews_its_lease(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(session, "LEASE_SECONDS", 1.0)
    world = make_world(5)
    world.sandbox.set_faults("schedule:slow_after_commit(0.35)")
    seen: list[tuple[float, int]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            seen.append((time.monotonic(), len(world.ledger.live_owners())))

    watcher = threading.Thread(target=look)
    watcher.start()
    run = world.run(max_concurrency=1)
    over.set()
    watcher.join()

    assert run.counts() == {"booked": 5}
    live = [at for at, owners in seen if owners]
    assert live[-1] - live[0] > 1.2, "the lease ran out after a second"
    check_invariants(world)


def test_a_lease_that_cannot_be_renewed_is_no_reason_to_stop(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "RENEW_SECONDS", 0.05)
    world = make_world(3)
    world.sandbox.set_faults("schedule:slow_after_commit(0.1)")
    real, calls = leases.renew_lease, []

    def renew(*args: Any, **kwargs: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise LedgerUnreachableError("the ledger's database answered: busy")
        real(*args, **kwargs)

    monkeypatch.setattr(leases, "renew_lease", renew)
    run = world.run(max_concurrency=1)

    assert run.counts() == {"booked": 3}
    assert any("lease could not be renewed" in line for line in world.log)
    check_invariants(world)


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
def test_a_stop_does_not_wait_for_the_rate_limit(make_world: MakeWorld, endpoint: str) -> None:
    world = make_world(30, requests_per_second=20.0)
    run = Run(rows=None)
    sync = world.sync(run, requests_per_second=20.0, max_concurrency=4)

    with (
        when(
            lambda: world.sandbox.stats()["committed"][endpoint] >= 2,
            lambda: sync.stop("the task was killed"),
        ),
        pytest.raises(SyncStoppedError),
    ):
        sync.run(iter(world.rows))

    assert len(world.sandbox.requests(endpoint=endpoint)) <= 8
    assert "in_doubt" not in world.ledger.ended().values()
    check_invariants(world)


def test_slots_that_never_hold_still_end_the_rounds(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booking, "MAX_ROUNDS", 2)
    world = make_world(3)
    world.sandbox.set_faults("schedule:422(time)")

    run = world.run(max_concurrency=1)

    assert set(run.reasons.values()) == {"slots_changed"}
    assert run.counts() == {"unassigned": 3}
    check_invariants(world)


def test_a_seat_that_another_source_takes_between_look_and_plan_is_planned_again(
    make_world: MakeWorld,
) -> None:
    world = make_world(3)
    struck: list[str] = []

    real = planner.plan

    def plan(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        if not struck:
            struck.append("planned")
            slots = args[1]
            with Ledger.write(taker) as connection:
                connection.execute(
                    sa.text(
                        "INSERT INTO popin_seats (account, slot_start, number, lead) VALUES (:a, :s, 1, -1)"
                    ),
                    {"a": world.config.account, "s": int(slots[1].start.timestamp())},
                )
        return found

    taker = world.open_ledger()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(planner, "plan", plan)
        run = world.run(max_concurrency=1)

    assert struck
    assert run.counts() == {"booked": 3}
    assert len(world.sandbox.requests(endpoint="schedule")) == 3
