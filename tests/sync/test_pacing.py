"""Workers that would all be answered at once start one after the other."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync import schema
from airflow_provider_popin.sync.errors import SyncStoppedError
from airflow_provider_popin.sync.pacing import SPACING_SECONDS, Pacer
from tests.faults import conftest as fixtures
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.world import Run

make_world = fixtures.make_world
ledger_url = fixtures.ledger_url


def a_pacer(workers: int, latency: float) -> Pacer:
    pacer = Pacer(workers)
    for _ in range(100):
        pacer.answered(latency)
    return pacer


def test_starts_are_apart_where_there_is_room() -> None:
    pacer = a_pacer(16, 0.05)
    assert [pacer.start(10.0) for _ in range(3)] == pytest.approx(
        [10.0, 10.0 + SPACING_SECONDS, 10.0 + 2 * SPACING_SECONDS]
    )
    assert pacer.start(11.0) == 11.0


@pytest.mark.parametrize(("workers", "latency"), [(16, 0.0), (16, 0.01), (64, 0.05), (256, 0.2)])
def test_nobody_waits_where_there_is_none(workers: int, latency: float) -> None:
    pacer = a_pacer(workers, latency)
    assert [pacer.start(10.0) for _ in range(3)] == [10.0] * 3


def test_the_latency_is_learned() -> None:
    pacer = Pacer(16)
    assert [pacer.start(10.0) for _ in range(2)] == [10.0] * 2
    for _ in range(100):
        pacer.answered(0.2)
    assert pacer.start(10.0) < pacer.start(10.0)
    for _ in range(100):
        pacer.answered(0.001)
    assert [pacer.start(20.0) for _ in range(2)] == [20.0] * 2


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


def test_a_stop_ends_the_waiting(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent for who waits, and the ledger holds no intent of his."""
    asked = threading.Event()

    def start(pacer: Pacer, now: float) -> float:
        asked.set()
        return now + 60.0

    monkeypatch.setattr(Pacer, "start", start)
    world = make_world(4)
    sync = world.sync(Run(rows=4))

    def stop() -> None:
        asked.wait(20)
        sync.stop("enough")

    stopping = threading.Thread(target=stop)
    stopping.start()
    began = time.monotonic()

    with pytest.raises(SyncStoppedError):
        sync.run(iter(world.rows))
    stopping.join()

    assert time.monotonic() - began < 20
    assert world.sandbox.stats()["requests"]["capture"] == 0
    with world.open_ledger().read() as connection:
        assert connection.execute(sa.select(sa.func.max(schema.leads.c.attempt))).scalar_one() == 0
    check_invariants(world)
