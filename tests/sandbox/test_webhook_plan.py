"""What becomes of calls: by the probabilities given, at times that compression moves but never reorders."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from airflow_provider_popin.sandbox import webhook_events as events
from airflow_provider_popin.sandbox.webhook_plan import Planned, plan_call, seconds_until
from airflow_provider_popin.sandbox.webhook_settings import WebhookSettings

URL = "http://127.0.0.1:1/hooks"
OUTCOMES = {events.SUCCESSFUL, events.MISSED, events.ABANDONED}
NOTHING = {
    "successful": 0.0,
    "missed": 0.0,
    "abandoned": 0.0,
    "notified": 0.0,
    "guest_connected": 0.0,
    "missed_notified": 0.0,
    "remark_added": 0.0,
    "rated": 0.0,
}


def settings(**changes: float) -> WebhookSettings:
    return WebhookSettings(url=URL, **{**NOTHING, **changes})  # type: ignore[arg-type]


def plan(seed: int = 0, **changes: float) -> list[Planned]:
    return plan_call(settings(**changes), random.Random(seed), name="Asha Example")


@pytest.mark.parametrize(
    ("certain", "events_planned"),
    [
        ([], []),
        (["successful"], [events.SUCCESSFUL]),
        (["missed"], [events.MISSED]),
        (["abandoned"], [events.ABANDONED]),
        (["notified"], [events.PRESCHEDULED_NOTIFICATION, events.SCHEDULED_NOTIFICATION]),
        (["missed", "missed_notified"], [events.MISSED, events.MISSED_NOTIFICATION]),
        (["missed", "guest_connected", "rated"], [events.MISSED]),
        (["successful", "missed_notified"], [events.SUCCESSFUL]),
        (["successful", "guest_connected"], [events.GUEST_CONNECTED, events.SUCCESSFUL]),
        (["successful", "rated"], [events.SUCCESSFUL, events.RATED]),
        (["abandoned", "remark_added"], [events.ABANDONED, events.REMARK_ADDED]),
        (["guest_connected", "missed_notified", "remark_added", "rated"], []),
    ],
)
def test_what_is_certain_happens_and_nothing_else(certain: list[str], events_planned: list[str]) -> None:
    for seed in range(20):
        assert [each.event for each in plan(seed, **dict.fromkeys(certain, 1.0))] == events_planned


def test_calls_happen_unless_something_else_is_said() -> None:
    quiet = {**NOTHING, "successful": None}
    for seed in range(20):
        planned = plan_call(WebhookSettings(url=URL, **quiet), random.Random(seed), name="Asha Example")  # type: ignore[arg-type]
        assert [each.event for each in planned] == [events.SUCCESSFUL]


def test_shares_of_the_outcomes() -> None:
    counts: Counter[str] = Counter()
    for seed in range(2000):
        planned = [each.event for each in plan(seed, successful=0.5, missed=0.3, abandoned=0.1)]
        assert len(planned) <= 1
        counts.update(planned or ["none"])
    expected = {events.SUCCESSFUL: 1000, events.MISSED: 600, events.ABANDONED: 200, "none": 200}
    assert counts == pytest.approx(expected, abs=90)


def test_one_probability_does_not_change_what_another_does() -> None:
    for seed in range(50):
        few = {each.event: each for each in plan(seed, successful=0.6, rated=0.5)}
        many = {
            each.event: each
            for each in plan(
                seed, successful=0.6, rated=0.5, notified=1.0, remark_added=1.0, guest_connected=1.0
            )
        }
        assert few.items() <= many.items()


def test_values_of_a_call() -> None:
    rows = {
        each.event: each for each in plan(successful=1.0, rated=1.0, remark_added=1.0, guest_connected=1.0)
    }
    seconds = rows[events.SUCCESSFUL].after_start
    assert rows[events.SUCCESSFUL].values == {"call_duration": str(int(seconds))}
    assert 180 <= seconds <= 1200
    assert rows[events.RATED].values["rating"] in [*"12345"]
    assert "Asha Example" in str(rows[events.REMARK_ADDED].values["remark"])
    assert rows[events.GUEST_CONNECTED].values == {"guest_name": "Guest Example"}


NOW, HOUR = 1_000_000.0, 3600.0


@pytest.mark.parametrize(
    ("changes", "start", "after_start", "waits"),
    [
        ({}, NOW + HOUR, 600.0, HOUR + 600),
        ({"time_factor": 60.0}, NOW + HOUR, 600.0, 70.0),
        ({"outcome_after": 20.0}, NOW + HOUR, 0.0, 20.0),
        ({"outcome_after": 20.0}, NOW + 48 * HOUR, 0.0, 20.0),
        ({"outcome_after": 20.0}, NOW + HOUR, -1800.0, 10.0),
        ({"outcome_after": 20.0}, NOW + HOUR, 1800.0, 30.0),
        ({"outcome_after": 20.0}, NOW + 5, 0.0, 5.0),
        ({"outcome_after": 0.0}, NOW + HOUR, 600.0, 0.0),
        ({}, NOW + HOUR, -2 * HOUR, 0.0),
    ],
)
def test_compression(changes: dict[str, float], start: float, after_start: float, waits: float) -> None:
    found = seconds_until(settings(**changes), start + after_start, now=NOW, start=start)
    assert found == pytest.approx(waits)
