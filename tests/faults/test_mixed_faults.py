"""Many faults at once, by probability, over several runs: the invariants hold, and nothing is left behind."""

from __future__ import annotations

import pytest

from airflow_provider_popin.sandbox.fault_kinds import TWO_SIDED
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants

LOST = [
    *(f"{name}_{side}_commit" for name, *_ in TWO_SIDED for side in ("before", "after")),
    "refuse",
    "cut_body",
]
REFUSALS = ["422", "status0", "429(0)", "echo(422)"]
# A little of everything, about every fourth exchange of each endpoint.
MIXED = [
    *(f"schedule:{fault}=0.007" for fault in [*LOST, *REFUSALS, "422(time)", "422_no_field", "wrong_time"]),
    *(f"capture:{fault}=0.007" for fault in [*LOST, *REFUSALS]),
    *(f"slots:{fault}=0.007" for fault in [*LOST, "429(0)", "malformed_slots"]),
]
# One kind in 30 % of all exchanges, with a little of everything.
MUCH_OF = ["500_after_commit", "reset_after_commit", "422(time)", "429(0)", "html_before_commit", "cut_body"]


def faults_with_much_of(much: str) -> list[str]:
    """The mixture, with 30 % of one fault at both POSTs."""
    return [*MIXED, f"schedule:{much}=0.3", f"capture:{much.replace('(time)', '')}=0.3"]


@pytest.mark.parametrize(("seed", "much"), list(enumerate(MUCH_OF)))
def test_mixed_faults_keep_the_promise_and_leave_nothing_behind(
    make_world: MakeWorld, seed: int, much: str
) -> None:
    world = make_world(40)
    world.sandbox.set_faults(*faults_with_much_of(much), seed=seed)

    for number in range(2):
        world.run(f"dag/{number}/sync", max_concurrency=8)
        check_invariants(world)
    in_doubt = {mark for mark, state in world.ledger.ended().items() if state == "in_doubt"}
    doubted = {m for m, (_, booking) in world.ledger.states().items() if booking == "in_doubt"}
    world.settle(runs=2)

    check_invariants(world)
    ended = world.ledger.ended()
    assert set(ended.values()) <= {"booked", "in_doubt", "rejected"}
    assert {mark for mark, state in ended.items() if state == "in_doubt"} == doubted <= in_doubt


@pytest.mark.parametrize(("seed", "much"), [(11, "500_after_commit"), (12, "500_before_commit")])
def test_resending_sends_each_doubt_once_more_and_never_again(
    make_world: MakeWorld, seed: int, much: str
) -> None:
    world = make_world(30)
    world.sandbox.reset(seats_per_slot=2)
    world.sandbox.set_faults(f"schedule:{much}=0.3", seed=seed)
    world.run("dag/0/sync")
    doubted = {m for m, state in world.ledger.ended().items() if state == "in_doubt"}
    assert len(doubted) > 3

    for number in range(1, 4):
        world.run(f"dag/{number}/sync", on_in_doubt="resend")
        world.ledger.let_time_pass()

    leads = world.ledger.leads()
    assert {mark for mark, lead in leads.items() if lead["resends"]} == doubted
    assert all(lead["resends"] <= 1 for lead in leads.values())
    # Never planned elsewhere: the second POST of a lead asked for the same slot.
    for mark in doubted:
        assert len(world.sandbox.requests(endpoint="schedule", lead=mark)) == 2
        assert len({booking["start"] for booking in world.sandbox.bookings(lead=mark)}) <= 1
    check_invariants(world, resends=len(doubted))


def test_what_a_resend_meets_other_than_a_success_leaves_the_doubt(make_world: MakeWorld) -> None:
    world = make_world(6)
    answers = ["422(time)", "422_no_field", "409", "status0", "500", "429(0)"]
    world.sandbox.set_faults("schedule:500")
    world.run("dag/0/sync", max_concurrency=1)
    seats = world.ledger.rows("popin_seats")
    world.sandbox.set_faults(*(f"schedule:{answer}@{i + 1}" for i, answer in enumerate(answers)))

    run = world.run("dag/1/sync", max_concurrency=1, on_in_doubt="resend")

    # The sixth was told to wait, and was sent again in the same resend.
    assert run.counts() == {"in_doubt": 5, "booked": 1} or run.counts() == {"in_doubt": 6}
    assert world.ledger.rows("popin_seats") == seats
    check_invariants(world, resends=0)


def test_a_resend_meets_the_seat_that_its_own_first_attempt_took(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.sandbox.set_faults("schedule:500_after_commit")
    world.run("dag/0/sync")
    world.sandbox.set_faults()

    run = world.run("dag/1/sync", on_in_doubt="resend")

    assert set(run.results.values()) == {"in_doubt"}, "taken by our own booking, or by somebody else's"
    check_invariants(world)


def test_a_doubt_is_not_sent_again_in_the_run_that_made_it(make_world: MakeWorld) -> None:
    world = make_world(3)
    world.sandbox.set_faults("schedule:500")
    world.run("dag/one/sync", on_in_doubt="resend")
    world.sandbox.set_faults()

    retry = world.run("dag/one/sync", try_number=2, on_in_doubt="resend")

    assert set(retry.results.values()) == {"in_doubt"}
    assert len(world.sandbox.requests(endpoint="schedule")) == 3
    check_invariants(world)
