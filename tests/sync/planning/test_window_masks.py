from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client.windows import SlotWindow
from airflow_provider_popin.sync.planning.window_masks import WindowMasks

# New York changes its clocks on 9 March and 2 November 2025, Lord Howe by half an hour on 5 October.
ZONES = ("Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "UTC")
SPRING = datetime(2025, 3, 1, tzinfo=UTC)
INSTANTS = st.timedeltas(timedelta(0), timedelta(days=275)).map(lambda later: SPRING + later)
NEAR_CHANGES = st.sampled_from(
    [datetime(2025, 3, 9, tzinfo=UTC), datetime(2025, 10, 4, tzinfo=UTC), datetime(2025, 11, 2, tzinfo=UTC)]
).flatmap(lambda day: st.integers(0, 96 * 2).map(lambda quarters: day + timedelta(minutes=15 * quarters)))
TIMES = st.times() | st.integers(0, 23).map(time)
WINDOWS = st.builds(
    SlotWindow,
    earliest=st.none() | INSTANTS | NEAR_CHANGES,
    latest=st.none() | INSTANTS | NEAR_CHANGES,
    hours=st.none() | st.tuples(TIMES, TIMES),
    weekdays=st.none() | st.frozensets(st.integers(0, 6)),
    timezone=st.none() | st.sampled_from(ZONES),
)


@given(
    starts=st.lists(INSTANTS | NEAR_CHANGES, unique=True, max_size=40),
    windows=st.lists(WINDOWS, max_size=5),
    seller=st.sampled_from(ZONES),
)
def test_mask_says_what_the_window_says(
    starts: list[datetime], windows: list[SlotWindow], seller: str
) -> None:
    starts = sorted(starts)
    masks = WindowMasks(starts, seller)
    for window in windows:
        mask = masks.mask(window)
        assert [bool(mask >> index & 1) for index in range(len(starts))] == [
            window.allows(start, seller) for start in starts
        ]
        assert mask < 1 << len(starts)


def test_bounds_at_slots_include_the_first_and_exclude_the_last() -> None:
    starts = [datetime(2025, 9, 25, hour, tzinfo=UTC) for hour in range(5)]
    masks = WindowMasks(starts, "UTC")
    assert masks.mask(SlotWindow(earliest=starts[1], latest=starts[3])) == 0b00110
    assert masks.mask(SlotWindow(hours=(time(1), time(3)))) == 0b00110
    assert masks.mask(SlotWindow(hours=(time(3), time(1)))) == 0b11001
    assert masks.mask(SlotWindow(hours=(time(3), time(3)))) == 0b11111


def test_slots_must_ascend() -> None:
    first, second = datetime(2025, 9, 25, 1, tzinfo=UTC), datetime(2025, 9, 25, 2, tzinfo=UTC)
    for starts in ([second, first], [first, first]):
        with pytest.raises(ValueError, match="ascend"):
            WindowMasks(starts, "UTC")
