"""Windows of start times, and the sensor's rule."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.models import Calendar, Slot
from airflow_provider_popin.client.slots import format_popin_time
from airflow_provider_popin.client.windows import SlotWindow, available_slots

KOLKATA = "Asia/Kolkata"
START = datetime(2025, 9, 24, 7, 30, tzinfo=UTC)  # Wednesday, 13:00 in Kolkata, 03:30 in New York


def test_no_bounds_allow_everything() -> None:
    assert SlotWindow().allows(START, KOLKATA)


def test_instants_from_inclusive_to_exclusive() -> None:
    window = SlotWindow(earliest=START, latest=START + timedelta(minutes=15))
    assert window.allows(START, KOLKATA)
    assert not window.allows(START - timedelta(microseconds=1), KOLKATA)
    assert not window.allows(START + timedelta(minutes=15), KOLKATA)
    assert window.allows(START + timedelta(minutes=14), KOLKATA)


@pytest.mark.parametrize(
    ("first", "end", "allowed"),
    [
        (time(13), time(14), True),
        (time(12), time(13), False),
        (time(13, 0), time(13, 0), True),
        (time(22), time(6), False),
        (time(22), time(13), False),
        (time(22), time(13, 1), True),
        (time(12), time(6), True),
    ],
)
def test_hours_in_the_sellers_timezone(first: time, end: time, allowed: bool) -> None:
    assert SlotWindow(hours=(first, end)).allows(START, KOLKATA) is allowed


def test_own_timezone_wins() -> None:
    window = SlotWindow(hours=(time(3), time(4)), timezone="America/New_York")
    assert window.allows(START, KOLKATA)
    assert not SlotWindow(hours=(time(3), time(4))).allows(START, KOLKATA)


def test_weekdays_are_those_of_the_local_date() -> None:
    late = datetime(2025, 9, 24, 20, 0, tzinfo=UTC)  # Thursday in Kolkata
    assert SlotWindow(weekdays=frozenset({3})).allows(late, KOLKATA)
    assert SlotWindow(weekdays=frozenset({2})).allows(late, "UTC")
    assert not SlotWindow(weekdays=frozenset({2})).allows(late, KOLKATA)
    assert not SlotWindow(weekdays=frozenset()).allows(late, KOLKATA)


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"earliest": datetime(2025, 1, 1)}, "time_naive"),  # noqa: DTZ001
        ({"latest": "2025-01-01"}, "time_naive"),
        ({"hours": (time(1),)}, "hours_invalid"),
        ({"hours": ("09:00", "10:00")}, "hours_invalid"),
        ({"hours": (time(1, tzinfo=UTC), time(2))}, "hours_invalid"),
        ({"weekdays": frozenset({7})}, "weekdays_invalid"),
        ({"weekdays": frozenset({True})}, "weekdays_invalid"),
        ({"weekdays": {1}}, "weekdays_invalid"),
        ({"timezone": "Mars/Olympus"}, "timezone_unknown"),
    ],
)
def test_unusable_bounds(bounds: dict[str, Any], code: str) -> None:
    with pytest.raises(PopinInputError) as caught:
        SlotWindow(**bounds)
    assert caught.value.code == code


def test_windows_are_values() -> None:
    assert hash(SlotWindow(hours=(time(1), time(2)))) == hash(SlotWindow(hours=(time(1), time(2))))
    assert SlotWindow() == SlotWindow()


@given(st.times(), st.times(), st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1)))  # noqa: DTZ001
def test_wrapped_hours_are_the_complement(first: time, end: time, moment: datetime) -> None:
    start = moment.replace(tzinfo=UTC)
    if first == end:
        assert SlotWindow(hours=(first, end)).allows(start, KOLKATA)
    else:
        one = SlotWindow(hours=(first, end)).allows(start, KOLKATA)
        other = SlotWindow(hours=(end, first)).allows(start, KOLKATA)
        assert one is not other


class TestAvailableSlots:
    """Enough slots, or not yet."""

    calendar = Calendar(
        slots=tuple(
            Slot(
                START + timedelta(minutes=15 * number),
                format_popin_time(START + timedelta(minutes=15 * number), KOLKATA),
            )
            for number in range(4)
        ),
        timezone=KOLKATA,
        slot_minutes=15,
        skipped=(),
    )
    before = START - timedelta(days=1)

    def test_found(self) -> None:
        found = available_slots(self.calendar, SlotWindow(), now=self.before, min_slots=2, max_slots=2)
        assert found == [
            {"time": "Wed, 24 Sep 2025 01:00 PM", "start": "2025-09-24T07:30:00+00:00", "timezone": KOLKATA},
            {"time": "Wed, 24 Sep 2025 01:15 PM", "start": "2025-09-24T07:45:00+00:00", "timezone": KOLKATA},
        ]

    def test_not_yet(self) -> None:
        assert available_slots(self.calendar, SlotWindow(), now=self.before, min_slots=5) is None
        window = SlotWindow(earliest=START + timedelta(days=1))
        assert available_slots(self.calendar, window, now=self.before) is None

    def test_slots_that_have_begun_do_not_count(self) -> None:
        found = available_slots(self.calendar, SlotWindow(), now=START)
        assert found is not None
        assert [slot["start"][11:16] for slot in found] == ["07:45", "08:00", "08:15"]

    def test_fewer_than_min_after_the_cut_still_counts(self) -> None:
        found = available_slots(self.calendar, SlotWindow(), now=self.before, min_slots=3, max_slots=1)
        assert found is not None
        assert len(found) == 1

    def test_none_needed(self) -> None:
        empty = Calendar((), KOLKATA, 15, ())
        assert available_slots(empty, SlotWindow(), now=self.before, min_slots=0, max_slots=None) == []


def test_no_weekday_is_another_window_than_any() -> None:
    assert SlotWindow(weekdays=frozenset()).to_json()["weekdays"] == []
    assert SlotWindow().to_json()["weekdays"] is None
