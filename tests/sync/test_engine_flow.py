"""How a run treats those around it: the source's memory, the CRM, Popin's limits, other runs."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync import reading, session
from airflow_provider_popin.sync.booking import BookingDesk
from airflow_provider_popin.sync.calendar_keeper import CalendarKeeper
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.errors import LedgerGuardError, SyncStoppedError, WriteBackError
from airflow_provider_popin.sync.intake import Admission
from airflow_provider_popin.sync.job_queue import FEW_JOBS, MANY_JOBS
from airflow_provider_popin.sync.ledger import guards, run_log
from airflow_provider_popin.sync.reading import CHUNK_ROWS
from airflow_provider_popin.sync.settings import Prior, RunIdentity
from tests.faults import conftest as fixtures
from tests.faults.conftest import MakeWorld, on_each_database
from tests.faults.invariants import check_invariants
from tests.faults.people import Row, lead_row
from tests.faults.world import SOURCE, Run, kept_logs
from tests.waiting import PATIENCE_SECONDS

make_world = fixtures.make_world
ledger_url = fixtures.ledger_url
_short_waits = fixtures._short_waits


class CountedRow(dict[str, object]):
    """A row that can be counted while it lives."""


def test_a_long_source_is_never_in_memory_as_a_whole(make_world: MakeWorld) -> None:
    alive: weakref.WeakSet[CountedRow] = weakref.WeakSet()
    most = 0

    class Hashable(CountedRow):
        __hash__ = object.__hash__  # type: ignore[assignment]

    def source() -> Iterator[Row]:
        nonlocal most
        for number in range(8_000):
            row = Hashable(lead_row(number))
            alive.add(row)
            most = max(most, len(alive))
            yield row

    world = make_world(0)
    run = world.run(rows=source(), limit=100, steps=("capture",))

    assert run.counts() == {"captured": 100, "pending": 7_900}
    assert most <= 500


def test_captures_hold_the_source_back(make_world: MakeWorld) -> None:
    """A source is read no faster than Popin takes its leads."""
    world = make_world(0)
    world.sandbox.set_faults("capture:slow_before_commit(0.01)")
    ahead: list[int] = []

    def source() -> Iterator[Row]:
        for number in range(500):
            ahead.append(number - world.sandbox.stats()["committed"]["capture"])
            yield lead_row(number)

    world.run(rows=source(), steps=("capture",), max_concurrency=16)

    assert max(ahead) <= 300


def test_where_results_cannot_be_written_doubts_are_named_and_the_ledger_keeps_its_note(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(3)
    world.sandbox.set_faults("schedule:500_after_commit@3")
    sync = world.sync(Run(rows=3), max_concurrency=1, max_in_doubt=0)

    def write(lines: Iterable[Any]) -> str:
        next(iter(lines))
        raise OSError("no space left")

    monkeypatch.setattr(sync, "_results", write)
    with kept_logs(world.log), pytest.raises(OSError, match="no space left"):
        sync.run(iter(world.rows))

    (doubted,) = (lead for lead, state in world.ledger.ended().items() if state == "in_doubt")
    (line,) = (line for line in world.log if "1 bookings are in doubt" in line)
    assert f"leads: {doubted.partition('#')[0]}:" in line
    with world.open_ledger().read() as connection:
        kept = run_log.report_of_earlier_try(connection, SOURCE, "dag/one/sync", 2)
    assert kept is not None
    assert (kept["results"]["booked"], kept["results"]["in_doubt"]) == (2, 1)
    assert kept["ledger_sequence"] == 2


@on_each_database
def test_a_new_ledger_on_postgres_gets_statistics(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them Postgres reads the whole source for every chunk of rows."""
    monkeypatch.setattr(session, "STATISTICS_AFTER", 5)
    world = make_world(8)

    assert world.run().counts() == {"booked": 8}

    if world.ledger_url.startswith("postgresql"):
        with world.open_ledger().read() as connection:
            counted = "SELECT reltuples FROM pg_class WHERE oid = CAST('popin_leads' AS regclass)"
            assert connection.execute(sa.text(counted)).scalar() == 8


