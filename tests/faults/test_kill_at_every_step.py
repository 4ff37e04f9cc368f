"""SIGKILL at every named step of a run; a retry, a cleared task and the next Dag run pick up the rest."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checkpoints import checkpoints
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.people import Row, lead_row, lead_rows
from tests.faults.worker import Workers
from tests.faults.world import World

CONCURRENCY = 3
LONG_AGO = "2020-01-01T00:00:00+00:00"

# What a first run meets, in leads that are captured and booked in this order with some in flight at once.
FIRST_FAULTS = (
    "capture:500_after_commit@3",
    "capture:422@5",
    "capture:429(0)@7",
    "schedule:500_after_commit@2",
    "schedule:422@4",
    "schedule:422(time)@5",
    "schedule:429(0)@7",
)
SECOND_FAULTS = ("schedule:500_before_commit@1", "schedule:422(time)@2")

EVERY_RUN = [
    "slots:unsent",
    "slots:answered",
    *(
        f"{name}:{moment}"
        for name in (
            *("renew_lease", "start_run", "end_lease", "end_run"),
            *("intent.booking", "planned", "settled.booking.success", "settled.booking.taken"),
            "settled.booking.unknown",
        )
        for moment in ("uncommitted", "committed")
    ),
    "schedule:unsent",
    "schedule:answered",
]
FIRST_RUN = [
    *EVERY_RUN,
    "capture:unsent",
    "capture:answered",
    *(
        f"{name}:{moment}"
        for name in (
            *("_enter", "insert_leads", "refused", "intent.capture", "settled.capture.success"),
            *("settled.capture.unknown", "settled.capture.rejected", "settled.capture.not_sent"),
            *("settled.booking.rejected", "settled.booking.not_sent", "released.unassigned"),
        )
        for moment in ("uncommitted", "committed")
    ),
]
SECOND_RUN = [
    f"{name}:{moment}"
    for name in ("claimed", "corrected", "intent.resend", "settled.booking.unknown")
    for moment in ("uncommitted", "committed")
]


def first_rows() -> list[Row]:
    """Twelve leads, one of which no slot suits, and one row that is unusable."""
    return [
        *lead_rows(12, latest=None),
        lead_row(13, latest=LONG_AGO),
        lead_row(14, latest=None, mobile="call me"),
    ]


def second_rows() -> list[Row]:
    """The same source later: what was refused is corrected, and there are new leads."""
    return [*lead_rows(12, latest=None, email=None), *(lead_row(n, latest=None) for n in (13, 14, 15))]


def settings(second: bool) -> dict[str, Any]:
    return {
        "max_concurrency": CONCURRENCY,
        "on_in_doubt": "resend" if second else "hold",
        "field_map": {
            **{name: name for name in ("lead_id", "name", "mobile", "email", "latest")},
            "campaign.test_lead": "campaign.test_lead",
        },
    }


def prepare(world: World, second: bool) -> None:
    """Everything that precedes the run which is killed."""
    world.sandbox.set_faults(*FIRST_FAULTS)
    if second:
        world.run("dag/first/sync", **settings(second=False))
        world.rows = second_rows()
        world.all_rows.extend(world.rows)
        world.sandbox.set_faults(*SECOND_FAULTS)


@pytest.mark.parametrize("second", [False, True])
def test_the_steps_are_all_that_a_run_takes(make_world: MakeWorld, second: bool) -> None:
    world = make_world(first_rows())
    prepare(world, second)
    reached: set[str] = set()

    with checkpoints(reached.add):
        world.run("dag/one/sync", **settings(second))

    listed = set(SECOND_RUN if second else FIRST_RUN)
    assert sorted(listed - reached) == []
    assert sorted(reached - listed - set(FIRST_RUN)) == []
    check_invariants(world, resends=1 if second else 0)


@pytest.mark.parametrize(
    ("step", "second"), [*((step, False) for step in FIRST_RUN), *((step, True) for step in SECOND_RUN)]
)
def test_a_kill_costs_at_most_a_doubt_for_what_was_under_way(
    make_world: MakeWorld, workers: Workers, tmp_path: Path, step: str, second: bool
) -> None:
    world = make_world(first_rows())
    prepare(world, second)
    chosen = settings(second)

    worker = workers.start(world.task(tmp_path / "killed", signal_at=(step, 1), **chosen))
    assert worker.wait() == -signal.SIGKILL, f"{step} was not reached"
    world.take_over(worker)

    check_invariants(world, interrupted=CONCURRENCY, resends=1, at_rest=False)
    world.sandbox.set_faults()
    world.ledger.let_time_pass()
    for try_number, dag_run in ((2, "dag/one/sync"), (1, "dag/one/sync"), (1, "dag/next/sync")):
        world.run(dag_run, try_number=try_number, **{**chosen, "on_in_doubt": "hold"})

    check_invariants(world, interrupted=CONCURRENCY, resends=1)
    ended = world.ledger.ended()
    assert len(ended) == len(world.rows)
    assert set(ended.values()) <= {"booked", "rejected", "unassigned", "in_doubt"}


@pytest.mark.parametrize("moment", ["uncommitted", "committed"])
@pytest.mark.parametrize("step", ["expired", "released.waiting", "intent.capture"])
def test_a_run_that_follows_a_killed_one_may_be_killed_too(
    make_world: MakeWorld, workers: Workers, tmp_path: Path, step: str, moment: str
) -> None:
    world = make_world(8)
    first = workers.start(
        world.task(tmp_path / "first", signal_at=("settled.booking.success:uncommitted", 1))
    )
    assert first.wait() == -signal.SIGKILL
    world.take_over(first)
    world.ledger.let_time_pass()
    world.rows.extend(lead_rows(10)[8:])

    second = workers.start(world.task(tmp_path / "second", signal_at=(f"{step}:{moment}", 1)))
    assert second.wait() == -signal.SIGKILL, f"{step} was not reached"
    world.take_over(second)

    check_invariants(world, interrupted=8, at_rest=False)
    world.settle(runs=2)
    check_invariants(world, interrupted=8)
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt"}


@pytest.mark.parametrize("moment", ["uncommitted", "committed"])
def test_a_kill_while_customers_of_the_source_are_taken_over(
    make_world: MakeWorld, workers: Workers, tmp_path: Path, moment: str
) -> None:
    world = make_world(4)
    world.run("dag/0/sync", source="other.leads", steps=("capture",))
    known = {lead: row["customer_id"] for lead, row in world.ledger.leads().items()}
    world.rows = [{**row, "customer_id": known[str(row["campaign.test_lead"])]} for row in world.rows]
    world = make_world(world.rows, account="another-account")
    chosen: dict[str, Any] = {"source": "third.leads", "steps": ("schedule",)}

    worker = workers.start(world.task(tmp_path / "killed", signal_at=(f"adopted:{moment}", 1), **chosen))
    assert worker.wait() == -signal.SIGKILL
    world.ledger.let_time_pass()
    run = world.run(**chosen)

    assert set(run.results.values()) == {"booked"}
    assert len(world.sandbox.bookings()) == 4
    assert len(world.sandbox.requests(endpoint="capture")) == 4
