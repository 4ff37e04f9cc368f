"""Every row of the outcome table, produced on the wire by every fault of the sandbox.

One worker sends the leads in order, and each fault strikes the exchange of one lead: what becomes of that
lead is exact, and its neighbours must not notice. Faults that outlast the client's timeout have tests of
their own, in which all leads wait at once: only there is the timeout short.
"""

from __future__ import annotations

import pytest

from airflow_provider_popin.client.errors import PopinAccessError, PopinError, PopinReplyError
from airflow_provider_popin.sandbox.fault_kinds import KINDS, TWO_SIDED
from airflow_provider_popin.sync import session
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants

BOTH_SIDES = [f"{name}_{side}_commit" for name, *_ in TWO_SIDED for side in ("before", "after")]
CUT_OFF = ["refuse", "outage(0.02)"]
UNKNOWN = [*BOTH_SIDES, *CUT_OFF, "cut_body", "missing_parts(status)"]
# All of them are committed. The rest must be done within the timeout, however busy the machine is.
TIMEOUT = 4.0
SLOW = ["slow_before_commit(8)", "slow_after_commit(8)", "slow_body(8)"]
REFUSED = ["400", "409", "422", "422_no_field", "status0", "echo(200)", "echo(409)", "echo(422)"]
STOP = ["401", "403", "404", "422_html", "echo(402)"]
THROTTLED = ["429(0)", "429(0.1)", "429(none)", "429(date:0)", "429(soon)"]
STOP_SLOTS = [*STOP[:-1], *REFUSED[:5], "500", "429(121)"]

NOT_COMMITTED = {name for name in UNKNOWN if "before" in name} | set(CUT_OFF)


def lead_of(index: int) -> str:
    return f"L{index + 1:03}"


def test_no_fault_of_the_sandbox_is_left_out() -> None:
    tried = {spec.partition("(")[0] for spec in [*UNKNOWN, *SLOW, *REFUSED, *STOP, *THROTTLED]}
    elsewhere = {"wrong_time", "timezone_change", "malformed_slots", "empty_availability"}
    assert tried | elsewhere == set(KINDS)


def test_a_capture_whose_answer_is_lost_is_sent_again_once(make_world: MakeWorld) -> None:
    world = make_world(len(UNKNOWN))
    world.sandbox.set_faults(*(f"capture:{fault}@{2 * i + 1}" for i, fault in enumerate(UNKNOWN)))

    run = world.run(max_concurrency=1)

    assert set(run.results.values()) == {"booked"}
    check_invariants(world)
    assert len(world.sandbox.requests(endpoint="capture")) == 2 * len(UNKNOWN)
    for i, fault in enumerate(UNKNOWN):
        customers = len(world.sandbox.customers(lead=f"{lead_of(i)}#1"))
        assert (fault, customers) == (fault, 1 if fault in NOT_COMMITTED else 2)


def test_a_capture_that_stays_in_doubt_is_sent_by_the_next_run(make_world: MakeWorld) -> None:
    world = make_world(len(UNKNOWN))
    world.sandbox.set_faults(*(f"capture:{fault}@{2 * i + 1},{2 * i + 2}" for i, fault in enumerate(UNKNOWN)))

    run = world.run(max_concurrency=1, max_in_doubt=0)

    assert set(run.results.values()) == {"in_doubt"}
    assert set(world.ledger.states().values()) == {("in_doubt", "waiting")}
    assert run.report is not None
    assert not run.report.problems(world.settings(max_in_doubt=0)), "a capture counts for no threshold"
    check_invariants(world)
    assert set(world.settle().results.values()) == {"booked"}
    check_invariants(world)