def test_a_doubt_is_named_the_moment_the_ledger_has_it(make_world: MakeWorld) -> None:
    """A task that is killed before its end names nobody there."""
    world = make_world(3)
    world.sandbox.set_faults("schedule:500_after_commit@2")

    world.run(max_concurrency=1)

    (lead,) = (lead for lead, state in world.ledger.ended().items() if state == "in_doubt")
    (line,) = (line for line in world.log if "was lost: it is in doubt" in line)
    assert f"booking of lead {lead.partition('#')[0]}," in line


def test_a_stop_while_the_crm_is_told_ends_the_run(make_world: MakeWorld) -> None:
    world = make_world(3)
    run = Run(rows=3)

    def stop(batch: Sequence[Any]) -> None:
        sync.stop("the task was killed")

    sync = world.sync(run, write_back=stop)
    with pytest.raises(SyncStoppedError):
        sync.run(iter(world.rows))

    assert run.lines is None
    assert set(world.ledger.ended().values()) == {"booked"}


def test_the_crm_is_told_every_change_once(make_world: MakeWorld) -> None:
    world = make_world(4)
    world.sandbox.set_faults("schedule:422@2", "schedule:500@3")
    told: list[dict[str, Any]] = []

    def write(batch: Sequence[Any]) -> None:
        told.extend(dict(one) for one in batch)

    first = world.run("dag/0/sync", max_concurrency=1, write_back=write)
    second = world.run("dag/1/sync", max_concurrency=1, write_back=write)

    assert [(one["lead_id"], one["state"]) for one in told] == [
        ("L001", "booked"),
        ("L002", "rejected"),
        ("L003", "in_doubt"),
        ("L004", "booked"),
    ]
    assert told[0]["call_time"].endswith("+05:30")
    assert told[0]["join_url"].startswith("https://live.popin.to/")
    assert first.report is not None
    assert second.report is not None
    assert (first.report.written_back, second.report.written_back) == (4, 0)


def test_what_the_crm_did_not_take_is_told_again(make_world: MakeWorld) -> None:
    world = make_world(4)
    told: list[str] = []

    def write(batch: Sequence[Any]) -> None:
        if not told:
            told.append(batch[1]["lead_id"])
            raise WriteBackError("UPDATE failed", failed=[1])
        told.extend(one["lead_id"] for one in batch)

    first = world.run("dag/0/sync", write_back=write)
    second = world.run("dag/1/sync", write_back=write)

    assert told == ["L002", "L002"]
    assert any("written back: leads" in p or "written back; leads: L002" in p for p in first.problems)
    assert not second.problems


def test_results_that_cannot_be_written_fail_the_run_after_the_calls_are_safe(make_world: MakeWorld) -> None:
    world = make_world(3)
    run_of: list[object] = []

    def refuse(lines: object) -> str:
        run_of.append(lines)
        raise OSError("the bucket is gone")

    sync = LeadSync(
        settings=world.settings(),
        config=world.config,
        ledger=world.open_ledger(),
        run=RunIdentity(dag_run="dag/0/sync"),
        results=refuse,
    )
    with pytest.raises(OSError, match="bucket"):
        sync.run(iter(world.rows))

    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


def test_the_rate_limit_holds_for_all_endpoints(make_world: MakeWorld) -> None:
    world = make_world(8, requests_per_second=20.0)

    run = world.run(requests_per_second=20.0, max_concurrency=8)

    assert run.counts() == {"booked": 8}
    assert world.sandbox.stats()["peak_requests_per_second"]["all"] <= 20 * 1.1 + 1
    assert world.sandbox.stats()["requests"]["all"] == 18
    check_invariants(world)


def test_no_more_requests_than_allowed_are_under_way(make_world: MakeWorld) -> None:
    world = make_world(24)
    world.sandbox.reset(latency_ms=10)

    world.run(max_concurrency=3)

    assert world.sandbox.stats()["max_concurrency"]["all"] <= 3


