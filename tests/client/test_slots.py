"""Slot strings and calendars, in every timezone, whatever the locale."""

from __future__ import annotations

import locale
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_popin.client.errors import PopinInputError, PopinReplyError
from airflow_provider_popin.client.models import Calendar, Slot
from airflow_provider_popin.client.slots import (
    format_popin_time,
    is_popin_time,
    load_timezone,
    log_skipped,
    parse_calendar,
    parse_popin_time,
    reply_matches_slot,
    resolve_time,
)

KOLKATA = "Asia/Kolkata"
NEW_YORK = "America/New_York"
NOW = datetime(2025, 9, 17, 6, 0, tzinfo=UTC)
ZONES = [KOLKATA, NEW_YORK, "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC", "Pacific/Apia"]

minutes = st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(second=0, microsecond=0, tzinfo=UTC)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def code_of(call: object, *args: object, **kwargs: object) -> str:
    assert callable(call)
    with pytest.raises(PopinInputError) as caught:
        call(*args, **kwargs)
    assert caught.value.__cause__ is None
    return caught.value.code


def test_documented_strings() -> None:
    assert parse_popin_time("Thu, 25 Sep 2025 03:15 PM", KOLKATA) == datetime(2025, 9, 25, 9, 45, tzinfo=UTC)
    assert parse_popin_time("Wed, 24 Sep 2025 12:00 AM", KOLKATA) == datetime(2025, 9, 23, 18, 30, tzinfo=UTC)
    assert parse_popin_time("Wed, 24 Sep 2025 12:30 PM", "UTC") == datetime(2025, 9, 24, 12, 30, tzinfo=UTC)
    assert parse_popin_time("Thu, 29 Feb 2024 01:00 AM", "UTC") == datetime(2024, 2, 29, 1, tzinfo=UTC)


@given(minutes, st.sampled_from(ZONES))
def test_round_trip(instant: datetime, zone: str) -> None:
    try:
        text = format_popin_time(instant, zone)
    except PopinInputError as error:
        assert error.code == "time_ambiguous"  # noqa: PT017
        return
    assert parse_popin_time(text, zone) == instant
    assert is_popin_time(text)
    assert text == instant.astimezone(load_timezone(zone)).strftime("%a, %d %b %Y %I:%M %p")


def test_locale_of_the_process_does_not_matter() -> None:
    found = None
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "hi_IN.UTF-8", "C.UTF-8"):
        try:
            found = locale.setlocale(locale.LC_TIME, name)
            break
        except locale.Error:
            continue
    assert found
    try:
        assert (
            format_popin_time(datetime(2025, 12, 10, 9, 45, tzinfo=UTC), KOLKATA)
            == "Wed, 10 Dec 2025 03:15 PM"
        )
        assert parse_popin_time("Wed, 10 Dec 2025 03:15 PM", KOLKATA).hour == 9
    finally:
        locale.setlocale(locale.LC_TIME, "C")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Thu, 25 Sep 2025",
        "Thu, 25 Sep 2025 3:15 PM",
        "Thu, 25 Sep 2025 03:15 pm",
        "Thu, 25 Sep 2025 03:15PM",
        "Thu, 25 Sep 2025  03:15 PM",
        "Thu, 25 Sep 2025 03:15 PM ",
        "Thu, 25 Sep 2025 03:15 PM\n",
        "thu, 25 sep 2025 03:15 PM",
        "Do, 25 Sep 2025 03:15 PM",
        "Thu, 25 September 2025 03:15 PM",
        "Thu, 5 Sep 2025 03:15 PM",
        "Thu, 25 Sep 25 03:15 PM",
        "Thu, 25 Sep 2025 00:15 PM",
        "Thu, 25 Sep 2025 13:15 PM",
        "Thu, 25 Sep 2025 03:60 PM",
        "Thu, 31 Sep 2025 03:15 PM",
        "Thu, 00 Sep 2025 03:15 PM",
        "Thu, 29 Feb 2025 03:15 PM",
        "Thu, 25 Sep 0000 03:15 PM",
        "Thu, \uff12\uff15 Sep 2025 03:15 PM",
        "Fri, 31 Dec 9999 11:45 PM",
        "Mon, 01 Jan 0001 12:00 AM",
    ],
)
def test_malformed(text: str) -> None:
    zone = NEW_YORK if "9999" in text else KOLKATA
    assert code_of(parse_popin_time, text, zone) == "time_malformed"