def test_a_booking_whose_answer_is_lost_is_in_doubt_and_stays_so(make_world: MakeWorld) -> None:
    world = make_world(len(UNKNOWN) + 1)
    world.sandbox.set_faults(*(f"schedule:{fault}@{i + 1}" for i, fault in enumerate(UNKNOWN)))
    last = lead_of(len(UNKNOWN))

    run = world.run(max_concurrency=1)

    assert run.counts() == {"in_doubt": len(UNKNOWN), "booked": 1}
    assert run.results[last] == "booked"
    for i, fault in enumerate(UNKNOWN):
        assert (fault, world.ledger.states()[f"{lead_of(i)}#1"]) == (fault, ("captured", "in_doubt"))
    check_invariants(world)

    again = world.settle(runs=2)

    assert again.counts() == {"in_doubt": len(UNKNOWN), "skipped": 1}
    assert again.report is not None
    assert (again.report.in_doubt_open, again.report.in_doubt_this_run) == (len(UNKNOWN), 0)
    for i, fault in enumerate(UNKNOWN):
        bookings = len(world.sandbox.bookings(lead=f"{lead_of(i)}#1"))
        assert (fault, bookings) == (fault, 0 if fault in NOT_COMMITTED else 1)
    assert len(world.sandbox.requests(endpoint="schedule")) == len(UNKNOWN) + 1
    check_invariants(world)


def test_a_capture_whose_answer_is_late_is_sent_again_once(make_world: MakeWorld) -> None:
    world = make_world(len(SLOW), timeout_seconds=TIMEOUT)
    world.sandbox.set_faults(*(f"capture:{fault}@{i + 1}" for i, fault in enumerate(SLOW)))

    run = world.run(max_concurrency=len(SLOW))

    assert run.counts() == {"booked": len(SLOW)}
    check_invariants(world)
    assert [len(world.sandbox.customers(lead=f"{lead_of(i)}#1")) for i in range(len(SLOW))] == [2, 2, 2]


def test_a_capture_whose_answers_are_late_is_sent_by_the_next_run(make_world: MakeWorld) -> None:
    world = make_world(len(SLOW), timeout_seconds=TIMEOUT)
    world.sandbox.set_faults(*(f"capture:{fault}@{i + 1},{i + 4}" for i, fault in enumerate(SLOW)))

    run = world.run(max_concurrency=len(SLOW))

    assert run.counts() == {"in_doubt": len(SLOW)}
    assert set(world.ledger.states().values()) == {("in_doubt", "waiting")}
    check_invariants(world)
    assert world.settle().counts() == {"booked": len(SLOW)}
    check_invariants(world)


def test_a_booking_whose_answer_is_late_is_in_doubt_and_stays_so(make_world: MakeWorld) -> None:
    world = make_world(len(SLOW), timeout_seconds=TIMEOUT)
    world.sandbox.set_faults(*(f"schedule:{fault}@{i + 1}" for i, fault in enumerate(SLOW)))

    run = world.run(max_concurrency=len(SLOW))

    assert run.counts() == {"in_doubt": len(SLOW)}
    assert set(world.ledger.states().values()) == {("captured", "in_doubt")}
    check_invariants(world)
    assert world.settle(runs=2).counts() == {"in_doubt": len(SLOW)}
    assert [len(world.sandbox.bookings(lead=f"{lead_of(i)}#1")) for i in range(len(SLOW))] == [1, 1, 1]
    check_invariants(world)


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
def test_what_popin_refuses_is_rejected_and_skipped_afterwards(make_world: MakeWorld, endpoint: str) -> None:
    world = make_world(len(REFUSED) + 1)
    world.sandbox.set_faults(*(f"{endpoint}:{fault}@{i + 1}" for i, fault in enumerate(REFUSED)))

    run = world.run(max_concurrency=1)

    assert run.counts() == {"rejected": len(REFUSED), "booked": 1}
    expected = ("rejected", "waiting") if endpoint == "capture" else ("captured", "rejected")
    for i in range(len(REFUSED)):
        assert world.ledger.states()[f"{lead_of(i)}#1"] == expected
        assert run.reasons[lead_of(i)]
    check_invariants(world)
    again = world.settle()
    assert set(again.reasons.values()) == {"unchanged_since_rejection", "already_booked"}
    assert len(world.sandbox.bookings()) == 1
    check_invariants(world)


