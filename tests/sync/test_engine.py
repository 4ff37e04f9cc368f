"""The whole run without faults: every row ends in one result set, and every setting does what it says."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync import engine, progress
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from airflow_provider_popin.sync.source.unreadable import Unreadable, UnreadableRow
from tests.faults import conftest as fixtures
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.people import Row, lead_row, lead_rows

make_world = fixtures.make_world
ledger_url = fixtures.ledger_url
_short_waits = fixtures._short_waits


@fixtures.on_each_database
def test_leads_become_calls_and_the_next_run_sends_nothing(make_world: MakeWorld) -> None:
    world = make_world(25)

    run = world.run("dag/0/sync")

    assert run.counts() == {"booked": 25}
    assert run.error is None
    assert not run.problems
    sent = len(world.sandbox.requests(endpoint="capture")), len(world.sandbox.requests(endpoint="schedule"))
    assert sent == (25, 25)
    again = world.run("dag/1/sync")
    assert again.counts() == {"skipped": 25}
    assert set(again.reasons.values()) == {"already_booked"}
    assert world.sandbox.stats()["requests"]["schedule"] == 25
    check_invariants(world)


def test_counts_are_per_dag_run_over_all_of_its_tries(make_world: MakeWorld) -> None:
    world = make_world(6)
    world.run("dag/0/sync", limit=2, try_number=1)

    retry = world.run("dag/0/sync", try_number=2)
    cleared = world.run("dag/0/sync", try_number=3)

    assert retry.counts() == {"booked": 6}
    assert cleared.counts() == {"booked": 6}
    assert world.sandbox.stats()["requests"]["schedule"] == 6
    check_invariants(world)


def test_every_row_is_in_one_result_set(make_world: MakeWorld) -> None:
    late = {"latest": "2020-01-01T00:00:00+00:00"}
    rows: list[Row] = [
        lead_row(1, latest=None),
        lead_row(2, mobile="ring me", latest=None),
        lead_row(1, latest=None),
        lead_row(3, lead_id="  ", latest=None),
        UnreadableRow(Unreadable.ROW_TOO_SHORT),
        lead_row(4, **late),
        lead_row(5, mobile="+9112", latest=None),
    ]
    world = make_world(rows)
    world.all_rows = [row for row in rows if row]
    columns = ("lead_id", "name", "mobile", "email", "latest", "campaign.test_lead")

    run = world.run(field_map={name: name for name in columns})

    assert run.lines is not None
    assert [(line["row"], line["result"], line["reason"]) for line in run.lines] == [
        (1, "booked", None),
        (2, "rejected", "phone_letters"),
        (3, "skipped", "duplicate_lead_id"),
        (4, "rejected", "lead_id_missing"),
        (5, "rejected", "row_too_short"),
        (6, "unassigned", "no_slot_in_window"),
        (7, "rejected", "phone_invalid"),
    ]
    check_invariants(world)


def test_a_corrected_row_is_tried_again_and_an_unchanged_one_is_not(make_world: MakeWorld) -> None:
    world = make_world([lead_row(1, mobile="ring me"), lead_row(2, mobile="ring me too")])
    assert world.run("dag/0/sync").counts() == {"rejected": 2}

    world.rows[0] = lead_row(1)
    run = world.run("dag/1/sync")

    assert run.results == {"L001": "booked", "L002": "skipped"}
    assert run.reasons["L002"] == "unchanged_since_rejection"
    check_invariants(world)


def test_a_limit_takes_the_first_leads_that_would_be_sent(make_world: MakeWorld) -> None:
    world = make_world(6)
    world.run("dag/0/sync", limit=2)
    world.rows[2] = lead_row(3, mobile="ring me")

    run = world.run("dag/1/sync", limit=2)

    assert list(run.results.values()) == ["skipped", "skipped", "rejected", "booked", "booked", "pending"]
    assert run.reasons["L006"] == "limit"
    assert "L006#1" not in world.ledger.leads()
    check_invariants(world)


@fixtures.on_each_database
def test_leads_that_could_have_no_slot_are_never_in_the_way_of_others(make_world: MakeWorld) -> None:
    """Captured once, each of them would take one of two places in every run."""
    never = {"earliest": "2199-01-01T10:00:00+05:30"}
    world = make_world(0)
    world.rows = [*lead_rows(2, **never), lead_row(3), lead_row(4), lead_row(5)]

    runs = [world.run(f"dag/{number}/sync", limit=2) for number in range(3)]

    assert [list(run.results.values()) for run in runs] == [
        ["unassigned", "unassigned", "pending", "pending", "pending"],
        ["unassigned", "unassigned", "booked", "booked", "pending"],
        ["unassigned", "unassigned", "skipped", "skipped", "booked"],
    ]
    assert [run.reasons["L002"] for run in runs] == ["no_slot_in_window"] * 3
    check_invariants(world)


def test_a_limit_counts_no_absent_lead_that_could_have_no_slot(make_world: MakeWorld) -> None:
    world = make_world(0)
    world.rows = [lead_row(1, earliest="2199-01-01T10:00:00+05:30"), *lead_rows(4)[1:]]
    world.run("dag/0/sync", steps=("capture",))
    world.rows = [lead_row(5)]

    run = world.run("dag/1/sync", carry_over=True, limit=3)

    assert run.report is not None
    assert (run.report.unfinished_absent, run.report.carried_over) == (4, 2)
    assert {booking["lead"] for booking in world.sandbox.bookings()} == {"L002#1", "L003#1", "L005#1"}
    check_invariants(world)


def test_a_limit_counts_no_lead_whose_slots_are_full(make_world: MakeWorld) -> None:
    world = make_world(4)
    world.sandbox.reset(slots=["Mon, 03 Jan 2028 10:00 AM"], seats_per_slot=2)
    world.run("dag/0/sync", steps=("capture",), limit=3)

    runs = [world.run(f"dag/{number}/sync", limit=1) for number in (1, 2)]

    assert [list(run.results.values()) for run in runs] == [
        ["booked", "pending", "pending", "pending"],
        ["skipped", "unassigned", "unassigned", "unassigned"],
    ]
    assert {runs[1].reasons[lead] for lead in ("L002", "L003", "L004")} == {"slots_full"}
    assert world.sandbox.stats()["requests"]["capture"] == 4  # the last lead had the only place
    check_invariants(world)


def test_a_limit_of_none_at_all_sends_nothing(make_world: MakeWorld) -> None:
    world = make_world(3)

    assert world.run(limit=0).counts() == {"pending": 3}

    assert not world.sandbox.requests(endpoint="capture")


def test_captured_leads_that_are_absent_are_told_and_booked_only_when_asked(make_world: MakeWorld) -> None:
    world = make_world(5)
    assert world.run("dag/0/sync", steps=("capture",)).counts() == {"captured": 5}
    world.rows = world.rows[:2]

    run = world.run("dag/1/sync")
    assert run.report is not None
    assert (run.report.unfinished_absent, run.report.carried_over) == (3, 0)
    assert world.sandbox.stats()["bookings"] == 2

    run = world.run("dag/2/sync", carry_over=True)
    assert run.report is not None
    assert (run.report.unfinished_absent, run.report.carried_over) == (3, 3)
    assert world.sandbox.stats()["bookings"] == 5
    check_invariants(world)


def test_a_lower_generation_that_its_row_has_left_behind_is_absent(make_world: MakeWorld) -> None:
    world = make_world(1)
    world.run("dag/0/sync", steps=("capture",))
    world.rows = [lead_row(1, generation=2)]

    runs = [world.run(f"dag/{number}/sync", carry_over=number > 1) for number in (1, 2, 3)]

    assert [run.counts() for run in runs] == [{"pending": 1}, {"pending": 1}, {"booked": 1}]
    reports = [run.report for run in runs if run.report is not None]
    assert [(told.unfinished_absent, told.carried_over) for told in reports] == [(1, 0), (1, 1), (0, 0)]
    assert [booking["lead"] for booking in world.sandbox.bookings()] == ["L001#1", "L001#2"]
    check_invariants(world)


def test_a_limit_counts_absent_leads_that_are_carried_over_too(make_world: MakeWorld) -> None:
    world = make_world(5)
    world.run("dag/0/sync", steps=("capture",))
    world.rows = world.rows[:1]

    run = world.run("dag/1/sync", carry_over=True, limit=3)

    assert run.report is not None
    assert (run.report.unfinished_absent, run.report.carried_over) == (4, 2)
    assert world.sandbox.stats()["bookings"] == 3
    check_invariants(world)


def test_a_slot_may_have_more_seats_than_anybody_can_count(make_world: MakeWorld) -> None:
    """Seats are numbered one by one only as far as there are leads."""
    world = make_world(3)
    world.sandbox.reset(seats_per_slot=3)

    assert world.run(calls_per_slot=10**12).counts() == {"booked": 3}

    assert sorted(lead["seat"] for lead in world.ledger.leads().values()) == [1, 2, 3]
    check_invariants(world, calls_per_slot=10**12)


def test_the_capture_step_alone(make_world: MakeWorld) -> None:
    world = make_world(4)

    assert world.run("dag/0/sync", steps=("capture",)).counts() == {"captured": 4}
    assert world.run("dag/0/sync", steps=("capture",), try_number=2).counts() == {"captured": 4}
    assert world.run("dag/1/sync", steps=("capture",)).counts() == {"skipped": 4}

    assert world.sandbox.stats()["requests"]["capture"] == 4
    assert not world.sandbox.requests(endpoint="schedule")
    check_invariants(world)


def test_the_schedule_step_alone_takes_customers_from_the_source(make_world: MakeWorld) -> None:
    world = make_world(4)
    world.run("dag/0/sync", steps=("capture",), source="forms")
    customers = {lead["lead_id"]: lead["customer_id"] for lead in world.ledger.rows("popin_leads")}
    rows: list[Row] = [{**row, "customer_id": customers[str(row["lead_id"])]} for row in world.rows]
    other = make_world(rows, account="another")

    run = other.run("dag/0/sync", steps=("schedule",))

    assert run.counts() == {"booked": 4}
    assert world.sandbox.stats()["requests"]["capture"] == 4
    assert world.sandbox.stats()["bookings_per_customer_max"] == 1


def test_a_customer_of_another_lead_is_refused(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.run("dag/0/sync")
    taken = world.ledger.leads()["L001#1"]["customer_id"]

    run = world.run("dag/1/sync", rows=[lead_row(9, customer_id=taken)])

    assert run.reasons == {"L009": "customer_id_of_other_lead"}
    assert world.sandbox.stats()["bookings"] == 2


def test_a_higher_generation_books_the_same_lead_again_once(make_world: MakeWorld) -> None:
    world = make_world([lead_row(1, generation=1)])
    world.run("dag/0/sync")
    world.rows = [lead_row(1, generation=2), lead_row(1, generation=1)]

    run = world.run("dag/1/sync")
    world.run("dag/2/sync")

    assert run.lines is not None
    assert [(line["generation"], line["result"], line["reason"]) for line in run.lines] == [
        (2, "booked", None),
        (1, "skipped", "older_generation"),
    ]
    assert [booking["lead"] for booking in world.sandbox.bookings()] == ["L001#1", "L001#2"]
    check_invariants(world)


def test_a_higher_generation_waits_for_the_lower_one(make_world: MakeWorld) -> None:
    world = make_world([lead_row(1, generation=1), lead_row(1, generation=2)])
    world.sandbox.set_faults("schedule:500")

    first = world.run("dag/0/sync")
    second = world.settle()

    assert first.lines is not None
    assert [line["reason"] for line in first.lines][1] == "earlier_generation_unfinished"
    assert second.lines is not None
    assert [line["result"] for line in second.lines] == ["in_doubt", "pending"]
    assert not world.sandbox.bookings()
    check_invariants(world)


def test_priorities_and_windows_reach_the_planner(make_world: MakeWorld) -> None:
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    slots = ["Mon, 03 Jan 2028 10:00 AM", "Mon, 03 Jan 2028 10:15 AM"]
    rows: list[Row] = [
        lead_row(n, priority=n, earliest=tomorrow.isoformat(), hours_from=None, hours_to=None)
        for n in range(1, 5)
    ]
    world = make_world(rows)
    world.sandbox.reset(slots=slots)

    run = world.run()

    assert run.results == {"L001": "unassigned", "L002": "unassigned", "L003": "booked", "L004": "booked"}
    assert set(run.reasons.values()) == {None, "slots_full"}
    check_invariants(world)


def test_a_missing_column_is_an_error_before_any_post(make_world: MakeWorld) -> None:
    world = make_world(3)

    run = world.run(field_map={"lead_id": "lead_id", "name": "Name", "mobile": "mobile"})

    assert isinstance(run.error, PopinInputError)
    assert "Name" in str(run.error)
    assert not world.sandbox.requests(endpoint="capture")
    check_invariants(world)


def test_a_dry_run_says_what_would_happen_and_does_nothing(make_world: MakeWorld) -> None:
    world = make_world(4)

    dry = world.run("dag/0/sync", dry_run=True)

    assert dry.counts() == {"planned": 4}
    assert not world.sandbox.requests(endpoint="capture")
    assert not world.ledger.leads()
    planned = [line["slot"] for line in dry.lines or ()]
    wet = world.run("dag/0/sync")
    assert [line["slot"] for line in wet.lines or ()] == planned


def test_a_run_that_sends_needs_a_ledger() -> None:
    from airflow_provider_popin.client.config import ClientConfig

    with pytest.raises(LedgerError, match="needs a ledger"):
        LeadSync(
            settings=SyncSettings(source="crm.leads"),
            config=ClientConfig(seller_token="5", api_key="no-key-at-all"),
            ledger=None,
            run=RunIdentity(dag_run="dag/0/sync"),
        )


def test_progress_is_told_while_a_run_takes_long(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    world = make_world(3)
    world.sandbox.set_faults("schedule:slow_after_commit(0.7)@2")

    world.run(max_concurrency=1)

    told = [record.getMessage() for record in caplog.records if "rows read" in record.getMessage()]
    assert any("3 rows read, 3 captured, 1 booked, 2 left to book, 0 in doubt" in line for line in told)


def test_the_same_phone_on_two_leads_is_counted_and_both_are_called(make_world: MakeWorld) -> None:
    rows = lead_rows(3)
    rows[1]["mobile"] = rows[0]["mobile"]
    world = make_world([*rows])

    run = world.run()

    assert run.report is not None
    assert run.report.shared_phones == 1
    assert run.counts() == {"booked": 3}
    check_invariants(world)


def test_the_report_survives_json_and_names_the_ledger(make_world: MakeWorld) -> None:
    world = make_world(2)

    first = world.run("dag/0/sync").report
    second = world.run("dag/1/sync").report

    assert first is not None
    assert second is not None
    assert json.loads(json.dumps(first.to_xcom()))["ledger_id"] == second.ledger_id
    assert first.ledger_sequence is not None
    assert second.ledger_sequence is not None
    assert second.ledger_sequence > first.ledger_sequence


def test_the_stop_fits_into_what_airflow_grants() -> None:
    assert engine.STOP_SECONDS < 5
