"""The ledger locked, full, read-only, cut off, deleted, restored: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync import exchange_loop
from airflow_provider_popin.sync.errors import LedgerError, LedgerGuardError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger import database as database_module
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import Prior
from tests.faults.checkpoints import checkpoints
from tests.faults.conftest import MakeWorld, on_each_database
from tests.faults.invariants import check_booked_once, check_invariants, check_privacy
from tests.faults.others import when
from tests.faults.world import World


@contextmanager
def locked_by_others(world: World, seconds: float) -> Iterator[None]:
    """Another program holds the ledger's lock, from the first booking to the end of the block at most."""
    path = world.ledger_url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    release = threading.Timer(seconds, lambda: other.execute("ROLLBACK"))

    def lock() -> None:
        other.execute("PRAGMA busy_timeout=5000")
        other.execute("BEGIN EXCLUSIVE")
        release.start()

    with when(world.sandbox.bookings, lock):
        yield
    release.cancel()
    release.join()
    other.close()  # which lets go of the lock


def marks_that(world: World, state: str) -> set[str]:
    return {mark for mark, ended in world.ledger.ended().items() if ended == state}


def test_a_lock_that_others_hold_for_a_moment_is_waited_for(make_world: MakeWorld) -> None:
    world = make_world(12)
    world.sandbox.set_faults("schedule:slow_after_commit(0.05)")

    with locked_by_others(world, 0.6):
        run = world.run(max_concurrency=2)

    assert run.error is None
    assert set(run.results.values()) == {"booked"}
    check_invariants(world)


def test_outcomes_are_kept_while_the_ledger_is_locked_for_too_long(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "SQLITE_BUSY_SECONDS", 0.05)
    world = make_world(12)
    world.sandbox.set_faults("schedule:slow_after_commit(0.2)")

    with locked_by_others(world, 0.9):
        run = world.run(max_concurrency=2)

    assert isinstance(run.error, LedgerUnreachableError)
    assert len(world.sandbox.bookings()) < 12
    booked = {booking["lead"] for booking in world.sandbox.bookings()}
    assert {m for m, state in world.ledger.ended().items() if state == "booked"} == booked, (
        "an outcome is lost"
    )
    check_invariants(world)
    world.settle()
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


def test_outcomes_that_the_ledger_never_takes_are_logged_and_in_doubt(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "SQLITE_BUSY_SECONDS", 0.05)
    monkeypatch.setattr(exchange_loop, "KEEP_OUTCOME_SECONDS", 0.3)
    world = make_world(12)
    world.sandbox.set_faults("schedule:slow_after_commit(0.2)")

    with locked_by_others(world, 60):
        run = world.run(max_concurrency=2)

    assert isinstance(run.error, LedgerUnreachableError)
    lost = [mark for mark, states in world.ledger.states().items() if "sending" in states]
    assert 1 <= len(lost) <= 2
    told = "\n".join(world.log)
    for mark in lost:
        lead = world.ledger.leads()[mark]
        assert (
            f"lead {mark.partition('#')[0]}, customer {lead['customer_id']}, slot {lead['slot_time']}" in told
        )
    check_invariants(world, interrupted=2, at_rest=False)
    world.settle()
    check_invariants(world, interrupted=2)
    assert marks_that(world, "in_doubt") == set(lost)


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_loop, "KEEP_OUTCOME_SECONDS", 0.2)
    world = make_world(40)
    world.run("dag/0/sync", rows=[])
    pages = 1 + _pragma(world, "page_count")
    full = world.open_ledger()
    sa.event.listen(full.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages}").close())
    full.engine.dispose()

    run = world.run(ledger=full)

    assert isinstance(run.error, LedgerUnreachableError)
    assert "full" in str(run.error)
    check_invariants(world, interrupted=4, at_rest=False)
    world.settle(runs=2)
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt"}
    check_invariants(world, interrupted=4)


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
def test_a_ledger_that_becomes_read_only_stops_the_run(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setattr(exchange_loop, "KEEP_OUTCOME_SECONDS", 0.2)
    world = make_world(20)
    strict = world.open_ledger()

    @sa.event.listens_for(strict.engine, "begin")
    def forbid(connection: Connection) -> None:
        if world.sandbox.stats()["committed"][endpoint] >= 3:
            connection.exec_driver_sql("PRAGMA query_only=ON")

    run = world.run(ledger=strict)

    assert isinstance(run.error, LedgerError)
    assert len(world.sandbox.requests(endpoint=endpoint)) <= 3 + 2 * 4
    check_invariants(world, interrupted=4, at_rest=False)
    world.settle(runs=2)
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt"}
    check_invariants(world, interrupted=4)


SETTLED = ["settled.booking.success", "settled.booking.rejected", "settled.booking.unknown"]
OUTCOMES = ["schedule:422@2", "schedule:500@3", "schedule:422(time)@4", "capture:422@2", "capture:500@3"]


@on_each_database
@pytest.mark.parametrize("moment", ["uncommitted", "committed"])
@pytest.mark.parametrize(
    "step", [*SETTLED, "settled.booking.taken", "settled.capture.success", "intent.booking", "intent.capture"]
)
def test_a_connection_that_is_lost_around_a_commit(make_world: MakeWorld, step: str, moment: str) -> None:
    """Uncommitted: the outcome is told again. Committed, and nobody knows: told again, and counted once."""
    world = make_world(10)
    world.sandbox.set_faults(*OUTCOMES)
    struck: list[str] = []

    def reach(name: str) -> None:
        if name == f"{step}:{moment}" and not struck:
            struck.append(name)
            raise LedgerUnreachableError("the ledger's database answered: connection lost")

    with checkpoints(reach):
        run = world.run(max_concurrency=3)

    assert struck
    assert isinstance(run.error, LedgerUnreachableError)
    # What was answered is in the ledger, and what was not sent is not in doubt.
    world.ledger.let_time_pass()
    check_invariants(world, at_rest=False)
    assert not any(lead["alarm"] for lead in world.ledger.leads().values())
    world.settle(runs=2)
    check_invariants(world)
    assert not any(lead["alarm"] for lead in world.ledger.leads().values())
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt", "rejected"}


@pytest.mark.postgres
@pytest.mark.parametrize("ledger_url", ["postgres"], indirect=True)
def test_a_postgres_session_that_is_terminated_in_mid_run(make_world: MakeWorld) -> None:
    world = make_world(30)
    world.sandbox.set_faults("schedule:slow_after_commit(0.1)")
    administrator = sa.create_engine(world.ledger_url, future=True, isolation_level="AUTOCOMMIT")

    def terminate() -> None:
        with administrator.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                " AND query NOT LIKE 'CREATE SCHEMA%%'"
            )

    with when(lambda: len(world.sandbox.bookings()) > 5, terminate):
        run = world.run(max_concurrency=3)
    administrator.dispose()

    assert isinstance(run.error, LedgerUnreachableError)
    booked = {booking["lead"] for booking in world.sandbox.bookings()}
    assert marks_that(world, "booked") == booked
    world.settle()
    check_invariants(world, interrupted=3)