@pytest.mark.parametrize("fault", STOP)
def test_an_access_error_at_a_capture_stops_the_run_and_blames_nobody(
    make_world: MakeWorld, fault: str
) -> None:
    world = make_world(3)
    world.sandbox.set_faults(f"capture:{fault}@2")

    run = world.run(max_concurrency=1)

    assert isinstance(run.error, PopinAccessError)
    assert set(run.results.values()) == {"pending"}
    assert world.ledger.states()["L001#1"] == ("captured", "waiting")
    assert world.ledger.states()["L002#1"] == ("new", "waiting")
    check_invariants(world)
    assert set(world.settle().results.values()) == {"booked"}
    check_invariants(world)


@pytest.mark.parametrize("fault", STOP)
def test_an_access_error_at_a_booking_stops_the_run_and_blames_nobody(
    make_world: MakeWorld, fault: str
) -> None:
    world = make_world(3)
    world.sandbox.set_faults(f"schedule:{fault}@2")

    run = world.run(max_concurrency=1)

    assert isinstance(run.error, PopinAccessError)
    assert run.results == {"L001": "booked", "L002": "pending", "L003": "pending"}
    assert run.reasons == {"L001": None, "L002": "stopped", "L003": "stopped"}
    assert world.ledger.states()["L002#1"] == ("captured", "waiting")
    check_invariants(world)
    assert world.settle().results == {"L001": "skipped", "L002": "booked", "L003": "booked"}
    check_invariants(world)


@pytest.mark.parametrize("endpoint", ["capture", "schedule", "slots"])
def test_a_429_is_waited_for_and_sent_again(make_world: MakeWorld, endpoint: str) -> None:
    world = make_world(len(THROTTLED))
    faults = THROTTLED[:4] if endpoint == "slots" else THROTTLED
    step = 1 if endpoint == "slots" else 2
    world.sandbox.set_faults(*(f"{endpoint}:{fault}@{step * i + 1}" for i, fault in enumerate(faults)))

    run = world.run(max_concurrency=1)

    assert set(run.results.values()) == {"booked"}
    assert world.sandbox.stats()["statuses"]["429"] == len(faults)
    check_invariants(world)


def test_a_capture_that_lacks_what_is_not_needed_is_incomplete(make_world: MakeWorld) -> None:
    world = make_world(4)
    world.sandbox.set_faults(
        "capture:missing_parts(url)@1", "capture:missing_parts(message)@2", "capture:missing_parts@3"
    )

    run = world.run(max_concurrency=1)

    assert set(run.results.values()) == {"booked"}
    assert [lead["reply_incomplete"] for lead in world.ledger.leads().values()] == [1, 1, 0, 0]
    # Without the customer_id nothing can be booked: that answer is as good as none, and was asked for again.
    assert len(world.sandbox.requests(endpoint="capture", lead="L003#1")) == 2
    check_invariants(world)


def test_a_booking_that_lacks_what_is_not_needed_is_incomplete(make_world: MakeWorld) -> None:
    world = make_world(5)
    parts = ["", "(schedule.data.time)", "(schedule.data.timezone)", "(data)"]
    world.sandbox.set_faults(*(f"schedule:missing_parts{part}@{i + 1}" for i, part in enumerate(parts)))

    run = world.run(max_concurrency=1)

    assert set(run.results.values()) == {"booked"}
    assert run.report is not None
    assert (run.report.reply_incomplete, run.report.time_mismatch) == (4, 0)
    check_invariants(world)


