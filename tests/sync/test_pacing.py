"""Workers that were answered together send one after the other."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync.errors import SyncStoppedError
from airflow_provider_popin.sync.exchange_loop import LATEST_SEND_SECONDS
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.pacing import MOST_APART_SECONDS, MOST_SECONDS, SHARE, Pacer
from tests.faults import conftest as fixtures
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.world import Run
from tests.waiting import PATIENCE_SECONDS

make_world = fixtures.make_world
ledger_url = fixtures.ledger_url


def a_pacer(workers: int, latency: float) -> Pacer:
    pacer = Pacer(workers)
    learn(pacer, workers, latency)
    return pacer


def learn(pacer: Pacer, workers: int, latency: float) -> None:
    for _ in range(workers):
        pacer.answered(latency)


@pytest.mark.parametrize(("workers", "latency"), [(64, 0.05), (256, 0.2), (32, 0.04)])
def test_workers_are_spread_over_the_latency(workers: int, latency: float) -> None:
    pacer = a_pacer(workers, latency)
    waits = [pacer.wait(10.0) for _ in range(workers)]
    assert waits == sorted(waits)
    assert waits[0] == 0.0
    assert waits[-1] == pytest.approx(SHARE * latency * (workers - 1) / workers)


@pytest.mark.parametrize(("workers", "latency"), [(16, 0.05), (8, 30.0)])
def test_no_further_apart_than_their_work_takes(workers: int, latency: float) -> None:
    pacer = a_pacer(workers, latency)
    assert [pacer.wait(10.0) for _ in range(3)] == pytest.approx(
        [0.0, MOST_APART_SECONDS, 2 * MOST_APART_SECONDS]
    )


@pytest.mark.parametrize(("workers", "latency"), [(16, 0.0), (64, 0.01), (256, 0.05)])
def test_nobody_waits_where_their_work_parts_them(workers: int, latency: float) -> None:
    pacer = a_pacer(workers, latency)
    assert {pacer.wait(10.0) for _ in range(workers)} == {0.0}


@pytest.mark.parametrize(("workers", "latency"), [(1000, 10.0), (10_000, 30.0)])
def test_nobody_waits_until_it_is_too_late_to_send(workers: int, latency: float) -> None:
    pacer = a_pacer(workers, latency)
    assert max(pacer.wait(10.0) for _ in range(workers)) <= MOST_SECONDS < LATEST_SEND_SECONDS


def test_nobody_waits_who_is_alone() -> None:
    pacer = a_pacer(16, 0.05)
    assert [pacer.wait(10.0 + 0.003 * number) for number in range(16)] == [0.0] * 16


def test_what_is_too_short_for_a_timer_is_not_waited_for() -> None:
    pacer = a_pacer(64, 0.03)  # a third of a millisecond apart
    waits = [pacer.wait(10.0) for _ in range(4)]
    assert waits[:2] == [0.0, 0.0]
    assert waits[3] == pytest.approx(3 * SHARE * 0.03 / 64)


def test_the_latency_is_learned() -> None:
    pacer = Pacer(16)
    assert [pacer.wait(10.0) for _ in range(2)] == [0.0] * 2
    learn(pacer, 16, 0.2)
    assert pacer.wait(10.0) < pacer.wait(10.0)
    learn(pacer, 16, 0.001)
    pacer.wait(20.0)
    assert pacer.wait(20.0) == 0.0


def test_a_server_that_became_slower_is_noticed() -> None:
    pacer = a_pacer(64, 0.05)
    learn(pacer, 64, 0.09)
    waits = [pacer.wait(10.0) for _ in range(64)]
    assert waits[-1] == pytest.approx(SHARE * 0.09 * 63 / 64)


def test_the_shortest_of_a_round_is_the_latency() -> None:
    """What is longer has waited for other workers: spreading by that would keep them waiting."""
    pacer = Pacer(64)
    for number in range(64):
        pacer.answered(0.05 if number == 40 else 0.4)
    waits = [pacer.wait(10.0) for _ in range(64)]
    assert waits[-1] == pytest.approx(SHARE * 0.05 * 63 / 64)


def test_the_loop_tells_how_long_exchanges_take(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(Pacer, "answered", lambda _, seconds: told.append(seconds))
    world = make_world(3)
    world.sandbox.reset(latency_ms=20)

    assert world.run().counts() == {"booked": 3}
    assert len(told) == 6
    assert min(told) >= 0.02


@pytest.mark.parametrize("seconds", [0.5, 30.0], ids=["waits to the end", "is cancelled"])
def test_nothing_is_sent_for_who_waits_when_the_run_stops(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """The ledger is told that his intent came to nothing: no lead is in doubt for it."""
    asked = threading.Event()

    def wait(pacer: Pacer, now: float) -> float:
        asked.set()
        return seconds

    monkeypatch.setattr(Pacer, "wait", wait)
    world = make_world(4)
    sync = world.sync(Run(rows=4))

    def stop() -> None:
        asked.wait(PATIENCE_SECONDS)
        sync.stop("enough")

    stopping = threading.Thread(target=stop)
    stopping.start()
    began = time.monotonic()

    with pytest.raises(SyncStoppedError):
        sync.run(iter(world.rows))
    stopping.join()

    assert time.monotonic() - began < 15
    assert world.sandbox.stats()["requests"]["capture"] == 0
    with world.open_ledger().read() as connection:
        states = connection.execute(sa.select(schema.leads.c.capture_state)).scalars().all()
    assert states == ["new"] * 4
    check_invariants(world)
