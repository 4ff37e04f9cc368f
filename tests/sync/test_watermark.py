"""Reading only what is new, changed or unfinished."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync import admin
from airflow_provider_popin.sync.ledger import watermark_store
from tests.faults import conftest as fixtures
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.people import Row
from tests.sync.watermarks import START, Crm, minute, run, settings

make_world = fixtures.make_world
ledger_url = fixtures.ledger_url
_short_waits = fixtures._short_waits


def crm_with(count: int) -> Crm:
    """Leads of the minutes 100, 200, ...: further apart than the overlap."""
    crm = Crm()
    for number in range(1, count + 1):
        crm.put(number, 100 * number)
    return crm


@fixtures.on_each_database
def test_the_next_run_reads_the_overlap_and_what_is_new(
    make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world, crm = make_world(0), crm_with(4)

    first = run(world, crm, "dag/0/sync")
    assert (first.counts(), crm.asked) == ({"booked": 4}, [START])
    assert first.report is not None
    assert first.report.watermark is not None
    assert first.report.watermark["next_from"] == "2026-01-01T06:30:00+00:00"
    crm.put(5, 500)
    crm.put(6, 391)  # late, and within the overlap
    second = run(world, crm, "dag/1/sync")

    assert crm.asked[-1] == minute(390)
    assert crm.read == ["L004", "L005", "L006"]
    assert second.results == {"L004": "skipped", "L005": "booked", "L006": "booked"}
    run(world, crm, "dag/2/sync")
    assert crm.read == ["L005"]
    # Of the first run too, for which nothing was kept.
    assert "is read once more" not in caplog.text
    check_invariants(world)


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("schedule:500_after_commit@2", "in_doubt"),
        ("capture:500", "in_doubt"),
        ("schedule:422@2", "rejected"),
    ],
)
def test_it_never_passes_a_row_that_is_unfinished(make_world: MakeWorld, fault: str, result: str) -> None:
    world, crm = make_world(0), crm_with(4)
    world.sandbox.set_faults(fault)

    first = run(world, crm, "dag/0/sync", max_concurrency=1)
    run(world, crm, "dag/1/sync")

    oldest = min((lead for lead, found in first.results.items() if found == "in_doubt"), default="L004")
    assert result in first.results.values()
    assert crm.read[0] == oldest
    check_invariants(world)


def test_leads_without_a_slot_are_read_until_they_have_one(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(4)
    world.sandbox.reset(slots=["Mon, 03 Jan 2028 10:00 AM", "Mon, 03 Jan 2028 10:15 AM"])

    first = run(world, crm, "dag/0/sync")
    assert first.counts() == {"booked": 2, "unassigned": 2}
    second = run(world, crm, "dag/1/sync")
    assert (crm.asked[-1], second.counts()) == (minute(300), {"unassigned": 2})
    assert second.report is not None
    assert second.report.unfinished_absent == 0
    world.ledger.let_time_pass()
    world.sandbox.reset(slots=[f"Tue, 04 Jan 2028 10:{quarter} AM" for quarter in ("00", "15")])
    run(world, crm, "dag/2/sync")
    assert crm.read == ["L003", "L004"]


def test_a_limit_moves_it_to_the_first_lead_that_waits(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(4)

    run(world, crm, "dag/0/sync", limit=2)
    second = run(world, crm, "dag/1/sync", limit=2)

    assert crm.asked[-1] == minute(300)
    assert second.results == {"L003": "booked", "L004": "booked"}
    check_invariants(world)


def test_a_corrected_row_comes_by_its_new_value_and_an_unchanged_one_is_let_go(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(3)
    crm.put(1, 100, mobile="ring me")
    crm.put(2, 200, mobile="ring me too")
    assert run(world, crm, "dag/0/sync").counts() == {"rejected": 2, "booked": 1}

    crm.put(1, 400)
    second = run(world, crm, "dag/1/sync")

    assert second.results == {"L001": "booked", "L003": "skipped"}
    check_invariants(world)


@fixtures.on_each_database
def test_rejections_that_are_forgotten_are_read_again(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(3)
    crm.put(1, 100, mobile="ring me")
    run(world, crm, "dag/0/sync")

    assert admin.forget(world.open_ledger(), source="crm.leads", rejected=True) == 1
    again = run(world, crm, "dag/1/sync")

    assert crm.asked[-1] == START
    assert again.results["L001"] == "rejected"


@pytest.mark.parametrize("outcome", ["booked", "not-booked"])
def test_a_doubt_that_a_person_ended_is_read_again_if_a_call_is_wanted(
    make_world: MakeWorld, outcome: str
) -> None:
    world, crm = make_world(0), crm_with(3)
    world.sandbox.set_faults("schedule:500@2")
    run(world, crm, "dag/0/sync", max_concurrency=1)
    ledger = world.open_ledger()
    crm.put(2, 200, name="")  # read from now on, the row would say something else: it must be asked

    doubted = admin.list_in_doubt(ledger)[0]["lead_id"]
    admin.resolve(
        ledger,
        source="crm.leads",
        lead_id=str(doubted),
        generation=None,
        outcome=outcome,
        who="me",
        why="seen",
    )
    crm.put(2, 200)
    run(world, crm, "dag/1/sync")
    run(world, crm, "dag/2/sync")

    assert crm.asked[1] == (minute(200) if outcome == "booked" else START)
    assert crm.asked[2] == minute(290)
    assert world.ledger.ended()["L002#1"] == "booked"


def test_a_dry_run_reads_by_it_and_leaves_it(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(2)
    dry = run(world, crm, "dag/0/sync", dry_run=True)
    assert (dry.counts(), crm.asked) == ({"planned": 2}, [START])
    assert world.ledger.rows("popin_watermarks") == [] or not world.ledger.rows("popin_watermarks")[0]["high"]
    run(world, crm, "dag/1/sync")
    crm.put(3, 300)

    for _ in range(2):
        dry = run(world, crm, "dag/2/sync", dry_run=True)
        assert dry.results == {"L002": "skipped", "L003": "planned"}
    assert crm.asked[1:] == [START, minute(190), minute(190)]


def test_a_run_that_fails_moves_nothing(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(4)
    world.sandbox.set_faults("schedule:401@3")

    failed = run(world, crm, "dag/0/sync", max_concurrency=1)
    assert failed.error is not None
    world.sandbox.set_faults()
    run(world, crm, "dag/1/sync")

    assert crm.asked == [START, START]
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


def test_a_source_that_breaks_off_moves_nothing(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(3)

    class BrokenOffError(Exception):
        pass

    def broken(read_from: Any) -> Iterator[Row]:
        crm.asked.append(read_from)
        yield crm.rows["L001#1"]
        raise BrokenOffError

    crm.instead = broken
    assert isinstance(run(world, crm, "dag/0/sync", raises=(BrokenOffError,)).error, BrokenOffError)
    crm.instead = None
    assert run(world, crm, "dag/1/sync").report is not None
    assert crm.asked == [START, START]


@fixtures.on_each_database
def test_a_retry_reads_what_its_dag_run_began_with(make_world: MakeWorld) -> None:
    """Counts are per Dag run over all of its tries: a cleared task must not turn green by reading nothing."""
    world, crm = make_world(0), crm_with(2)
    run(world, crm, "dag/0/sync")
    crm.put(3, 300, mobile="ring me")
    crm.put(4, 400)
    first = run(world, crm, "dag/1/sync")
    retry = run(world, crm, "dag/1/sync", try_number=2)
    cleared = run(world, crm, "dag/1/sync", try_number=3)

    assert crm.asked[1:] == [minute(190)] * 3
    assert first.results == {"L002": "skipped", "L003": "rejected", "L004": "booked"}
    assert retry.results == cleared.results == first.results
    run(world, crm, "dag/2/sync")
    assert crm.asked[-1] == minute(390)


@fixtures.on_each_database
def test_of_two_runs_at_once_the_second_to_end_moves_nothing(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(3)

    def meanwhile(read_from: Any) -> Iterator[Row]:
        crm.instead = None
        rows = list(crm.select(read_from))
        crm.put(4, 400)
        run(world, crm, "dag/other/sync")
        yield from rows

    crm.instead = meanwhile
    slow = run(world, crm, "dag/slow/sync")
    assert slow.report is not None
    assert slow.report.watermark is not None
    assert slow.report.watermark["moved"] is False
    run(world, crm, "dag/next/sync")
    assert crm.asked[-1] == minute(390)
    check_invariants(world)


@fixtures.on_each_database
def test_a_reset_during_a_run_is_not_lost(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(2)

    def meanwhile(read_from: Any) -> Iterator[Row]:
        with world.open_ledger().write() as connection:
            watermark_store.rewind(connection, "crm.leads")
        return crm.select(read_from)

    crm.instead = meanwhile
    run(world, crm, "dag/0/sync")
    crm.instead = None
    run(world, crm, "dag/1/sync")
    assert crm.asked == [START, START]


@pytest.mark.parametrize(
    "change",
    [
        {"watermark": settings(reads=["SELECT other"])},
        {"watermark": settings(start=START - timedelta(days=1))},
        {"watermark": settings(column="touched_at")},
        {"default_region": "IN"},
        {"steps": ("capture",)},
        {"field_map": {"lead_id": "lead_id", "name": "name", "mobile": "mobile"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_about_rows_has_changed_so_everything_is_read_once(
    make_world: MakeWorld, change: dict[str, Any]
) -> None:
    world, crm = make_world(0), crm_with(3)
    for row in list(crm.rows.values()):
        crm.rows[f"{row['lead_id']}#1"] = {**row, "touched_at": row["updated_at"]}
    run(world, crm, "dag/0/sync")

    changed = run(world, crm, "dag/1/sync", **change)
    again = run(world, crm, "dag/2/sync", **change)

    assert sum(changed.counts().values()) == 3
    assert sum(again.counts().values()) == 1
    assert any("read once more" in line for line in world.log)


def test_each_task_has_its_own(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(3)
    run(world, crm, "dag/0/sync")
    run(world, crm, "other/0/sync", task="other/sync")
    assert crm.asked == [START, START]
    kept = watermark_store.watermarks(world.open_ledger(), "crm.leads")
    assert [one["task"] for one in kept] == ["dag/sync", "other/sync"]
    assert {one["highest_read"] for one in kept} == {"2026-01-01T05:00:00.000000"}


def test_a_row_without_a_value_holds_it_while_it_is_unfinished(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(3)
    crm.put(4, None)
    crm.put(5, None, mobile="ring me")

    run(world, crm, "dag/0/sync", limit=3)
    assert any("1 unfinished rows have no usable value in 'updated_at'" in line for line in world.log)
    run(world, crm, "dag/1/sync")
    run(world, crm, "dag/2/sync")

    assert crm.asked == [START, START, minute(290)]
    check_invariants(world)


def test_a_value_of_another_type_counts_as_none_unless_it_is_the_first(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(2)
    crm.put(9, "soon")

    def everything(read_from: Any) -> Iterator[Row]:
        crm.asked.append(read_from)
        return iter(crm.rows.values())

    crm.instead = everything
    run(world, crm, "dag/0/sync", limit=2)
    run(world, crm, "dag/1/sync")
    run(world, crm, "dag/2/sync")
    assert crm.asked == [START, START, minute(190)]

    crm.rows = {"L009#1": {**crm.rows["L009#1"], "updated_at": 17}}
    refused = run(world, crm, "dag/3/sync", watermark=settings(start="2026-01-01 00:00"))
    assert isinstance(refused.error, PopinInputError)
    assert "is text of the form 9999-99-99 99:99, but 'updated_at' holds a whole number" in str(refused.error)


def test_a_column_that_is_absent_is_an_error_before_any_post(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(2)
    refused = run(world, crm, "dag/0/sync", watermark=settings(column="changed"))
    assert "the source has no column 'changed'" in str(refused.error)
    assert not world.sandbox.requests(endpoint="capture")


def test_a_time_to_come_does_not_hide_what_is_to_come(make_world: MakeWorld) -> None:
    world, crm = make_world(0), crm_with(2)
    crm.put(9, datetime(2999, 1, 1, tzinfo=UTC))
    run(world, crm, "dag/0/sync")
    crm.put(3, 300)
    run(world, crm, "dag/1/sync")
    assert crm.read == ["L002", "L009", "L003"]
    assert world.ledger.ended()["L003#1"] == "booked"


def test_a_source_that_is_empty_leaves_it_where_it_was(make_world: MakeWorld) -> None:
    world, crm = make_world(0), Crm()
    run(world, crm, "dag/0/sync")
    crm.put(1, 100)
    run(world, crm, "dag/1/sync")
    crm.rows.clear()
    run(world, crm, "dag/2/sync")
    run(world, crm, "dag/3/sync")
    assert crm.asked == [START, START, minute(90), minute(90)]


@pytest.mark.parametrize(
    ("start", "values", "expected"),
    [
        (0, [5, 1500, 2500], 1500),
        (date(2026, 1, 1), [date(2026, 1, 3), date(2026, 1, 9)], date(2026, 1, 8)),
        (datetime(2026, 1, 1), [datetime(2026, 1, 9, 12)], datetime(2026, 1, 9, 11)),  # noqa: DTZ001
        ("2026-01-01 00:00:00", ["2026-01-09 12:00:00.25"], "2026-01-09 10:59:59"),
        ("2026-01-01", ["2026-01-09"], "2026-01-08"),
    ],
    ids=["integer", "date", "naive", "text", "date as text"],
)
def test_every_kind_of_column(make_world: MakeWorld, start: Any, values: list[Any], expected: Any) -> None:
    world, crm = make_world(0), Crm()
    for number, value in enumerate(values, 1):
        crm.put(number, None)
        crm.rows[f"L{number:03}#1"] = {**crm.rows[f"L{number:03}#1"], "updated_at": value}
    kind = settings(start=start, overlap=None)
    run(world, crm, "dag/0/sync", watermark=kind)
    run(world, crm, "dag/1/sync", watermark=kind)
    assert crm.asked == [start, expected]