@pytest.fixture
def _lists_stay_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no list is read for its age."""
    monkeypatch.setattr(session, "FRESH_SECONDS", 3600.0)


LOST_LISTS = [fault.replace("(status)", "(availability)") for fault in UNKNOWN]


@pytest.mark.usefixtures("_lists_stay_fresh")
@pytest.mark.parametrize("first", range(0, len(LOST_LISTS), 4))
def test_a_list_of_slots_that_is_lost_is_read_again(make_world: MakeWorld, first: int) -> None:
    """Twice in a row before the first POST, and twice before the bookings."""
    world = make_world(2)
    faults = [
        f"slots:{fault}@{n}" for fault, n in zip(LOST_LISTS[first : first + 4], (1, 2, 4, 5), strict=False)
    ]
    world.sandbox.set_faults(*faults)

    run = world.run(max_concurrency=1)

    assert set(run.results.values()) == {"booked"}
    assert len(world.sandbox.requests(endpoint="slots")) == 2 + len(faults)
    check_invariants(world)


@pytest.mark.usefixtures("_lists_stay_fresh")
@pytest.mark.parametrize("fault", SLOW)
def test_a_list_of_slots_that_is_late_is_read_again(make_world: MakeWorld, fault: str) -> None:
    """Once before the first POST, and once before the bookings."""
    world = make_world(2, timeout_seconds=TIMEOUT)
    world.sandbox.set_faults(f"slots:{fault}@1,3")

    run = world.run(max_concurrency=1)

    assert set(run.results.values()) == {"booked"}
    assert len(world.sandbox.requests(endpoint="slots")) == 4
    check_invariants(world)


@pytest.mark.parametrize("fault", STOP_SLOTS)
def test_a_list_of_slots_that_is_refused_at_the_start_costs_no_lead_anything(
    make_world: MakeWorld, fault: str
) -> None:
    world = make_world(3)
    world.sandbox.set_faults(f"slots:{fault}")

    run = world.run(max_concurrency=1)

    assert isinstance(run.error, PopinError)
    assert not world.sandbox.requests(endpoint="capture")
    assert not world.ledger.leads()
    check_invariants(world)
    assert set(world.settle().results.values()) == {"booked"}
    check_invariants(world)


@pytest.mark.parametrize("fault", STOP_SLOTS)
def test_a_list_of_slots_that_is_refused_before_booking_leaves_the_captured_leads(
    make_world: MakeWorld, fault: str
) -> None:
    world = make_world(3)
    world.sandbox.set_faults(f"slots:{fault}@2-")

    run = world.run(max_concurrency=1)

    assert isinstance(run.error, PopinError)
    assert set(run.results.values()) == {"pending"}
    assert set(world.ledger.states().values()) == {("captured", "waiting")}
    check_invariants(world)
    assert set(world.settle().results.values()) == {"booked"}
    check_invariants(world)


@pytest.mark.parametrize("value", ["some", "all"])
def test_malformed_slots_are_skipped_and_none_well_formed_is_an_error(
    make_world: MakeWorld, value: str
) -> None:
    world = make_world(3)
    world.sandbox.set_faults(f"slots:malformed_slots({value})")

    run = world.run(max_concurrency=1)

    if value == "some":
        assert set(run.results.values()) == {"booked"}
        assert sum("time_malformed" in line for line in world.log) == 1
    else:
        assert isinstance(run.error, PopinReplyError)
        assert not world.sandbox.requests(endpoint="capture")
    check_invariants(world)
    world.settle()
    assert {state for _, state in world.ledger.states().values()} == {"booked"}


def test_an_empty_list_of_slots_leaves_everybody_unassigned(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.sandbox.set_faults("slots:empty_availability")

    run = world.run(max_concurrency=1)

    assert run.error is None
    assert set(run.results.values()) == {"unassigned"}
    assert set(run.reasons.values()) == {"no_slots_open"}
    check_invariants(world)
    assert set(world.settle().results.values()) == {"booked"}
    check_invariants(world)


def test_a_success_that_names_another_time_is_booked_and_fails_the_run(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.sandbox.set_faults("schedule:wrong_time@2")

    run = world.run(max_concurrency=1)

    assert run.report is not None
    assert set(run.results.values()) == {"booked"}
    assert run.report.time_mismatch == 1
    assert run.report.leads["time_mismatch"] == ["L002"]
    assert any("another time" in problem for problem in run.problems)
    check_invariants(world)
