"""What a bulk job may be asked to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync.settings import SyncSettings


def test_the_defaults_are_those_of_the_operator() -> None:
    settings = SyncSettings(source="crm.leads")
    assert settings.steps == ("capture", "schedule")
    assert (settings.calls_per_slot, settings.min_notice) == (1, timedelta(minutes=30))
    assert (settings.max_rejected_ratio, settings.max_in_doubt, settings.on_in_doubt) == (0.2, 0, "hold")
    assert (settings.limit, settings.dry_run, settings.carry_over) == (None, False, False)
    assert settings.captures
    assert settings.books


@pytest.mark.parametrize(
    ("steps", "captures", "books"),
    [
        (("capture", "schedule"), True, True),
        (["capture", "schedule"], True, True),
        (("capture",), True, False),
        (("schedule",), False, True),
    ],
)
def test_steps(steps: Any, captures: bool, books: bool) -> None:
    settings = SyncSettings(source="crm", steps=steps)
    assert (settings.captures, settings.books) == (captures, books)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("source", value) for value in ("", " ", " crm", "crm\n", "c\0rm", "c" * 256, "{{ x }}", None, 7)),
        *(("steps", value) for value in ((), ("schedule", "capture"), ("book",), "capture", None)),
        *(("on_in_doubt", value) for value in ("book", None, "")),
        *(("min_notice", value) for value in (timedelta(seconds=-1), timedelta.max, 30, None)),
        *(("max_rejected_ratio", value) for value in (-0.1, 1.1, "0.2", None, True, float("nan"))),
        *(
            ("requests_per_second", value)
            for value in (-1, "5", None, float("nan"), float("inf"), 1e-300, 2e9)
        ),
        *(("calls_per_slot", value) for value in (0, 1.5, "1", True, None)),
        *(("max_concurrency", value) for value in (0, -1, None, 10**9)),
        *(("max_in_doubt", value) for value in (-1, 0.5, None)),
        *(("carry_over", value) for value in ("False", "no", 0, 1, None)),
        *(("drop_phone_extension", value) for value in ("False", "no", 0, 1, None)),
        *(("dry_run", value) for value in ("False", 0, None)),
        *(("limit", value) for value in (-1, 1.0, "10", True)),
    ],
)
def test_a_value_that_is_none_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(PopinInputError) as caught:
        SyncSettings(**{"source": "crm", field: value})  # type: ignore[arg-type]
    assert (caught.value.field, caught.value.code) == (field, "setting_invalid")


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", 0), ("max_rejected_ratio", 0), ("max_rejected_ratio", 1), ("requests_per_second", 0)],
)
def test_edges(field: str, value: object) -> None:
    assert getattr(SyncSettings(**{"source": "crm", field: value}), field) == value  # type: ignore[arg-type]
