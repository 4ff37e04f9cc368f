from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pendulum
import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync.source.cells import (
    clean_customer_id,
    clean_generation,
    clean_hour,
    clean_instant,
    clean_priority,
    clean_timezone,
)

TEN = datetime(2025, 9, 25, 10, tzinfo=UTC)
FAR_EAST = timezone(timedelta(hours=14))


@pytest.mark.parametrize("value", [3, "3", " 3 ", "+3", 3.0, "3.0", "3.00", Decimal("3.0")])
def test_whole_numbers(value: object) -> None:
    assert clean_generation(value) == 3
    assert clean_priority(value) == 3


def test_missing_numbers() -> None:
    assert clean_generation(None) == 1
    assert clean_generation("") == 1
    assert clean_priority(float("nan")) is None


def test_priorities_may_be_negative() -> None:
    assert clean_priority("-7") == -7
    assert clean_priority(0) == 0
    assert clean_priority(2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**31, True, 1.5, "1.5", "one", "1 2", b"1", [1], "\u0661", pytest.param(10**5000, id="huge")],
)
def test_unusable_generations(value: object) -> None:
    with pytest.raises(PopinInputError) as caught:
        clean_generation(value)
    assert (caught.value.code, caught.value.field) == ("generation_invalid", "generation")


@pytest.mark.parametrize("value", [2**63, -(2**63), "9" * 20, True, 0.5, "high", time(1)])
def test_unusable_priorities(value: object) -> None:
    with pytest.raises(PopinInputError) as caught:
        clean_priority(value)
    assert (caught.value.code, caught.value.field) == ("priority_invalid", "priority")


@pytest.mark.parametrize(
    "value",
    [
        "2025-09-25T10:00:00Z",
        " 2025-09-25 15:30+05:30 ",
        "20250925T100000+0000",
        TEN,
        TEN.astimezone(timezone(timedelta(hours=5, minutes=30))),
        pendulum.datetime(2025, 9, 25, 12, tz="Europe/Berlin"),
    ],
)
def test_instants(value: object) -> None:
    instant = clean_instant(value, "earliest")
    assert instant == TEN
    assert type(instant) is datetime
    assert instant.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("2025-09-25T10:00", "time_naive"),
        ("2025-09-25", "time_naive"),
        (datetime(2025, 9, 25, 10), "time_naive"),  # noqa: DTZ001
        (date(2025, 9, 25), "time_naive"),
        ("25/09/2025", "time_invalid"),
        ("\ud800", "time_invalid"),
        ("x" * 9_999, "time_invalid"),
        (1758794400, "time_invalid"),
        (time(10), "time_invalid"),
        (datetime.min.replace(tzinfo=FAR_EAST), "time_invalid"),
        ("0001-01-01T00:00+14:00", "time_invalid"),
    ],
)
def test_unusable_instants(value: object, code: str) -> None:
    with pytest.raises(PopinInputError) as caught:
        clean_instant(value, "earliest")
    assert (caught.value.code, caught.value.field) == (code, "earliest")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9:05", time(9, 5)),
        (" 09:05 ", time(9, 5)),
        ("09:05:30", time(9, 5, 30)),
        ("09:05:00.000", time(9, 5)),
        ("00:00", time(0)),
        ("24:00", time(0)),
        (time(9, 5), time(9, 5)),
        (time(9, 5, 1, 999), time(9, 5, 1)),
        (timedelta(hours=9, minutes=5), time(9, 5)),
        (None, None),
        (" ", None),
    ],
)
def test_hours(value: object, expected: time | None) -> None:
    assert clean_hour(value, "hours_from") == expected


@pytest.mark.parametrize(
    "value",
    [
        "9", "25:00", "24:01", "09:60", "09:05:60", "9am", "-1:00", "\u0660\u0669:\u0660\u0660",
        "0" * 300, 9, 9.5, b"09:00",
        time(9, tzinfo=UTC), timedelta(hours=25), timedelta(hours=-1), TEN,
    ],
)  # fmt: skip
def test_unusable_hours(value: object) -> None:
    with pytest.raises(PopinInputError) as caught:
        clean_hour(value, "hours_from")
    assert (caught.value.code, caught.value.field) == ("hours_invalid", "hours_from")


def test_timezones() -> None:
    assert clean_timezone(" Asia/Kolkata ") == "Asia/Kolkata"
    assert clean_timezone("") is None
    for value in ("IST?", "../../etc/passwd", "localtime", "a\x00", "\ud800", 5, b"UTC", "x" * 9_999):
        with pytest.raises(PopinInputError) as caught:
            clean_timezone(value)
        assert (caught.value.code, caught.value.field) == ("timezone_unknown", "timezone")


def test_customer_ids() -> None:
    assert clean_customer_id(" MzE1== ") == "MzE1=="
    assert clean_customer_id(float("nan")) is None
    for value in (315, b"MzE1", "a\nb", "a\x00", "\udfff", "x" * 256):
        with pytest.raises(PopinInputError) as caught:
            clean_customer_id(value)
        assert (caught.value.code, caught.value.field) == ("customer_id_invalid", "customer_id")