def test_weekday_is_checked() -> None:
    assert code_of(parse_popin_time, "Fri, 25 Sep 2025 03:15 PM", KOLKATA) == "time_weekday"


def test_dst_changes() -> None:
    assert code_of(parse_popin_time, "Sun, 02 Nov 2025 01:30 AM", NEW_YORK) == "time_ambiguous"
    assert code_of(parse_popin_time, "Sun, 09 Mar 2025 02:30 AM", NEW_YORK) == "time_nonexistent"
    assert parse_popin_time("Sun, 02 Nov 2025 02:00 AM", NEW_YORK) == datetime(2025, 11, 2, 7, tzinfo=UTC)
    assert parse_popin_time("Sun, 09 Mar 2025 03:00 AM", NEW_YORK) == datetime(2025, 3, 9, 7, tzinfo=UTC)
    # Both instants of a doubled local time are refused when written.
    for hour in (5, 6):
        instant = datetime(2025, 11, 2, hour, 30, tzinfo=UTC)
        assert code_of(format_popin_time, instant, NEW_YORK) == "time_ambiguous"
    # Half an hour of change, and a day that did not happen.
    assert code_of(parse_popin_time, "Sun, 06 Apr 2025 01:45 AM", "Australia/Lord_Howe") == "time_ambiguous"
    assert code_of(parse_popin_time, "Fri, 30 Dec 2011 10:00 AM", "Pacific/Apia") == "time_nonexistent"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Mars/Olympus",
        "../../etc/passwd",
        "/etc/localtime",
        "localtime",
        "Asia",
        "IST ",
        "+05:30",
        "a\0b",
        "x" * 999,
        "\ud800",
        None,
        5,
        ["UTC"],
    ],
)
def test_unknown_timezones(name: object) -> None:
    assert code_of(load_timezone, name) == "timezone_unknown"


def test_formatting_refuses() -> None:
    assert code_of(format_popin_time, datetime(2025, 9, 25, 9, 45), KOLKATA) == "time_naive"  # noqa: DTZ001
    assert code_of(format_popin_time, datetime(2025, 9, 25, 9, 45, 1, tzinfo=UTC), KOLKATA) == "time_seconds"
    assert (
        code_of(format_popin_time, datetime(2025, 9, 25, 9, 45, 0, 1, tzinfo=UTC), KOLKATA) == "time_seconds"
    )
    assert code_of(format_popin_time, datetime(9999, 12, 31, 23, tzinfo=UTC), KOLKATA) == "time_malformed"


