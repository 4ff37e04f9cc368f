"""The cursor: which slots are news, and that it stays small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import hypothesis
import hypothesis.strategies as st
import pytest

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.triggers._told_slots import MOST_SLOTS, ToldSlots, from_json, news

NOW = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)
STORE_BYTES = 65_535


def slots(*hours: float) -> list[Slot]:
    return [Slot(NOW + timedelta(hours=later), f"+{later:g}h") for later in hours]


def look(
    told: ToldSlots,
    open_slots: Sequence[Slot],
    *,
    minute: float = 0,
    least: int = 1,
    timezone: str = "Asia/Kolkata",
) -> tuple[list[str], ToldSlots]:
    """Look at some minute after NOW; return what is told, and the cursor, as the store gives it back."""
    fresh, after = news(
        told,
        account="a",
        timezone=timezone,
        slots=open_slots,
        now=NOW.timestamp() + 60 * minute,
        min_slots=least,
    )
    again = from_json(json.loads(json.dumps(after.to_json())))
    assert again == after
    return [slot.time for slot in fresh], after


def test_the_first_look_tells_all_and_the_next_nothing() -> None:
    told, cursor = look(ToldSlots(), slots(1, 2))
    assert told == ["+1h", "+2h"]
    assert look(cursor, slots(1, 2), minute=1)[0] == []


def test_only_what_opened_up_is_told() -> None:
    _, cursor = look(ToldSlots(), slots(1, 3))
    told, cursor = look(cursor, slots(1, 2, 3), minute=1)
    assert told == ["+2h"]
    assert look(cursor, slots(1, 2, 3), minute=2)[0] == []


def test_a_slot_that_comes_back_is_told_again() -> None:
    _, cursor = look(ToldSlots(), slots(1, 2))
    told, cursor = look(cursor, slots(2), minute=1)
    assert told == []
    assert look(cursor, slots(1, 2), minute=2)[0] == ["+1h"]


@pytest.mark.parametrize("second", [0.0, 0.5, 0.99])
def test_a_slot_that_is_still_open_is_told_again_after_an_hour(second: float) -> None:
    _, cursor = look(ToldSlots(), slots(9), minute=second)
    assert look(cursor, slots(9), minute=second + 59.9)[0] == []
    told, cursor = look(cursor, slots(9), minute=second + 61.9)
    assert told == ["+9h"]
    assert look(cursor, slots(9), minute=second + 100)[0] == []


def test_an_hour_to_the_minute_is_enough() -> None:
    _, cursor = look(ToldSlots(), slots(9))
    assert look(cursor, slots(9), minute=60)[0] == ["+9h"]


def test_a_clock_that_is_set_back_tells_nothing_twice_and_delays_by_an_hour_at_most() -> None:
    _, cursor = look(ToldSlots(), slots(9))
    told, cursor = look(cursor, slots(9), minute=-180)
    assert told == []
    assert look(cursor, slots(9), minute=-121)[0] == []
    assert look(cursor, slots(9), minute=-120)[0] == ["+9h"]


def test_with_too_few_open_slots_nothing_is_told_and_nothing_forgotten() -> None:
    told, cursor = look(ToldSlots(), slots(1, 2), least=3)
    assert told == []
    told, cursor = look(cursor, slots(1, 2, 3), least=3)
    assert told == ["+1h", "+2h", "+3h"]
    told, cursor = look(cursor, slots(1, 2), minute=30, least=3)
    assert told == []
    assert look(cursor, slots(1, 2, 4), minute=31, least=3)[0] == ["+4h"]


def test_open_slots_that_were_too_few_for_long_are_told_again_when_there_are_enough() -> None:
    _, cursor = look(ToldSlots(), slots(20, 21))
    for minute in range(0, 600, 60):
        _, cursor = look(cursor, slots(20), minute=minute, least=2)
    assert look(cursor, slots(20, 21), minute=600, least=2)[0] == ["+20h", "+21h"]


@pytest.mark.parametrize("change", ["timezone", "account"])
def test_another_timezone_or_account_makes_every_slot_new(change: str) -> None:
    _, cursor = look(ToldSlots(), slots(1, 2))
    if change == "account":
        cursor = ToldSlots("another", cursor.timezone, cursor.told)
        assert look(cursor, slots(1, 2))[0] == ["+1h", "+2h"]
    else:
        assert look(cursor, slots(1, 2), timezone="Europe/Paris")[0] == ["+1h", "+2h"]


def test_no_more_than_the_soonest_are_looked_at() -> None:
    many = slots(*range(1, MOST_SLOTS + 101))
    told, cursor = look(ToldSlots(), many)
    assert len(told) == len(cursor.told) == MOST_SLOTS
    assert look(cursor, many, minute=1)[0] == []
    # One is booked, so one comes into view.
    assert look(cursor, many[1:], minute=2)[0] == [f"+{MOST_SLOTS + 1}h"]


def test_more_open_slots_than_are_looked_at_are_enough() -> None:
    assert look(ToldSlots(), slots(*range(1, MOST_SLOTS + 2)), least=MOST_SLOTS + 1)[0] != []


def test_what_was_told_long_ago_is_kept_as_told_an_hour_ago() -> None:
    """Else a cursor of slots that are too few to be told of would grow, a minute for each slot."""
    _, cursor = look(ToldSlots(), slots(20, 21))
    _, cursor = look(cursor, slots(20, 21, 22), minute=30)
    _, cursor = look(cursor, slots(20, 22), minute=600, least=3)
    assert len(set(cursor.told.values())) == 1


def test_the_largest_cursor_fits_into_the_store() -> None:
    # Slots all over the calendar, each told at a minute of its own as far as there are such.
    spread = 4_190_000_000 // MOST_SLOTS
    cursor = ToldSlots("é" * 64, "America/Argentina/ComodRivadavia")
    many = [Slot(NOW + timedelta(minutes=spread * n + 7 * (n % 61)), str(n)) for n in range(MOST_SLOTS)]
    for minute in range(62):
        opened = [slot for n, slot in enumerate(many) if n % 62 <= minute]
        _, cursor = news(
            cursor,
            account=cursor.account,
            timezone=cursor.timezone,
            slots=opened,
            now=NOW.timestamp() + 60 * minute,
            min_slots=1,
        )
    assert len(cursor.told) == MOST_SLOTS
    assert len(json.dumps(cursor.to_json()).encode()) < STORE_BYTES


def test_an_ordinary_cursor_is_tiny() -> None:
    _, cursor = look(ToldSlots(), slots(*[hour / 4 for hour in range(1, 673)]))
    assert len(json.dumps(cursor.to_json())) < 3_000


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        7,
        [],
        {},
        {"version": 2, "account": "a", "timezone": "t", "told": []},
        {"version": 1, "account": 1, "timezone": "t", "told": []},
        {"version": 1, "account": "a", "timezone": None, "told": []},
        {"version": 1, "account": "a", "timezone": "t", "told": {}},
        {"version": 1, "account": "a", "timezone": "t", "told": [7]},
        {"version": 1, "account": "a", "timezone": "t", "told": [[7]]},
        {"version": 1, "account": "a", "timezone": "t", "told": [[7, True]]},
        {"version": 1, "account": "a", "timezone": "t", "told": [[7, 1, -1]]},
        {"version": 1, "account": "a", "timezone": "t", "told": [[7, 1.5]]},
        {"version": 1, "account": "a", "timezone": "t", "told": [[7, 10**15]]},
    ],
    ids=repr,
)
def test_what_is_no_cursor_is_not_read_as_one(value: object) -> None:
    assert from_json(value) is None


@hypothesis.given(
    st.lists(
        st.tuples(st.sets(st.integers(1, 12)), st.integers(-200, 200), st.booleans()), min_size=1, max_size=12
    )
)
def test_whatever_happens_no_slot_is_told_twice_within_the_hour_while_it_stays_open(
    looks: list[tuple[set[int], int, bool]],
) -> None:
    cursor, minute, last_told = ToldSlots(), 0, dict[str, int]()
    for hours, step, restart in looks:
        minute = max(minute + step, -500)
        open_now = slots(*(20 + hour for hour in sorted(hours)))
        names = {slot.time for slot in open_now}
        # What is closed is told when it opens; what a clock says was told later, is as told now.
        last_told = {name: min(at, minute) for name, at in last_told.items() if name in names}
        told, cursor = look(cursor, open_now, minute=minute)
        expected = [slot.time for slot in open_now if minute - last_told.get(slot.time, -(10**6)) >= 60]
        assert told == expected
        last_told |= dict.fromkeys(told, minute)
        if restart:
            again = from_json(cursor.to_json())
            assert again is not None
            cursor = again
