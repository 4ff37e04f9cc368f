"""Which lead an event is about: exactly one, by customer and very instant, or nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_popin.sync.ledger.events import BookingState, CaptureState, Record
from airflow_provider_popin.webhooks.matching import (
    Candidate,
    Match,
    instant_of,
    match_customer,
    match_outcome,
    match_scheduled,
)

ZONE = "Asia/Kolkata"
SLOT = int(datetime(2026, 2, 27, 15, 45, tzinfo=UTC).timestamp())
LOCAL = datetime(2026, 2, 27, 21, 15)  # noqa: DTZ001
HOUR = 3600


def one(
    booking: str, slot: int | None = SLOT, *, lead_id: str = "L1", source: str = "crm", **changes: Any
) -> Candidate:
    record = Record(
        id=changes.pop("id", 1),
        lead_id=lead_id,
        generation=changes.pop("generation", 1),
        capture_state=CaptureState.CAPTURED,
        booking_state=BookingState(booking),
        customer_id="MzE1",
        slot_start=slot if booking in ("planned", "sending", "in_doubt", "booked") else None,
        slot_timezone=changes.pop("zone", ZONE),
    )
    return Candidate(source, record)


class TestScheduled:
    @pytest.mark.parametrize("state", ["sending", "in_doubt", "booked"])
    def test_the_one_at_that_very_instant(self, state: str) -> None:
        candidate = one(state)
        others = [one("waiting", id=2, generation=2), one("booked", SLOT + HOUR, id=3, lead_id="L2")]
        assert match_scheduled([candidate, *others], LOCAL, None) == Match(candidate.record, "", SLOT, ZONE)

    @pytest.mark.parametrize("minutes", [-15, 1, 15, 24 * 60])
    def test_any_other_instant_is_another_call(self, minutes: int) -> None:
        candidate = one("in_doubt", SLOT + minutes * 60)
        match = match_scheduled([candidate], LOCAL, None)
        assert (match.record, match.slot_start) == (candidate.record, SLOT)
        assert match.slot_start != candidate.record.slot_start

    def test_the_same_local_time_elsewhere_is_another_instant(self) -> None:
        candidate = one("in_doubt", SLOT, zone="Europe/Berlin")
        match = match_scheduled([candidate], LOCAL, None)
        assert match.slot_start == SLOT + int(4.5 * HOUR)

    @pytest.mark.parametrize("other", ["sending", "in_doubt", "booked"])
    def test_two_at_that_instant_are_never_told_apart(self, other: str) -> None:
        # Even where one is booked already: its own webhook may be late, or repeated.
        candidates = [one("in_doubt"), one(other, id=2, generation=2)]
        assert match_scheduled(candidates, LOCAL, None) == Match(None, "several_bookings")

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ("booked", "waiting", 2),
            ("rejected", "planned", 2),
            ("in_doubt", "waiting", 1),  # the next generation waits for it
            ("booked", "booked", 2),
            ("rejected", "booked", 2),
            ("waiting", "waiting", 1),
        ],
    )
    def test_of_the_generations_the_one_that_a_run_would_book(
        self, first: str, second: str, expected: int
    ) -> None:
        candidates = [one(second, SLOT + HOUR, id=2, generation=2), one(first, SLOT - HOUR)]
        match = match_scheduled(candidates, LOCAL, None)
        assert match.record is not None
        assert (match.record.generation, match.slot_start) == (expected, SLOT)

    def test_leads_that_share_a_customer_are_not_guessed_at(self) -> None:
        candidates = [one("waiting"), one("waiting", id=2, lead_id="L2")]
        assert match_scheduled(candidates, LOCAL, None) == Match(None, "several_leads")
        same_id = [one("waiting"), one("waiting", id=2, source="shop")]
        assert match_scheduled(same_id, LOCAL, None) == Match(None, "several_leads")

    def test_nobody_or_no_time(self) -> None:
        assert match_scheduled([], LOCAL, None) == Match(None, "unknown_customer")
        assert match_scheduled([one("in_doubt")], None, None) == Match(None, "time_unreadable")

    def test_a_lead_without_a_slot_takes_the_sellers_timezone_of_others(self) -> None:
        waiting = one("waiting", zone=None)
        assert match_scheduled([waiting], LOCAL, ZONE).slot_start == SLOT
        sibling = one("booked", SLOT - HOUR, id=2, generation=0)
        assert match_scheduled([waiting, sibling], LOCAL, "UTC").slot_start == SLOT
        older = one("booked", SLOT - HOUR, id=3, generation=-1, zone="UTC")
        assert match_scheduled([older, waiting, sibling], LOCAL, None).slot_start == SLOT
        assert match_scheduled([waiting], LOCAL, None) == Match(waiting.record, "", None, None)


class TestDaylightSaving:
    ZONE = "America/New_York"
    TWICE = datetime(2026, 11, 1, 1, 30)  # noqa: DTZ001
    NEVER = datetime(2026, 3, 8, 2, 30)  # noqa: DTZ001

    @pytest.mark.parametrize("local", [TWICE, NEVER])
    def test_a_time_that_is_twice_or_never_names_no_instant(self, local: datetime) -> None:
        assert instant_of(local, self.ZONE) is None
        for hour in (5, 6, 7):
            start = int(datetime(2026, 11, 1, hour, 30, tzinfo=UTC).timestamp())
            candidate = one("in_doubt", start, zone=self.ZONE)
            match = match_scheduled([candidate], local, None)
            # A call of the customer exists, but not provably this one: the lead is held, and not resolved.
            assert match == Match(candidate.record, "", None, self.ZONE)

    @pytest.mark.parametrize(("hour", "utc"), [(0, 4), (2, 7), (3, 8)])
    def test_times_around_it_do(self, hour: int, utc: int) -> None:
        local = datetime(2026, 11, 1, hour, 30)  # noqa: DTZ001
        assert instant_of(local, self.ZONE) == datetime(2026, 11, 1, utc, 30, tzinfo=UTC).timestamp()

    @pytest.mark.parametrize("zone", [None, "", "Nowhere/Land", "localtime", "../etc"])
    def test_an_unknown_timezone(self, zone: str | None) -> None:
        assert instant_of(LOCAL, zone) is None


class TestOutcome:
    @pytest.mark.parametrize("seconds", [-300, 0, HOUR, 24 * HOUR])
    def test_the_one_booking_of_the_day_before(self, seconds: int) -> None:
        candidate = one("booked")
        assert match_outcome([candidate], SLOT + seconds) == Match(candidate.record)

    @pytest.mark.parametrize("seconds", [-301, 24 * HOUR + 1])
    def test_not_before_it_and_not_days_after(self, seconds: int) -> None:
        assert match_outcome([one("booked")], SLOT + seconds) == Match(None, "no_booking")

    @pytest.mark.parametrize("other", ["booked", "in_doubt", "sending"])
    def test_two_possible_ones_are_not_guessed_at(self, other: str) -> None:
        candidates = [one("booked"), one(other, SLOT - HOUR, id=2, generation=2)]
        assert match_outcome(candidates, SLOT + HOUR) == Match(None, "several_bookings")

    def test_one_of_another_day_is_not_possible(self) -> None:
        candidate = one("booked")
        others = [one("booked", SLOT - 25 * HOUR, id=2, generation=0), one("waiting", id=3, generation=3)]
        assert match_outcome([candidate, *others], SLOT + HOUR) == Match(candidate.record)

    @pytest.mark.parametrize("state", ["in_doubt", "sending"])
    def test_it_ends_no_doubt(self, state: str) -> None:
        # The customer may have had another call, without an appointment.
        assert match_outcome([one(state)], SLOT + HOUR) == Match(None, "booking_in_doubt")

    def test_nobody(self) -> None:
        assert match_outcome([], SLOT) == Match(None, "unknown_customer")
        assert match_outcome([one("planned")], SLOT) == Match(None, "no_booking")


def test_whose_customer() -> None:
    newest = one("waiting", id=2, generation=2)
    assert match_customer([newest, one("booked")]) == Match(newest.record)
    assert match_customer([newest, one("booked", lead_id="L2")]) == Match(None, "several_leads")
    assert match_customer([]) == Match(None, "unknown_customer")
