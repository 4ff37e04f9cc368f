"""What stops a run, what it may cost, and that the next run goes on where it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from airflow_provider_popin.client import retrying
from airflow_provider_popin.client.errors import (
    PopinAccessError,
    PopinError,
    PopinNotSentError,
    PopinRateLimitError,
    PopinReplyError,
)
from airflow_provider_popin.sandbox.rows import RequestRow
from airflow_provider_popin.sync import calendar_keeper, reading
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.others import free_times, looking_on, looks_between, take_planned_slots, when
from tests.faults.people import Row, lead_rows
from tests.faults.world import Run, World


def statuses(run: Run) -> set[str]:
    return set(run.results.values())


def tries(world: World, lead: str) -> list[RequestRow]:
    return world.sandbox.requests(endpoint="schedule", lead=lead)


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_an_access_error_in_mid_run_loses_nothing(make_world: MakeWorld, endpoint: str, fault: str) -> None:
    world = make_world(20)
    world.sandbox.set_faults(f"{endpoint}:{fault}@10-")

    run = world.run(max_concurrency=4)

    assert isinstance(run.error, PopinAccessError)
    assert run.error.status == int(fault)
    assert statuses(run) <= {"booked", "pending"}
    assert list(run.results.values()).count("booked") == (9 if endpoint == "schedule" else 0)
    # Nobody starts once the first refusal is known; three more may be under way.
    assert len(world.sandbox.requests(endpoint=endpoint)) <= 9 + 4
    check_invariants(world)
    assert statuses(world.settle()) <= {"booked", "skipped"}
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


def test_a_doubt_is_named_even_where_something_else_stops_the_run(make_world: MakeWorld) -> None:
    """The next run has another name: for it the doubt is an old one, which fails nothing."""
    world = make_world(6)
    # The first answer is under way while the second booking meets the refusal.
    world.sandbox.set_faults(
        "schedule:slow_before_commit(3)@1", "schedule:500_after_commit@1", "schedule:401@2-"
    )

    run = world.run(max_concurrency=2, max_in_doubt=0)

    assert isinstance(run.error, PopinAccessError)
    (doubted,) = (lead for lead, result in run.results.items() if result == "in_doubt")
    (line,) = (line for line in world.log if "1 bookings are in doubt" in line)
    assert f"leads: {doubted}:" in line
    check_invariants(world)


@pytest.mark.parametrize("wrong", ["key", "token", "path", "scheme", "port"])
def test_a_wrong_connection_costs_no_lead_anything(make_world: MakeWorld, wrong: str) -> None:
    world = make_world(3)
    port = world.sandbox.port
    changes: dict[str, dict[str, str]] = {
        "key": {"api_key": "another-key-entirely"},
        "token": {"seller_token": "another-token"},
        "path": {"base_url": f"{world.sandbox.url}/shop"},
        "scheme": {"base_url": f"https://127.0.0.1:{port}"},
        "port": {"base_url": "http://127.0.0.1:9"},
    }

    run = world.run(config=replace(world.config, **changes[wrong]))  # type: ignore[arg-type]

    assert isinstance(run.error, PopinNotSentError if wrong in ("scheme", "port") else PopinError)
    assert not world.sandbox.requests(endpoint="capture")
    assert not world.ledger.leads()
    check_invariants(world)
    assert statuses(world.settle()) == {"booked"}


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
@pytest.mark.parametrize("asked", ["121", "date:130"])
def test_a_retry_after_beyond_two_minutes_stops_the_run(
    make_world: MakeWorld, endpoint: str, asked: str
) -> None:
    world = make_world(6)
    world.sandbox.set_faults(f"{endpoint}:429({asked})@2-")
    started = time.monotonic()

    run = world.run(max_concurrency=1)

    assert time.monotonic() - started < 60
    assert isinstance(run.error, PopinRateLimitError)
    assert run.error.retry_after is not None
    assert run.error.retry_after > 120
    assert len(world.sandbox.requests(endpoint=endpoint)) == 2
    check_invariants(world)
    assert statuses(world.settle()) <= {"booked", "skipped"}
    check_invariants(world)


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
@pytest.mark.parametrize("asked", ["2.2", "date:3"])
def test_nobody_waits_for_a_retry_after_while_sending(
    make_world: MakeWorld, endpoint: str, asked: str
) -> None:
    world = make_world(12)
    world.sandbox.set_faults(f"{endpoint}:429({asked})@3")

    with looking_on(world) as seen:
        run = world.run(max_concurrency=3)

    assert statuses(run) == {"booked"}
    requests = world.sandbox.requests(endpoint=endpoint)
    told = next(i for i, request in enumerate(requests) if request["status"] == 429)
    waited = [request["monotonic"] - requests[told]["monotonic"] for request in requests[told + 1 :]]
    # Of each other worker, the request under way at the 429 may come in at once, and one more that had its
    # permit before the 429 was read here; all others, the struck one too, wait as asked.
    assert sum(seconds < 1 for seconds in waited) <= 4
    assert max(waited) >= (2.2 if asked == "2.2" else 1.9)
    struck = requests[told]["monotonic"]
    quiet = looks_between(seen, struck + 0.7, struck + 1.7)
    assert quiet, "nobody looked; a lead that waits while sending is seen at every look"
    assert not any(quiet), f"sending while waiting: {quiet}"
    check_invariants(world)


def test_a_storm_of_429_is_sat_out(make_world: MakeWorld) -> None:
    world = make_world(12)
    world.sandbox.set_faults("capture:429(0)@5-9", "schedule:429(0)@3-8", "slots:429(0)@2-4")

    run = world.run(max_concurrency=4)

    assert statuses(run) == {"booked"}
    assert world.sandbox.stats()["statuses"]["429"] == 14
    check_invariants(world)


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
def test_a_storm_of_429_without_end_stops_the_run(make_world: MakeWorld, endpoint: str) -> None:
    world = make_world(12)
    world.sandbox.set_faults(f"{endpoint}:429(0)@5-")

    run = world.run(max_concurrency=4)

    assert isinstance(run.error, PopinRateLimitError)
    assert statuses(run) <= {"booked", "pending"}
    assert len(world.sandbox.requests(endpoint=endpoint)) < 60
    check_invariants(world)
    world.settle()
    assert set(world.ledger.ended().values()) == {"booked"}
    check_invariants(world)


def rows_then(rows: list[dict[str, object]], action: object) -> Iterator[Row]:
    """Rows, with something happening in the middle of the read."""
    for number, row in enumerate(rows):
        if number == len(rows) // 2:
            assert callable(action)
            action()
        yield row


def test_a_server_that_is_gone_in_mid_run_stops_it_and_the_next_run_goes_on(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHUNK_ROWS", 10)
    world = make_world(40)

    run = world.run(rows=rows_then(lead_rows(40), world.sandbox.stop_listening), max_concurrency=2)

    assert isinstance(run.error, PopinNotSentError)
    assert statuses(run) <= {"pending", "in_doubt"}
    assert {"captured", "new"} <= set(world.ledger.ended().values())
    world.sandbox.start_listening()
    # The server's end also cuts off both workers, whose requests it may not have read yet.
    check_invariants(world, interrupted=2)
    assert statuses(world.settle()) == {"booked"}
    check_invariants(world, interrupted=2)


def test_a_server_that_comes_back_in_time_is_waited_for(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "_LONGEST_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(retrying, "_FIRST_WAIT_SECONDS", 0.05)
    world = make_world(10)
    world.sandbox.set_faults("schedule:outage(0.03)@4", "capture:outage(0.03)@4")

    run = world.run(max_concurrency=2)

    assert run.error is None
    assert statuses(run) <= {"booked", "in_doubt"}
    # The outage also resets the other worker's connection, whose request the server may not have read yet.
    check_invariants(world, interrupted=1)


@pytest.mark.parametrize("max_in_doubt", [0, 2])
def test_a_spell_of_lost_answers_leaves_a_handful_in_doubt(make_world: MakeWorld, max_in_doubt: int) -> None:
    world = make_world(40)
    world.sandbox.set_faults("schedule:500_after_commit@5-")

    run = world.run(max_concurrency=4, max_in_doubt=max_in_doubt)

    assert run.report is not None
    counts = run.counts()
    assert max_in_doubt < counts["in_doubt"] <= max_in_doubt + 4
    assert counts["pending"] == 40 - counts["in_doubt"] - counts["booked"]
    assert {run.reasons[lead] for lead, result in run.results.items() if result == "pending"} == {
        "too_many_in_doubt"
    }
    assert any("in doubt" in told for told in run.report.problems(world.settings(max_in_doubt=max_in_doubt)))
    check_invariants(world)
    again = world.settle(max_in_doubt=0)
    assert again.counts()["booked"] == counts["pending"], "older doubts hold nobody back"
    assert again.report is not None
    assert not again.report.problems(world.settings(max_in_doubt=0))
    check_invariants(world)


def test_a_timezone_change_voids_the_plan(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar_keeper, "REFRESH_SECONDS", 0.05)
    world = make_world(5)
    world.sandbox.set_faults("schedule:slow_after_commit(1)@2")

    # While the answer of the second booking is under way, the list is read again: the seller is in New York.
    with when(
        lambda: len(world.sandbox.bookings()) == 2, lambda: world.sandbox.set_faults("slots:timezone_change")
    ):
        run = world.run(max_concurrency=1)

    assert statuses(run) == {"booked"}
    zones = [lead["slot_timezone"] for lead in world.ledger.leads().values()]
    assert zones == ["Asia/Kolkata"] * 2 + ["America/New_York"] * 3
    assert run.report is not None
    assert not run.report.time_mismatch
    check_invariants(world)


def test_a_timezone_change_that_nobody_noticed_is_a_mismatch(make_world: MakeWorld) -> None:
    """The seller moves between our list and our booking: the same words then mean another time."""
    world = make_world(3)
    world.sandbox.set_faults("schedule:slow_after_commit(1)@1", "slots:timezone_change@3-")

    with when(world.sandbox.bookings, lambda: free_times(world)):
        run = world.run(max_concurrency=1)

    assert statuses(run) == {"booked"}
    assert [bool(lead["time_mismatch"]) for lead in world.ledger.leads().values()] == [False, True, True]
    assert any("another time" in problem for problem in run.problems)
    check_invariants(world)


def test_slots_that_vanish_are_not_asked_for(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar_keeper, "REFRESH_SECONDS", 0.05)
    world = make_world(8)
    world.sandbox.set_faults("schedule:slow_after_commit(1)@1")

    # While the first booking is under way, nothing is listed any more.
    with when(world.sandbox.bookings, lambda: world.sandbox.set_faults("slots:empty_availability")):
        run = world.run(max_concurrency=1)

    assert run.counts() == {"booked": 1, "unassigned": 7}
    assert len(world.sandbox.requests(endpoint="schedule")) == 1
    check_invariants(world)
    world.sandbox.set_faults()
    assert statuses(world.settle()) == {"booked", "skipped"}
    check_invariants(world)


@pytest.mark.parametrize("refusal", ["422", "status0"])
def test_slots_that_others_take_are_planned_again(make_world: MakeWorld, refusal: str) -> None:
    world = make_world(5)
    world.sandbox.reset(refusal=refusal)
    # While the first booking is under way, somebody takes the next slots, which are planned already.
    world.sandbox.set_faults("schedule:slow_after_commit(1)@1")

    with when(world.sandbox.bookings, lambda: take_planned_slots(world, 3)):
        run = world.run(max_concurrency=1)

    assert statuses(run) == {"booked"}
    refused = [lead for lead in world.ledger.leads() if len(tries(world, lead)) == 2]
    # Popin's "no" names the time in one style; in the other, a fresh list tells about the other two as well.
    assert refused == (["L002#1", "L003#1", "L004#1"] if refusal == "422" else ["L002#1"])
    check_invariants(world)


def test_a_lead_that_meets_taken_slots_is_planned_again_three_times_at_most(make_world: MakeWorld) -> None:
    world = make_world(2)
    world.sandbox.set_faults("schedule:422(time)")

    run = world.run(max_concurrency=1)

    assert set(run.reasons.values()) == {"slot_taken"}
    assert statuses(run) == {"unassigned"}
    for lead in world.ledger.leads():
        assert len(world.sandbox.requests(endpoint="schedule", lead=lead)) == 4
    check_invariants(world)
    assert statuses(world.settle()) == {"booked"}
    check_invariants(world)


def test_a_refusal_without_a_field_is_about_the_lead_while_the_slot_is_listed(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.sandbox.set_faults("schedule:422_no_field@2")

    run = world.run(max_concurrency=1)

    assert run.results == {"L001": "booked", "L002": "rejected", "L003": "booked"}
    check_invariants(world)


def test_a_slot_list_that_hangs_does_not_keep_a_refused_lead_sending(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal that may be about the slot asks for a fresh list; its answer is not worth a doubt."""
    monkeypatch.setattr(calendar_keeper, "STILL_LISTS_SECONDS", 0.1)
    world = make_world(2)
    world.sandbox.set_faults("schedule:422_no_field@1", "slots:429(2)@3")

    with looking_on(world) as seen:
        run = world.run(max_concurrency=1)

    assert statuses(run) == {"booked"}
    refused = world.sandbox.requests(endpoint="schedule")[0]["monotonic"]
    waiting = looks_between(seen, refused + 0.7, refused + 1.7)
    assert waiting, "nobody looked"
    assert not any(waiting)
    check_invariants(world)


