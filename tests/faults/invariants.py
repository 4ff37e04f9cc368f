"""The invariants I1 to I5 of the lead sync, checked against the sandbox's oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from airflow_provider_popin.sandbox.fault_kinds import TWO_SIDED
from airflow_provider_popin.sandbox.rows import BookingRow, RequestRow
from tests import privacy
from tests.faults.ledger_view import Lead
from tests.faults.people import values_of
from tests.faults.world import Run, World

HOLDS_SEAT = frozenset({"planned", "sending", "booked", "in_doubt"})

# Faults that an exchange ends in doubt by; what else a struck exchange may be, it is never in doubt.
DOUBTFUL = frozenset(
    {
        *(f"{name}_{side}_commit" for name, *_ in TWO_SIDED for side in ("before", "after")),
        *("cut_body", "slow_body", "slow_before_commit", "slow_after_commit", "refuse", "outage"),
        "missing_parts",
    }
)


def check_invariants(
    world: World,
    *,
    interrupted: int = 0,
    resends: int = 0,
    resolved_booked: Iterable[str] = (),
    at_rest: bool = True,
    calls_per_slot: int = 1,
    private: bool = True,
) -> None:
    """Fail if the promise was broken.

    :param interrupted: exchanges that a killed, stopped or cut-off process may have left unanswered
    :param resends: how often a booking in doubt may have been sent once more
    :param resolved_booked: marks of leads that a person said are booked, whether they are or not
    :param at_rest: no run is under way, and the last one was not killed
    :param calls_per_slot: of the runs
    :param private: look for personal data too, which takes its time with many leads
    """
    world.sandbox.wait_idle()
    leads = world.ledger.leads()
    bookings = world.sandbox.bookings()
    check_booked_once(bookings, resends)
    check_vouched_for(bookings, leads, set(resolved_booked))
    check_customers(world, leads)
    for run in world.runs:
        check_result_sets(run)
    check_doubts(world, leads, interrupted)
    check_seats(world, leads, bookings, calls_per_slot, resends)
    if at_rest:
        assert not world.ledger.sending()
        assert not [mark for mark, lead in leads.items() if lead["booking_state"] == "planned"]
        assert not world.ledger.live_owners(), "a lease was not given back"
    if private:
        check_privacy(world)


def check_booked_once(bookings: Iterable[BookingRow], resends: int) -> None:
    """I1: the server booked each lead at most once per generation; a resend may have doubled it."""
    counts = Counter(booking["lead"] for booking in bookings)
    again = {lead: count for lead, count in counts.items() if count > 1 and lead is not None}
    assert all(count == 2 for count in again.values()), f"booked more than twice: {again}"
    assert len(again) <= resends, f"booked twice: {again}"


def check_vouched_for(bookings: Iterable[BookingRow], leads: dict[str, Lead], resolved: set[str]) -> None:
    """I2, and its converse: what the ledger calls booked is booked, for that customer and that time."""
    by_lead: dict[str, list[BookingRow]] = {}
    for booking in bookings:
        if booking["lead"] is not None:
            by_lead.setdefault(booking["lead"], []).append(booking)
    for mark in by_lead:
        state = leads[mark]["booking_state"] if mark in leads else "absent"
        assert state in ("booked", "in_doubt", "sending"), (
            f"{mark} is booked at Popin and {state} in the ledger"
        )
    for mark, lead in leads.items():
        if lead["booking_state"] == "booked" and mark not in resolved:
            assert mark in by_lead, f"{mark} is booked in the ledger only"
            starts = [_epoch(booking["start"]) for booking in by_lead[mark]]
            assert lead["slot_start"] in starts or lead["time_mismatch"], f"{mark} is booked for another time"
            assert lead["customer_id"] in [booking["customer_id"] for booking in by_lead[mark]]


def check_customers(world: World, leads: dict[str, Lead]) -> None:
    """No lead holds a customer that is somebody else."""
    owners = {customer["customer_id"]: customer["lead"] for customer in world.sandbox.customers()}
    for mark, lead in leads.items():
        for name in ("customer_id", "second_customer"):
            if lead[name] is not None:
                assert owners[lead[name]] == mark


def check_result_sets(run: Run) -> None:
    """I3: every input row is in exactly one result set, or there are no results at all."""
    if run.lines is None:
        assert run.error is not None, "a run without an error has results"
        return
    numbers = [line["row"] for line in run.lines]
    assert numbers == list(range(1, len(numbers) + 1))
    if run.rows is not None:
        assert len(numbers) == run.rows
    if run.report is not None:
        assert run.report.rows == len(numbers)
        assert sum(run.report.results.values()) == len(numbers)
        assert run.report.results == {
            name: sum(line["result"] == name for line in run.lines) for name in run.report.results
        }


def check_doubts(world: World, leads: dict[str, Lead], interrupted: int) -> None:
    """I5: in doubt is what fell into an in-doubt row of the outcome table, and what died in mid-exchange."""
    for endpoint, state in (("schedule", "booking_state"), ("capture", "capture_state")):
        doubts = sum(lead[state] == "in_doubt" for lead in leads.values())
        reasons = sum(map(_is_doubtful, world.sandbox.requests(endpoint=endpoint)))
        assert doubts <= reasons + interrupted, f"{doubts} {endpoint}s in doubt, {reasons} for a reason"


def check_seats(
    world: World, leads: dict[str, Lead], bookings: Iterable[BookingRow], calls_per_slot: int, resends: int
) -> None:
    """Who has or may have a call holds a seat, nobody else does, and no slot was oversold."""
    holders = {
        seat["lead"]: (seat["slot_start"], seat["number"]) for seat in world.ledger.rows("popin_seats")
    }
    for mark, lead in leads.items():
        if lead["booking_state"] in HOLDS_SEAT:
            assert holders.get(lead["id"]) == (lead["slot_start"], lead["seat"]), f"{mark} without its seat"
        else:
            assert lead["id"] not in holders, f"{mark} holds a seat"
    per_slot = Counter(booking["start"] for booking in bookings if booking["lead"] is not None)
    assert max(per_slot.values(), default=0) <= calls_per_slot + resends


def check_privacy(world: World) -> None:
    """I4: no phone, e-mail, name or key in logs, exceptions, reports, results and ledger."""
    told = [*world.log, world.ledger.dump(), *(run.told() for run in world.runs)]
    secret = {*values_of(world.all_rows), world.config.api_key}
    privacy.assert_no_personal_data("\n".join(told), secret)


def _is_doubtful(request: RequestRow) -> bool:
    return request["status"] is None or bool(DOUBTFUL.intersection(request["faults"]))


def _epoch(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp())