class TestResolveTime:
    """The ``time`` argument of the schedule operator."""

    def test_popins_own_string_is_sent_as_it_is(self) -> None:
        slot = resolve_time("Thu, 25 Sep 2025 03:15 PM", timezone=KOLKATA, now=NOW)
        assert slot == Slot(datetime(2025, 9, 25, 9, 45, tzinfo=UTC), "Thu, 25 Sep 2025 03:15 PM")

    @pytest.mark.parametrize(
        "value",
        [
            "2025-09-25T15:15:00+05:30",
            "2025-09-25T09:45Z",
            "2025-09-25 09:45:00+00:00",
            datetime(2025, 9, 25, 9, 45, tzinfo=UTC),
            datetime(2025, 9, 25, 5, 45, tzinfo=timezone(timedelta(hours=-4))),
        ],
    )
    def test_instants_are_converted(self, value: str | datetime) -> None:
        slot = resolve_time(value, timezone=KOLKATA, now=NOW)
        assert slot.time == "Thu, 25 Sep 2025 03:15 PM"
        assert slot.start == datetime(2025, 9, 25, 9, 45, tzinfo=UTC)
        assert slot.start.tzinfo is UTC

    @pytest.mark.parametrize(
        ("value", "code"),
        [
            ("Fri, 25 Sep 2025 03:15 PM", "time_weekday"),
            ("Thu, 25 Sep 2025 3:15 PM", "time_malformed"),
            ("tomorrow", "time_malformed"),
            ("", "time_malformed"),
            (None, "time_malformed"),
            (1758793500, "time_malformed"),
            ("2025-09-25T15:15:00", "time_naive"),
            ("2025-09-25", "time_naive"),
            (datetime(2025, 9, 25, 9, 45), "time_naive"),  # noqa: DTZ001
            ("2025-09-25T15:15:30+05:30", "time_seconds"),
            ("2025-09-25T15:15:00.5+05:30", "time_seconds"),
            ("2024-09-25T15:15:00+05:30", "time_past"),
            ("Wed, 17 Sep 2025 11:30 AM", "time_past"),
            ("9999-12-31T23:59:00-12:00", "time_malformed"),
            ("0001-01-01T00:00:00+14:00", "time_malformed"),
        ],
    )
    def test_refused(self, value: str, code: str) -> None:
        assert code_of(resolve_time, value, timezone=KOLKATA, now=NOW) == code

    def test_dst_is_refused(self) -> None:
        assert code_of(resolve_time, "2025-11-02T05:30Z", timezone=NEW_YORK, now=NOW) == "time_ambiguous"
        assert (
            code_of(resolve_time, "Sun, 08 Mar 2026 02:30 AM", timezone=NEW_YORK, now=NOW)
            == "time_nonexistent"
        )

    @given(st.text() | st.datetimes())
    def test_never_anything_but_its_own_error(self, value: str | datetime) -> None:
        try:
            resolve_time(value, timezone=KOLKATA, now=NOW)
        except PopinInputError as error:
            assert error.code.startswith("time_")  # noqa: PT017


class TestReplyMatchesSlot:
    """The confirmed time has no year."""

    slot = Slot(datetime(2025, 9, 19, 14, 0, tzinfo=UTC), "Fri, 19 Sep 2025 07:30 PM")

    @pytest.mark.parametrize(
        ("text", "zone", "expected"),
        [
            ("Fri, Sep 19 | 07:30 PM", KOLKATA, True),
            ("Fri, 19 Sep 2025 07:30 PM", KOLKATA, True),
            ("Fri, Sep 19 | 02:00 PM", "UTC", True),
            ("Fri, Sep 19 | 07:45 PM", KOLKATA, False),
            ("Sat, Sep 19 | 07:30 PM", KOLKATA, False),
            ("Fri, Sep 19 | 07:30 AM", KOLKATA, False),
            ("Fri, 19 Sep 2031 07:30 PM", KOLKATA, False),
            ("Fri, Sep 19 | 07:30 PM", "UTC", False),
            ("Fri, Sep 19 | 07:30 PM", None, None),
            ("Fri, Sep 19 | 07:30 PM", "Mars/Olympus", None),
            ("Fri, Sep 19 07:30 PM", KOLKATA, None),
            ("", KOLKATA, None),
            (None, KOLKATA, None),
        ],
    )
    def test_cases(self, text: str | None, zone: str | None, expected: bool | None) -> None:
        assert reply_matches_slot(text, zone, self.slot) is expected

    def test_one_digit_days(self) -> None:
        slot = Slot(datetime(2025, 9, 5, 14, 0, tzinfo=UTC), "Fri, 05 Sep 2025 07:30 PM")
        assert reply_matches_slot("Fri, Sep 5 | 07:30 PM", KOLKATA, slot) is True
        assert reply_matches_slot("Fri, Sep 05 | 07:30 PM", KOLKATA, slot) is True

    @given(minutes, st.integers(-1, 1), st.sampled_from(ZONES), st.sampled_from(ZONES))
    def test_two_writings_of_one_time(self, instant: datetime, hours: int, zone: str, told_in: str) -> None:
        slot, told = Slot(instant, ""), (instant + timedelta(hours=hours)).astimezone(load_timezone(told_in))
        documented = reply_matches_slot(told.strftime("%a, %b %d | %I:%M %p"), zone, slot)
        assert documented is reply_matches_slot(told.strftime("%a, %d %b %Y %I:%M %p"), zone, slot)

    @given(minutes, st.sampled_from(ZONES))
    def test_own_strings_match(self, instant: datetime, zone: str) -> None:
        slot = Slot(instant, "")
        text = instant.astimezone(load_timezone(zone)).strftime("%a, %b %d | %I:%M %p")
        assert reply_matches_slot(text, zone, slot) is True
        assert reply_matches_slot(text, zone, Slot(instant + timedelta(minutes=15), "")) is False