def test_workers_that_have_enough_to_do_go_first(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are read beside them, and transactions are short: both would keep their answers waiting."""
    admit, plan, is_ahead = Admission.admit, BookingDesk._plan, session.Session.is_ahead
    admitted: list[int] = []
    planned: list[int] = []
    ahead: list[bool] = []

    def counted_admit(self: Admission, connection: Connection, rows: Sequence[Any]) -> Any:
        admitted.append(len(rows))
        return admit(self, connection, rows)

    def counted_plan(self: BookingDesk, connection: Connection, chosen: Sequence[Any], seats: Any) -> Any:
        planned.append(len(chosen))
        return plan(self, connection, chosen, seats)

    def asked(self: session.Session) -> bool:
        ahead.append(is_ahead(self))
        return ahead[-1]

    monkeypatch.setattr(reading, "FIRST_ROWS", CHUNK_ROWS)
    monkeypatch.setattr(Admission, "admit", counted_admit)
    monkeypatch.setattr(BookingDesk, "_plan", counted_plan)
    monkeypatch.setattr(session.Session, "is_ahead", asked)
    world = make_world(CHUNK_ROWS + 10)
    # Two jobs are under way and four wait when the first chunk is handed in; then the next row is read.
    world.sandbox.set_faults(f"capture:slow_before_commit(3)@{CHUNK_ROWS - 5}-{CHUNK_ROWS - 2}")

    world.run(max_concurrency=2)

    # Nobody has anything to do at first; then everybody has.
    assert (admitted[:2], planned[:2]) == ([MANY_JOBS, FEW_JOBS], [MANY_JOBS, FEW_JOBS])
    assert len(ahead) == CHUNK_ROWS + 10
    assert (ahead[0], ahead[CHUNK_ROWS]) == (False, True)


def test_popin_is_asked_while_the_ledger_is_opened(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening the ledger waits here until Popin is asked; one after the other, it would wait in vain."""
    guard, asked = guards.guard_source, threading.Event()
    refresh = CalendarKeeper.refresh

    async def told(self: CalendarKeeper) -> Any:
        asked.set()
        return await refresh(self)

    def guarded(*args: Any, **options: Any) -> None:
        assert asked.wait(PATIENCE_SECONDS)
        guard(*args, **options)

    monkeypatch.setattr(CalendarKeeper, "refresh", told)
    monkeypatch.setattr(guards, "guard_source", guarded)

    assert make_world(2).run().counts() == {"booked": 2}


def test_a_ledger_that_refuses_does_not_wait_for_popin(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.sandbox.set_faults("slots:slow_after_commit(120)")
    began = time.monotonic()

    run = world.run(prior=Prior(earlier_try=True))

    assert isinstance(run.error, LedgerGuardError)
    assert time.monotonic() - began < 60.0
    assert not world.sandbox.requests(endpoint="capture")


def test_slots_are_read_beside_the_last_captures(make_world: MakeWorld) -> None:
    """One of two workers has nothing to do any more when the other one's capture hangs."""
    world = make_world(3)
    world.sandbox.set_faults("capture:slow_before_commit(0.6)@3")
    seen: list[tuple[int, int]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            stats = world.sandbox.stats()
            seen.append((stats["requests"]["slots"], stats["committed"]["capture"]))

    looking = threading.Thread(target=look)
    looking.start()
    run = world.run(max_concurrency=2)
    over.set()
    looking.join()

    assert run.counts() == {"booked": 3}
    assert (2, 2) in seen
    assert world.sandbox.stats()["requests"]["slots"] == 2


def test_slots_that_were_read_too_early_are_read_again(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FRESH_SECONDS", -1.0)
    world = make_world(2)

    assert world.run().counts() == {"booked": 2}
    assert world.sandbox.stats()["requests"]["slots"] == 3


def test_leads_that_another_live_run_has_claimed_are_left_to_it(make_world: MakeWorld) -> None:
    """Also where that run began after this one: its claims are as good."""
    world = make_world(3)
    early = make_world(3, account=world.config.account)
    world.sandbox.set_faults("capture:slow_after_commit(1.5)@1")
    later: list[Run] = []

    def source() -> Iterator[Row]:
        late = threading.Thread(target=lambda: later.append(world.run("dag/late/sync", max_concurrency=1)))
        late.start()
        while not world.sandbox.stats()["committed"]["capture"]:
            time.sleep(0.01)
        yield from early.rows

    run = early.run("dag/early/sync", rows=source())
    while not later:
        time.sleep(0.01)

    assert set(run.reasons.values()) == {"claimed_elsewhere"}
    assert run.counts() == {"pending": 3}
    assert later[0].counts() == {"booked": 3}
    check_invariants(world)