def test_no_slot_within_the_notice_is_booked(make_world: MakeWorld) -> None:
    world = make_world(4)
    notice = timedelta(days=2)
    started = datetime.now().astimezone()

    run = world.run(min_notice=notice)

    assert statuses(run) == {"booked"}
    for booking in world.sandbox.bookings():
        assert datetime.fromisoformat(booking["start"]) >= started + notice
    check_invariants(world)


@pytest.mark.parametrize("calls", [1, 3])
def test_a_slot_gets_as_many_calls_as_the_settings_say(make_world: MakeWorld, calls: int) -> None:
    world = make_world(7)
    world.sandbox.reset(seats_per_slot=5)

    run = world.run(calls_per_slot=calls)

    assert statuses(run) == {"booked"}
    assert world.sandbox.stats()["bookings_per_slot_max"] == calls
    check_invariants(world, calls_per_slot=calls)


def test_a_slot_with_fewer_seats_than_we_think_is_closed_when_taken(make_world: MakeWorld) -> None:
    world = make_world(7)
    world.sandbox.reset(seats_per_slot=2)

    run = world.run(calls_per_slot=3, max_concurrency=3)

    assert statuses(run) == {"booked"}
    assert world.sandbox.stats()["bookings_per_slot_max"] == 2
    check_invariants(world, calls_per_slot=3)


def test_more_leads_than_seats_leave_the_rest_unassigned_and_the_next_run_books_them(
    make_world: MakeWorld,
) -> None:
    world = make_world(5)
    slots = ["Mon, 03 Jan 2028 10:00 AM", "Mon, 03 Jan 2028 10:15 AM", "Mon, 03 Jan 2028 10:30 AM"]
    world.sandbox.reset(slots=slots)

    run = world.run()

    assert run.counts() == {"booked": 3, "unassigned": 2}
    check_invariants(world)
    assert world.settle(calls_per_slot=1).counts() == {"skipped": 3, "unassigned": 2}
    check_invariants(world)


def test_a_reply_error_after_bookings_still_writes_the_results(make_world: MakeWorld) -> None:
    world = make_world(4)
    world.sandbox.set_faults("schedule:422(time)@2", "slots:500@3-")
    told: list[object] = []

    run = world.run(max_concurrency=1, write_back=told.extend)

    assert isinstance(run.error, PopinReplyError)
    assert run.counts() if run.report else run.results
    assert list(run.results.values()).count("booked") == 3
    assert [t["lead_id"] for t in told if t["state"] == "booked"] == ["L001", "L003", "L004"]  # type: ignore[index]
    check_invariants(world)
