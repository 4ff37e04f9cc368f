"""The slot sensor in real Dag runs: the same rule and the same result, however it waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

from airflow_provider_popin.client.errors import PopinError, PopinInputError
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.sensors.popin import PopinSlotAvailabilitySensor
from tests.airflow_runs import states, xcom
from tests.operators.support import make_dag, no_waits, output, tries

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer

pytestmark = pytest.mark.usefixtures("popin_connection")

KOLKATA = ZoneInfo("Asia/Kolkata")
MODES = ["poke", "reschedule", "deferrable"]


def sensor(mode: str, **arguments: Any) -> PopinSlotAvailabilitySensor:
    given: dict[str, Any] = {"task_id": "wait", "poke_interval": 0.1, "timeout": 600} | arguments
    if mode == "deferrable":
        return PopinSlotAvailabilitySensor(deferrable=True, **given)
    return PopinSlotAvailabilitySensor(mode=mode, **given)


def all_slots() -> list[dict[str, str]]:
    """Return what the sensor would return without any limit."""
    with PopinHook() as hook:
        calendar = hook.get_slots()
    return [
        {"time": slot.time, "start": slot.start.isoformat(), "timezone": calendar.timezone}
        for slot in calendar.slots
    ]


@pytest.mark.parametrize("mode", MODES)
def test_free_slots_are_found_at_the_first_look(
    run_dag: Callable[..., Any], sandbox: SandboxServer, mode: str
) -> None:
    with make_dag(f"sensor_first_{mode}") as dag:
        sensor(mode, max_slots=3)
    run = run_dag(dag)

    assert xcom(run, "wait") == all_slots()[:3]
    # One by the sensor, one by this test: a deferrable sensor does not defer for nothing.
    assert len(sandbox.requests(endpoint="slots")) == 2


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_it_waits_until_there_are_enough_and_returns_the_same_in_every_mode(
    run_dag: Callable[..., Any], sandbox: SandboxServer, mode: str
) -> None:
    sandbox.set_faults("slots:empty_availability@1-3")
    with make_dag(f"sensor_waits_{mode}") as dag:
        sensor(mode, min_slots="{{ 2 }}", max_slots="5")
    run = run_dag(dag)

    assert states(run) == {"wait": "success"}
    assert xcom(run, "wait") == all_slots()[:5]
    assert len(sandbox.requests(endpoint="slots")) == 5


@pytest.mark.skipif(
    AIRFLOW_V_3_0_PLUS and not AIRFLOW_V_3_1_PLUS,
    reason="in Airflow 3.0's dag.test() the time of the first look is text, and the sensor cannot use it",
)
def test_in_reschedule_mode_the_worker_is_given_back(
    run_dag: Callable[..., Any], sandbox: SandboxServer
) -> None:
    sandbox.set_faults("slots:empty_availability@1-2")
    with make_dag("sensor_reschedules") as dag:
        sensor("reschedule", max_slots=1)
    run = run_dag(dag)

    assert states(run) == {"wait": "success"}
    assert xcom(run, "wait") == all_slots()[:1]


@pytest.mark.parametrize("mode", MODES)
def test_it_does_not_wait_for_what_is_over(
    run_dag: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    """As of a backfill: it would keep its place until ``timeout``, a week by default."""
    over = {"latest": "{{ '2026-01-01T10:00:00+05:30' }}", "timeout": 86_400}
    with make_dag(f"sensor_over_{mode}") as dag:
        sensor(mode, retries=3, **over)
        sensor(mode, task_id="soft", soft_fail=True, **over)
    run = run_dag(dag)

    assert states(run) == {"wait": "failed", "soft": "skipped"}
    assert tries(run) == {"wait": 1, "soft": 1}
    assert "latest has passed (2026-01-01T10:00:00+05:30)" in output(capfd, caplog)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_the_window_may_be_templated_text(
    run_dag: Callable[..., Any], sandbox: SandboxServer, mode: str
) -> None:
    sandbox.set_faults("slots:empty_availability@1")
    day = (datetime.now(KOLKATA) + timedelta(days=2)).date()
    start = datetime.combine(day, time(0), KOLKATA)
    params = {
        "earliest": start.isoformat(),
        "latest": (start + timedelta(days=1)).astimezone(UTC).isoformat(),
    }
    with make_dag(f"sensor_window_{mode}", params=params) as dag:
        sensor(
            mode,
            earliest="{{ params.earliest }}",
            latest="{{ params.latest }}",
            hours=("11:{{ '00' }}", "{{ '12:00' }}"),
            weekdays=f"{day:%A}",
            timezone="{{ none }}",
        )
    run = run_dag(dag)

    found = [datetime.fromisoformat(slot["start"]).astimezone(KOLKATA) for slot in xcom(run, "wait")]
    assert [f"{start:%H:%M}" for start in found] == ["11:00", "11:15", "11:30", "11:45"]
    assert {start.date() for start in found} == {day}


def test_the_window_may_be_typed_values(run_dag: Callable[..., Any], sandbox: SandboxServer) -> None:
    with make_dag("sensor_typed") as dag:
        sensor(
            "poke",
            earliest=datetime.now(UTC),
            hours=(time(20), time(9)),
            weekdays=[0, "tue", "Wednesday", 3, "4", 5, 6],
            timezone="Asia/Kolkata",
        )
    run = run_dag(dag)

    hours = {datetime.fromisoformat(slot["start"]).astimezone(KOLKATA).hour for slot in xcom(run, "wait")}
    assert hours == {20, 21}


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize(("soft_fail", "state"), [(False, "failed"), (True, "skipped")])
def test_a_timeout_fails_without_a_retry_or_skips(
    run_dag: Callable[..., Any], sandbox: SandboxServer, mode: str, soft_fail: bool, state: str
) -> None:
    with make_dag(f"sensor_timeout_{mode}_{soft_fail}") as dag:
        sensor(mode, min_slots=100_000, max_slots=100_000, timeout=0.3, soft_fail=soft_fail, retries=3)
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"wait": state}, {"wait": 1})


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize("when", [1, 2])
@pytest.mark.parametrize(("soft_fail", "state"), [(False, "failed"), (True, "skipped")])
def test_a_refused_key_ends_it_at_once_at_any_look(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    mode: str,
    when: int,
    soft_fail: bool,
    state: str,
) -> None:
    sandbox.set_faults(f"slots:401@{when}-", "slots:empty_availability")
    with make_dag(f"sensor_401_{mode}_{when}_{soft_fail}") as dag:
        sensor(mode, soft_fail=soft_fail, retries=3)
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"wait": state}, {"wait": 1})
    assert len(sandbox.requests(endpoint="slots")) == when
    if state == "failed":
        text = output(capfd, caplog)
        assert "connection 'popin_default'" in text
        assert "login (seller token)" in text


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_trigger_that_gave_up_fails_with_the_cause_and_can_be_retried(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    soft_fail: bool,
) -> None:
    no_waits(monkeypatch)
    sandbox.set_faults("slots:500@2-", "slots:empty_availability")
    with make_dag(f"sensor_gave_up_{soft_fail}") as dag:
        # As in the other modes, soft_fail is no excuse for an error that may pass.
        sensor("deferrable", max_failures=2, soft_fail=soft_fail)

    assert states(run_dag(dag)) == {"wait": "failed"}
    # Two looks of five tries each.
    assert len(sandbox.requests(endpoint="slots")) == 11
    assert "HTTP 500" in output(capfd, caplog)


def test_silent_fail_goes_on_after_errors_in_the_trigger_too(
    run_dag: Callable[..., Any], sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waits(monkeypatch)
    sandbox.set_faults("slots:500@2-31", "slots:empty_availability@1")
    with make_dag("sensor_silent") as dag:
        sensor("deferrable", max_failures=2, silent_fail=True)

    assert states(run_dag(dag)) == {"wait": "success"}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"min_slots": 0}, "min_slots"),
        ({"min_slots": "many"}, "min_slots"),
        ({"min_slots": True}, "min_slots"),
        ({"min_slots": 5, "max_slots": 4}, "max_slots"),
        ({"earliest": "2030-01-01T10:00:00"}, "earliest"),
        ({"earliest": "soon"}, "earliest"),
        ({"latest": 5}, "latest"),
        ({"earliest": "2030-01-01T10:00:00Z", "latest": "2030-01-01T10:00:00Z"}, "latest"),
        ({"hours": ("10:00",)}, "hours"),
        ({"hours": ("10:00", "late")}, "hours"),
        ({"hours": (10, 18)}, "hours"),
        ({"weekdays": ["Someday"]}, "weekdays"),
        ({"weekdays": []}, "weekdays"),
        ({"weekdays": [True]}, "weekdays"),
        ({"weekdays": 5}, "weekdays"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": 5.5}, "timezone"),
    ],
)
def test_unusable_arguments_are_named_and_nothing_is_asked(
    sandbox: SandboxServer, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(
        Exception, match=rf"^connection 'popin_default', argument '{field}': .*Nothing was sent"
    ):
        sensor("deferrable", **arguments).poke({})

    assert sandbox.requests() == []


@pytest.mark.parametrize("value", ["2", "{{ 2 }}", -1, 2.5, float("nan"), True, None])
def test_a_count_of_failures_that_would_never_be_reached_is_refused_when_the_dag_is_parsed(
    value: Any,
) -> None:
    with pytest.raises(PopinInputError, match="max_failures: must be a whole number from 0"):
        sensor("deferrable", max_failures=value)


@pytest.mark.parametrize("value", ["False", "", 0, None])
def test_deferrable_is_no_text_that_would_count_as_true(value: Any) -> None:
    with pytest.raises(PopinInputError, match="deferrable: must be True or False"):
        PopinSlotAvailabilitySensor(task_id="wait", deferrable=value)


@pytest.mark.parametrize(
    ("arguments", "failures"),
    [({"max_failures": 0}, 0), ({"max_failures": 3}, 3), ({"max_failures": 3, "silent_fail": True}, 0)],
    ids=str,
)
def test_a_count_of_zero_and_a_silent_sensor_never_give_up(
    sandbox: SandboxServer, arguments: dict[str, Any], failures: int
) -> None:
    _, kwargs = deferral(**arguments).trigger.serialize()
    assert kwargs["max_failures"] == failures


def test_all_that_the_documentation_does_not_exclude_is_templated() -> None:
    import inspect

    arguments = inspect.signature(PopinSlotAvailabilitySensor).parameters.keys() - {"kwargs"}
    assert set(PopinSlotAvailabilitySensor.template_fields) == arguments - {"deferrable", "max_failures"}


def deferral(**arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        sensor("deferrable", min_slots=100_000, max_slots=100_000, **arguments).poke({})
    return caught.value


def test_it_defers_with_plain_json_and_an_absolute_deadline(sandbox: SandboxServer) -> None:
    import json

    before = datetime.now(UTC)
    deferred = deferral(
        timeout=3600,
        earliest=datetime(2030, 1, 1, tzinfo=KOLKATA),
        hours="10:00-18:00",
        weekdays="Mon, 2",
        timezone="Asia/Kolkata",
    )
    _, kwargs = deferred.trigger.serialize()

    deadline = datetime.fromisoformat(kwargs.pop("deadline"))
    assert before + timedelta(hours=1) <= deadline <= datetime.now(UTC) + timedelta(hours=1)
    assert json.loads(json.dumps(kwargs)) == {
        "popin_conn_id": "popin_default",
        "poke_interval": 0.1,
        "min_slots": 100_000,
        "max_slots": 100_000,
        "earliest": "2030-01-01T00:00:00+05:30",
        "latest": None,
        "hours": ["10:00:00", "18:00:00"],
        "weekdays": [0, 2],
        "timezone": "Asia/Kolkata",
        "max_failures": 5,
    }
    assert deferred.method_name == "execute_complete"
    assert deferred.timeout is not None
    # Airflow's own limit comes later, for a triggerer that is dead.
    assert deferred.timeout > timedelta(hours=1)


def test_it_defers_no_longer_than_until_it_is_too_late(sandbox: SandboxServer) -> None:
    latest = datetime.now(UTC) + timedelta(hours=1)
    for timeout, is_sooner in ((86_400, False), (60, True)):
        _, kwargs = deferral(latest=latest, timeout=timeout).trigger.serialize()
        assert (datetime.fromisoformat(kwargs["deadline"]) < latest) == is_sooner
        assert (kwargs["deadline"] == latest.isoformat()) != is_sooner


def test_a_timeout_tells_what_is_over() -> None:
    waiting = sensor("deferrable", latest="2026-01-01T10:00:00Z")
    with pytest.raises(AirflowSensorTimeout, match="latest has passed"):
        waiting.execute_complete({}, {"status": "timeout"})


def test_a_timeout_beyond_all_dates_is_a_long_one(sandbox: SandboxServer) -> None:
    deferred = deferral(timeout=10**12)
    assert deferred.timeout is not None
    assert datetime.now(UTC) + deferred.timeout > datetime(2100, 1, 1, tzinfo=UTC)
    _, kwargs = deferred.trigger.serialize()
    assert datetime.fromisoformat(kwargs["deadline"]) > datetime(2100, 1, 1, tzinfo=UTC)


SLOT = {"time": "Thu, 25 Sep 2025 03:15 PM", "start": "2025-09-25T09:45:00+00:00", "timezone": "Asia/Kolkata"}


@pytest.mark.parametrize(
    "event",
    [
        None,
        "success",
        {},
        {"status": "done"},
        {"status": "success"},
        {"status": "success", "slots": []},
        {"status": "success", "slots": "all"},
        {"status": "success", "slots": [SLOT, "x"]},
        {"status": "success", "slots": [{"time": "x"}]},
        {"status": "success", "slots": [{**SLOT, "start": 5}]},
        {"status": "success", "slots": [{**SLOT, "agent": "210"}]},
        {"status": "error"},
        {"status": "error", "reason": None},
    ],
)
def test_a_malformed_event_fails_loudly_even_with_soft_fail(event: object) -> None:
    waiting = sensor("deferrable", soft_fail=True)
    with pytest.raises(RuntimeError, match="trigger"):
        waiting.resume_execution("execute_complete", {"event": event}, {})


def test_events_are_taken_up_as_the_other_modes_end() -> None:
    assert sensor("deferrable").execute_complete({}, {"status": "success", "slots": [SLOT]}) == [SLOT]
    error = {"status": "error", "reason": "HTTP 500", "retry": True}
    with pytest.raises(PopinError, match="HTTP 500"):
        sensor("deferrable").execute_complete({}, error)
    with pytest.raises(AirflowFailException, match="HTTP 401"):
        sensor("deferrable").execute_complete({}, {"status": "error", "reason": "HTTP 401", "retry": False})
    with pytest.raises(AirflowSensorTimeout, match=r"fewer slots than asked for in 20\.0 s"):
        sensor("deferrable", timeout=20).execute_complete({}, {"status": "timeout"})


@pytest.mark.parametrize("retry", [True, False])
def test_never_fail_skips_whatever_the_trigger_met(retry: bool) -> None:
    error = {"status": "error", "reason": "HTTP 401", "retry": retry}
    with pytest.raises(AirflowSkipException):
        sensor("deferrable", never_fail=True).execute_complete({}, error)