class TestCalendar:
    """The reply of the slots endpoint."""

    def test_documented_reply(self) -> None:
        calendar = parse_calendar(
            {
                "availability": [
                    {"date": "Thu, 25 Sep 2025", "slots": ["10:00 AM"]},
                    {"date": "Wed, 24 Sep 2025", "slots": ["01:15 PM", "01:00 PM", "10:45 PM", "01:00 PM"]},
                ],
                "slotDiff": 15,
                "timezone": KOLKATA,
            }
        )
        assert [slot.time for slot in calendar.slots] == [
            "Wed, 24 Sep 2025 01:00 PM",
            "Wed, 24 Sep 2025 01:15 PM",
            "Wed, 24 Sep 2025 10:45 PM",
            "Thu, 25 Sep 2025 10:00 AM",
        ]
        assert calendar.slots[0].start == datetime(2025, 9, 24, 7, 30, tzinfo=UTC)
        assert (calendar.timezone, calendar.slot_minutes, calendar.skipped) == (KOLKATA, 15, ())

    @pytest.mark.parametrize("availability", [[], [{"date": "Wed, 24 Sep 2025", "slots": []}]])
    def test_empty(self, availability: object) -> None:
        calendar = parse_calendar({"availability": availability, "timezone": KOLKATA})
        assert (calendar.slots, calendar.slot_minutes, calendar.skipped) == ((), None, ())

    @pytest.mark.parametrize("minutes", [1, 1440])
    def test_slot_lengths(self, minutes: int) -> None:
        payload = {"availability": [], "timezone": KOLKATA, "slotDiff": minutes}
        assert parse_calendar(payload).slot_minutes == minutes

    @pytest.mark.parametrize("minutes", [0, -15, 1441, 15.0, True, "15", None, 10**30])
    def test_odd_slot_length(self, minutes: object) -> None:
        assert (
            parse_calendar({"availability": [], "timezone": KOLKATA, "slotDiff": minutes}).slot_minutes
            is None
        )

    def test_malformed_slots_are_skipped(self) -> None:
        day = "Wed, 24 Sep 2025"
        calendar = parse_calendar(
            {
                "availability": [
                    {"date": day, "slots": ["01:00 PM", "1:15 PM", None, 5, ["01:00 PM"], "+919876500001"]},
                    {"date": "Tue, 24 Sep 2025", "slots": ["01:00 PM"]},
                    {"date": None, "slots": ["01:00 PM"]},
                    {"date": day},
                    {"date": day, "slots": {"0": "01:00 PM"}},
                    None,
                ],
                "timezone": KOLKATA,
            }
        )
        assert [slot.time for slot in calendar.slots] == ["Wed, 24 Sep 2025 01:00 PM"]
        assert calendar.skipped == (
            "availability[0].slots[1]: time_malformed",
            "availability[0].slots[2]: time_malformed",
            "availability[0].slots[3]: time_malformed",
            "availability[0].slots[4]: time_malformed",
            "availability[0].slots[5]: time_malformed",
            "availability[1].slots[0]: time_weekday",
            "availability[2]: entry_malformed",
            "availability[3]: entry_malformed",
            "availability[4]: entry_malformed",
            "availability[5]: entry_malformed",
        )

    def test_dst_slots_are_skipped_and_no_error(self) -> None:
        calendar = parse_calendar(
            {
                "availability": [
                    {"date": "Sun, 02 Nov 2025", "slots": ["01:30 AM"]},
                    {"date": "Sun, 09 Mar 2025", "slots": ["02:30 AM"]},
                ],
                "timezone": NEW_YORK,
            }
        )
        assert calendar.slots == ()
        assert calendar.skipped == (
            "availability[0].slots[0]: time_ambiguous",
            "availability[1].slots[0]: time_nonexistent",
        )

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (None, "slots_not_an_object"),
            ([], "slots_not_an_object"),
            ({}, "availability_not_a_list"),
            ({"availability": None, "timezone": KOLKATA}, "availability_not_a_list"),
            ({"availability": {}, "timezone": KOLKATA}, "availability_not_a_list"),
            ({"availability": []}, "timezone_unknown"),
            ({"availability": [], "timezone": "Mars/Olympus"}, "timezone_unknown"),
            ({"availability": [], "timezone": 5.5}, "timezone_unknown"),
            ({"availability": [None], "timezone": KOLKATA}, "no_slot_well_formed"),
            (
                {"availability": [{"date": "2025-09-24", "slots": ["13:00", "14:00"]}], "timezone": KOLKATA},
                "no_slot_well_formed",
            ),
        ],
    )
    def test_errors(self, payload: object, reason: str) -> None:
        with pytest.raises(PopinReplyError) as caught:
            parse_calendar(payload)
        assert caught.value.reason == reason
        assert caught.value.__cause__ is None

    @given(json_values)
    def test_survives_any_json(self, value: object) -> None:
        for payload in (
            value,
            {"availability": value, "timezone": KOLKATA, "slotDiff": value},
            {"availability": [value], "timezone": value},
            {"availability": [{"date": value, "slots": value}], "timezone": KOLKATA},
            {"availability": [{"date": "Wed, 24 Sep 2025", "slots": [value]}], "timezone": KOLKATA},
        ):
            try:
                calendar = parse_calendar(payload)
            except PopinReplyError:
                continue
            starts = [slot.start for slot in calendar.slots]
            assert starts == sorted(set(starts))

    @given(st.lists(minutes, unique=True, max_size=30), st.sampled_from(ZONES))
    def test_round_trip(self, instants: list[datetime], zone: str) -> None:
        entries = []
        kept = []
        for instant in instants:
            try:
                text = format_popin_time(instant, zone)
            except PopinInputError:
                continue
            kept.append(instant)
            entries.append({"date": text[:16], "slots": [text[17:]]})
        assume(kept)
        calendar = parse_calendar({"availability": entries, "timezone": zone})
        assert [slot.start for slot in calendar.slots] == sorted(kept)
        assert calendar.skipped == ()


def test_of_many_slots_that_were_left_out_five_are_named() -> None:
    told: list[str] = []

    class Log:
        def warning(self, event: str, *args: Any) -> None:
            told.append(event % args)

    skipped = tuple(f"slot {number}: time_malformed" for number in range(1, 8))
    log_skipped(Log(), Calendar((), "Asia/Kolkata", None, skipped))
    assert told == [f"7 slots in Popin's answer were left out, for example {'; '.join(skipped[:5])}"]
