"""Arguments at run time: typed values and what templates make of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Any

import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.operators import templated as t
from airflow_provider_popin.operators.personal import hide, reveal


@pytest.mark.parametrize(
    ("function", "value", "meant"),
    [
        (t.optional_text, " x ", "x"),
        (t.optional_text, 5, "5"),
        (t.optional_text, "None", None),
        (t.optional_text, " ", None),
        (t.required_text, "x", "x"),
        (t.positive_int, 3, 3),
        (t.positive_int, " 3 ", 3),
        (t.required_time, " Thu, 25 Sep 2025 03:15 PM\n", "Thu, 25 Sep 2025 03:15 PM"),
        (t.required_time, datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        (t.optional_mapping, {"a": 1}, {"a": 1}),
        (t.optional_mapping, '{"a": 1}', {"a": 1}),
        (t.optional_mapping, "none", None),
        (t.optional_instant, "2030-01-01T00:00:00Z", datetime(2030, 1, 1, tzinfo=UTC)),
        (t.optional_instant, "2030-01-01 00:00:00+00:00", datetime(2030, 1, 1, tzinfo=UTC)),
        (t.optional_instant, datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        (t.optional_instant, "", None),
        (t.optional_hours, ["10:00", time(18)], (time(10), time(18))),
        (t.optional_hours, "22:00 - 06:30", (time(22), time(6, 30))),
        (t.optional_hours, "9:00-18:00", (time(9), time(18))),
        (t.optional_hours, "18:00-24:00", (time(18), time(0))),
        (t.optional_hours, None, None),
        (t.optional_weekdays, "mon,Sunday, 2", frozenset({0, 2, 6})),
        (t.optional_weekdays, [0, "1"], frozenset({0, 1})),
        (t.optional_weekdays, None, None),
    ],
)
def test_text_does_for_every_type(function: Callable[..., Any], value: object, meant: object) -> None:
    assert function(value, "argument") == meant


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (t.optional_text, [True, 1.5, ["x"], {}]),
        (t.required_text, [None, "", "none", True]),
        (t.positive_int, [None, 0, -1, "0", "-1", "1.5", "²", True, 1.0, "9" * 5_000]),
        (t.required_time, [None, "", "None", 5, ["x"]]),
        (t.optional_mapping, ["x", "[1]", [1], {1: 2}, 5, "[" * 100_000]),
        (t.optional_instant, ["soon", "2030-01-01", datetime(2030, 1, 1), 5]),  # noqa: DTZ001
        (t.optional_instant, ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"]),
        (
            t.optional_hours,
            ["10:00", "10:00-12:00-14:00", "10:00-24:01", ("10:00", "x"), (10, 12), 5, time(10)],
        ),
        (t.optional_hours, [(time(10, tzinfo=UTC), time(12)), ("10:00+01:00", "12:00"), ("10:00", None)]),
        (t.optional_weekdays, [[], "x", [7], [-1], [True], {"mon": 1}, 5, [None]]),
    ],
)
def test_unusable_values_are_named_by_their_field_and_never_shown(
    function: Callable[..., Any], values: list[object]
) -> None:
    for value in values:
        with pytest.raises(PopinInputError) as caught:
            function(value, "argument")
        assert caught.value.field == "argument", value
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_a_data_frame_has_for_nothing_is_absent() -> None:
    pandas = pytest.importorskip("pandas")
    for nothing in (float("nan"), pandas.NaT, pandas.NA):
        for function in (t.optional_text, t.optional_mapping, t.optional_instant, t.optional_weekdays):
            assert function(nothing, "argument") is None
        with pytest.raises(PopinInputError, match="argument: is missing"):
            t.required_time(nothing, "argument")
        assert reveal(hide(nothing)) is nothing