def reports(world: World) -> list[dict[str, Any]]:
    return [dict(run.report.to_xcom()) for run in world.runs if run.report is not None]


def test_a_ledger_that_was_deleted_is_refused_before_any_post(make_world: MakeWorld) -> None:
    world = make_world(4)
    world.run("dag/0/sync")
    for file in Path(world.ledger_url.removeprefix("sqlite:///")).parent.glob("ledger.db*"):
        file.unlink()

    for prior in (Prior(earlier_try=True), Prior(reports=reports(world))):
        run = world.run("dag/1/sync", prior=prior)
        assert isinstance(run.error, LedgerGuardError)

    assert len(world.sandbox.bookings()) == 4
    assert len(world.sandbox.requests(endpoint="capture")) == 4


def test_an_old_backup_is_refused_before_any_post(make_world: MakeWorld) -> None:
    world = make_world(4)
    path = world.ledger_url.removeprefix("sqlite:///")
    world.run("dag/0/sync", limit=2)
    world.close()
    shutil.copy(path, f"{path}.backup")
    world.run("dag/1/sync")
    world.close()
    for file in Path(path).parent.glob("ledger.db-*"):
        file.unlink()
    shutil.copy(f"{path}.backup", path)

    run = world.run("dag/2/sync", prior=Prior(reports=reports(world)))

    assert isinstance(run.error, LedgerGuardError)
    assert len(world.sandbox.requests(endpoint="capture")) == 4
    check_booked_once(world.sandbox.bookings(), 0)


def test_a_ledger_that_is_deleted_in_mid_run_books_nobody_twice(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_loop, "KEEP_OUTCOME_SECONDS", 0.3)
    world = make_world(20)
    world.sandbox.set_faults("schedule:slow_after_commit(0.02)")

    def delete() -> None:
        for file in Path(world.ledger_url.removeprefix("sqlite:///")).parent.glob("ledger.db*"):
            file.unlink()

    with when(world.sandbox.bookings, delete):
        world.run("dag/0/sync")
    again = world.run("dag/1/sync", prior=Prior(earlier_try=True, reports=reports(world)))

    # SQLite goes on in a file without a name; what counts is that the next run does not begin anew.
    assert isinstance(again.error, LedgerGuardError)
    check_booked_once(world.sandbox.bookings(), 0)
    check_privacy(world)


def test_a_ledger_is_given_whose_tables_somebody_dropped(make_world: MakeWorld) -> None:
    world = make_world(3)
    given = world.open_ledger()
    with Ledger.write(given) as connection:
        connection.exec_driver_sql("DROP TABLE popin_seats")

    run = world.run(ledger=given)

    assert isinstance(run.error, LedgerError)
    assert not world.sandbox.bookings()


def _pragma(world: World, name: str) -> int:
    with sqlite3.connect(world.ledger_url.removeprefix("sqlite:///")) as connection:
        value = int(connection.execute(f"PRAGMA {name}").fetchone()[0])
    connection.close()
    return value
