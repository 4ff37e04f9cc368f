"""Marks sort as their values do, survive being kept as text, and never come out too high."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync.source.watermark_settings import WatermarkSettings
from airflow_provider_popin.sync.source.watermark_values import describe, form_of, kind_of

_naive = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29))  # noqa: DTZ001
_offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_aware = st.builds(lambda time, zone: time.replace(tzinfo=zone), _naive, _offsets)
_overlaps = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400))
START = datetime(2020, 1, 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("start", "values"),
    [
        (START.replace(tzinfo=UTC), _aware),
        (START, _naive),
        (START.date(), st.dates()),
        ("2020-01-01 00:00:00", _naive.map(lambda time: time.isoformat(" "))),
        ("2020-01-01T00:00", _naive.map(lambda time: time.isoformat("T", "minutes"))),
        ("2020-01-01", st.dates().map(date.isoformat)),
    ],
    ids=["aware", "naive", "date", "text", "minutes", "text of a date"],
)
def test_marks_of_times(start: Any, values: st.SearchStrategy[Any]) -> None:
    kind = kind_of(start)

    @given(one=values, other=values, overlap=_overlaps)
    def check(one: Any, other: Any, overlap: timedelta) -> None:
        first, second = kind.mark(one), kind.mark(other)
        assert first is not None
        assert second is not None
        assert (first < second) == (one < other)  # type: ignore[operator]
        assert kind.bind(kind.load(str(first))) == one
        back = kind.back(first, overlap)
        assert back <= first  # type: ignore[operator]
        assert kind.mark(kind.bind(back)) == back
        if isinstance(one, datetime) and one.year > 3:
            assert kind.bind(back) == one - overlap

    check()


@given(value=st.integers(-(2**63) + 1, 2**63 - 1), overlap=st.integers(0, 10**6))
def test_marks_of_whole_numbers(value: int, overlap: int) -> None:
    kind = kind_of(0)
    assert kind.mark(value) == kind.mark(Decimal(value)) == kind.load(str(value)) == value
    assert kind.back(value, overlap) == value - overlap


@given(seconds=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", ".5", ".000001"])), min_size=1))
def test_text_of_any_fraction_is_not_passed(seconds: list[tuple[int, str]]) -> None:
    """With a Z behind it, a fraction of a second sorts before none at all; a database compares the same."""
    kind = kind_of("2020-01-01T00:00:00Z")
    rows = [f"2020-01-01T10:00:0{second}{fraction}Z" for second, fraction in seconds]
    back = kind.back(max(rows), timedelta(seconds=2))
    database = sqlite3.connect(":memory:")
    for row in rows:
        told = database.execute("SELECT ? >= ?", (row, back)).fetchone()[0]
        if datetime.fromisoformat(row) >= max(map(datetime.fromisoformat, rows)) - timedelta(seconds=2):
            assert told
    database.close()


@pytest.mark.parametrize(
    ("start", "value"),
    [
        (0, True),
        (0, 1.0),
        (0, Decimal("1.5")),
        (0, 2**63),
        (0, "1"),
        (0, None),
        (START, START.replace(tzinfo=UTC)),
        (START, "2020-01-01 00:00:00"),
        (START, date(2020, 1, 1)),
        (START.replace(tzinfo=UTC), START),
        (START.replace(tzinfo=UTC), datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))),
        (START.date(), START),
        ("2020-01-01 00:00:00", "2020-01-01T00:00:00"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00+00:00"),
        ("2020-01-01T00:00:00+05:30", "2020-01-01T00:00:00+05:00"),
        ("2020-01-01T00:00:00", "2020-02-30T00:00:00"),
        ("2020-01-01", "2020-01-01 00:00"),
        ("2020-01-01", "soon"),
        ("2020-01-01", START.date()),
    ],
)
def test_what_is_of_another_kind(start: Any, value: object) -> None:
    assert kind_of(start).mark(value) is None


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2026-01-02", "9999-99-99"),
        ("2026-01-02 03:04", "9999-99-99 99:99"),
        ("2026-01-02T03:04:05.678Z", "9999-99-99T99:99:99Z"),
        ("2026-01-02 03:04:05+05:30", "9999-99-99 99:99:99+05:30"),
        ("02.01.2026", None),
        ("2026-01-02 25:00", None),
        ("", None),
    ],
)
def test_forms(text: str, form: str | None) -> None:
    assert form_of(text) == form


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "a whole number"),
        (None, "nothing"),
        ("Ann 0170", "text that is no time"),
        ("2026-01-02", "text of the form 9999-99-99"),
        (1.5, "a value of type float"),
        (START, "a timestamp without time zone"),
    ],
)
def test_descriptions_hold_no_value(value: object, said: str) -> None:
    assert describe(value) == said


def test_no_time_that_is_yet_to_come_counts() -> None:
    now = datetime(2026, 11, 23, 18, tzinfo=UTC)
    assert kind_of(START.replace(tzinfo=UTC)).ceiling(now) == "2026-11-23T18:00:00.000000"
    assert kind_of(START).ceiling(now) == "2026-11-24T08:00:00.000000"
    assert kind_of(START.date()).ceiling(now) == "2026-11-24"
    assert kind_of("2020-01-01T00:00:00+05:30").ceiling(now) == "2026-11-23T23:30:00+05:30"
    assert kind_of("2020-01-01T00:00:00Z").ceiling(now) == "2026-11-23T18:00:00Z"
    assert kind_of("2020-01-01 00:00").ceiling(now) == "2026-11-24 08:00"
    assert kind_of(0).ceiling(now) is None


def test_an_overlap_ends_with_the_calendar() -> None:
    assert (
        kind_of(START).back("0001-01-01T05:00:00.000000", timedelta(days=9)) == "0001-01-01T00:00:00.000000"
    )


@pytest.mark.parametrize("start", [START, START.replace(tzinfo=UTC), "2020-01-01 00:00:00", "2020-01-01"])
def test_the_longest_overlap_reads_everything(start: Any) -> None:
    kind = kind_of(start)
    mark = kind.mark(start)
    assert mark is not None
    assert str(kind.back(mark, timedelta.max)).startswith("0001-01-01")


@pytest.mark.parametrize(
    "start", [2**63, -(10**30), datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))]
)
def test_a_start_that_no_database_holds_is_refused(start: Any) -> None:
    with pytest.raises(PopinInputError, match="watermark_start: is out of range"):
        WatermarkSettings(column="updated_at", start=start)
