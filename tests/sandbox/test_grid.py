"""Slots: which there are, and their spelling."""

from __future__ import annotations

import locale
from datetime import date, datetime, time
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_popin.sandbox.grid import (
    daily_slots,
    format_clock,
    format_day,
    format_reply_time,
    listed_slots,
    parse_time,
)

KOLKATA = ZoneInfo("Asia/Kolkata")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (time(0, 0), "12:00 AM"),
        (time(0, 15), "12:15 AM"),
        (time(10, 5), "10:05 AM"),
        (time(12, 0), "12:00 PM"),
        (time(13, 0), "01:00 PM"),
        (time(22, 45), "10:45 PM"),
    ],
)
def test_clock(moment: time, text: str) -> None:
    assert format_clock(moment) == text


def test_day_and_reply_time_as_documented() -> None:
    assert format_day(date(2025, 9, 24)) == "Wed, 24 Sep 2025"
    assert format_day(date(2026, 3, 1)) == "Sun, 01 Mar 2026"
    assert format_reply_time(datetime(2025, 9, 19, 19, 30)) == "Fri, Sep 19 | 07:30 PM"  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("Thu, 25 Sep 2025 03:15 PM", (2025, 9, 25, 15, 15)),
        ("Thu, 25 Sep 2025 12:00 AM", (2025, 9, 25, 0, 0)),
        ("Thu, 25 Sep 2025 12:30 PM", (2025, 9, 25, 12, 30)),
        ("Sun, 01 Mar 2026 01:05 AM", (2026, 3, 1, 1, 5)),
    ],
)
def test_time_is_read(text: str, local: tuple[int, int, int, int, int]) -> None:
    assert parse_time(text) == datetime(*local)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Wed, 25 Sep 2025 03:15 PM", "weekday"),
        ("Thu, 31 Sep 2025 03:15 PM", "valid date"),
        ("Thu, 25 Spt 2025 03:15 PM", "format"),
        ("Thu, 5 Sep 2025 03:15 PM", "format"),
        ("Thu, 25 Sep 2025 3:15 PM", "format"),
        ("Thu, 25 Sep 2025 13:15 PM", "format"),
        ("Thu, 25 Sep 2025 00:15 AM", "format"),
        ("Thu, 25 Sep 2025  03:15 PM", "format"),
        ("Thu, 25 Sep 2025 03:15 pm", "format"),
        ("Thu, 25 Sep 2025 03:15 PM ", "format"),
        ("2025-09-25T15:15:00+05:30", "format"),
        ("", "format"),
    ],
)
def test_other_spellings_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_time(text)


def test_locale_of_the_process_does_not_matter() -> None:
    before = locale.setlocale(locale.LC_TIME)
    try:
        locale.setlocale(locale.LC_TIME, "C.UTF-8")
        assert format_day(date(2025, 9, 24)) == "Wed, 24 Sep 2025"
    finally:
        locale.setlocale(locale.LC_TIME, before)


def test_days_have_the_same_hours() -> None:
    slots = daily_slots(
        date(2025, 9, 24), days=2, opens=time(22, 30), closes=time(0, 0), slot_minutes=30, zone=KOLKATA
    )
    assert [slot.text for slot in slots] == [
        "Wed, 24 Sep 2025 10:30 PM",
        "Wed, 24 Sep 2025 11:00 PM",
        "Wed, 24 Sep 2025 11:30 PM",
        "Thu, 25 Sep 2025 10:30 PM",
        "Thu, 25 Sep 2025 11:00 PM",
        "Thu, 25 Sep 2025 11:30 PM",
    ]
    assert slots[0].start == datetime(2025, 9, 24, 22, 30, tzinfo=KOLKATA).timestamp()
    assert [slot.start for slot in slots] == sorted(slot.start for slot in slots)


def test_clock_changes_remove_a_slot_or_leave_the_earlier_one() -> None:
    # 30 March 2025, 02:00 does not exist; 26 October 2025, 02:00 exists twice.
    spring = daily_slots(
        date(2025, 3, 30), days=1, opens=time(1), closes=time(4), slot_minutes=60, zone=BERLIN
    )
    autumn = daily_slots(
        date(2025, 10, 26), days=1, opens=time(1), closes=time(4), slot_minutes=60, zone=BERLIN
    )
    assert [slot.clock for slot in spring] == ["01:00 AM", "03:00 AM"]
    assert [slot.clock for slot in autumn] == ["01:00 AM", "02:00 AM", "03:00 AM"]
    assert [b.start - a.start for a, b in pairwise(autumn)] == [3600, 7200]


def test_absolute_list_is_sorted_and_has_no_doubles() -> None:
    texts = ["Thu, 25 Sep 2025 03:15 PM", "Wed, 24 Sep 2025 03:15 PM", "Thu, 25 Sep 2025 03:15 PM"]
    assert [slot.text for slot in listed_slots(texts, zone=KOLKATA)] == [texts[1], texts[0]]
