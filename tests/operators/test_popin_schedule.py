"""PopinScheduleOperator without a ledger, in real Dag runs against the local Popin: never two requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_popin.client.errors import PopinNotSentError, PopinRejectedError
from airflow_provider_popin.client.models import ScheduledCall, Slot
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.operators._run_identity import run_identity
from airflow_provider_popin.operators.booking import Booked, Wish
from airflow_provider_popin.operators.failures import task_error
from airflow_provider_popin.operators.intent import StateStore, StoredIntent
from airflow_provider_popin.operators.popin import PopinCaptureOperator, PopinScheduleOperator
from tests.airflow_runs import states, xcom
from tests.operators.support import ASHA, killed_and_retried, make_dag, no_waits, output, run_again, tries

if TYPE_CHECKING:
    from airflow_provider_popin.operators._earlier_runs import TaskInstance
    from airflow_provider_popin.sandbox.server import SandboxServer

pytestmark = pytest.mark.usefixtures("popin_connection")

with_state_store = pytest.mark.skipif(
    not AIRFLOW_V_3_3_PLUS, reason="the task state store came with Airflow 3.3"
)
without_state_store = pytest.mark.skipif(
    AIRFLOW_V_3_3_PLUS, reason="from Airflow 3.3 on the task state store allows retries"
)

QUICK: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0)}


@pytest.mark.parametrize("form", ["popin", "iso", "datetime", "template"])
def test_a_call_is_booked_at_the_time_given_in_any_form(
    run_dag: Callable[..., Any], sandbox: SandboxServer, customer_id: str, slot: Slot, form: str
) -> None:
    forms: dict[str, Any] = {
        "popin": slot.time,
        "iso": slot.start.astimezone(UTC).isoformat(),
        "datetime": slot.start,
        "template": "{{ params.time }}\n ",
    }
    with make_dag("schedule_forms", params={"time": slot.time}) as dag:
        PopinScheduleOperator(
            task_id="book",
            customer_id=customer_id,
            time=forms[form],
            agent="{{ 200 + 10 }}",
            native="{{ true }}",
        )
    run = run_dag(dag)

    assert xcom(run, "book") == {
        "time": slot.start.isoformat(),
        "timezone": "Asia/Kolkata",
        "slot": slot.time,
    }
    (booking,) = sandbox.bookings()
    assert (booking["customer_id"], booking["time"], booking["agent"]) == (customer_id, slot.time, 210)


def test_capture_and_booking_are_chained_by_output(
    run_dag: Callable[..., Any], sandbox: SandboxServer, slot: Slot
) -> None:
    with make_dag("schedule_chain") as dag:
        capture: Any = PopinCaptureOperator(task_id="capture", **ASHA, campaign={"test_lead": "asha"})
        PopinScheduleOperator(task_id="book", customer_id=capture.output["customer_id"], time=slot.time)
    run = run_dag(dag)

    assert states(run) == {"capture": "success", "book": "success"}
    assert len(sandbox.bookings(lead="asha")) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"time": "2030-01-01T10:00:00"}, "argument 'time': "),
        ({"time": datetime(2030, 1, 1, 10, 0)}, "argument 'time': "),  # noqa: DTZ001  (naive is what is refused)
        ({"time": "2020-01-01T10:00:00+00:00"}, "time_past"),
        ({"time": "2030-01-01T10:00:30+00:00"}, "time_seconds"),
        ({"time": "Mon, 01 Jan 2030 10:00 AM"}, "time_weekday"),
        ({"time": "tomorrow"}, "time_malformed"),
        ({"time": ""}, "argument 'time': "),
        ({"time": "{{ none }}"}, "(missing)"),
        ({"time": 5}, "(not_time)"),
        ({"customer_id": "{{ none }}"}, "argument 'customer_id': "),
        ({"customer_id": "x" * 256}, "argument 'customer_id': "),
        ({"customer_id": "Mz\0E1"}, "argument 'customer_id': "),
        ({"agent": "x"}, "argument 'agent': "),
        ({"native": "perhaps"}, "argument 'native': "),
        ({"url": "javascript:alert(1)"}, "argument 'url': "),
    ],
)
def test_unusable_arguments_fail_at_once_and_nothing_is_sent(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    arguments: dict[str, Any],
    said: str,
) -> None:
    with make_dag("schedule_unusable") as dag:
        given: dict[str, Any] = {"customer_id": customer_id, "time": slot.time} | arguments
        PopinScheduleOperator(task_id="book", **given, **QUICK)
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    assert sandbox.requests(endpoint="schedule") == []
    text = output(capfd, caplog)
    assert said in text
    assert "Nothing was sent" in text


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("schedule:500_before_commit", "may be booked"),
        ("schedule:reset_after_commit", "may be booked"),
        ("schedule:cut_body", "may be booked"),
        ("schedule:status_true", "may be booked"),
        ("schedule:echo(422)", "Popin refused these values"),
        ("schedule:401", "login (seller token)"),
    ],
)
def test_an_outcome_that_a_retry_must_not_repeat_or_cannot_mend_fails_at_once(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fault: str,
    said: str,
) -> None:
    sandbox.set_faults(fault)
    with make_dag("schedule_final") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time, **QUICK)
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    assert len(sandbox.requests(endpoint="schedule")) == 1
    text = output(capfd, caplog)
    assert said in text
    assert "connection 'popin_default'" in text


def test_a_booking_for_another_time_is_a_failure_that_says_both_times(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.set_faults("schedule:wrong_time(15)")
    with make_dag("schedule_mismatch") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time, **QUICK)
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    text = output(capfd, caplog)
    assert "is booked, but Popin confirmed" in text
    assert slot.time in text


@pytest.mark.parametrize(
    ("time", "timezone", "other"),
    [
        ("Thu, Sep 25 | 03:15 PM", None, None),
        ("Thu, Sep 25 | 11:45 AM", "Europe/Berlin", None),
        ("Thu, Sep 25 | 03:15 PM", "Europe/Berlin", "'Thu, Sep 25 | 03:15 PM' (Europe/Berlin)"),
        ("soon", None, None),
    ],
)
def test_a_confirmed_time_is_read_in_its_own_timezone(
    time: str, timezone: str | None, other: str | None
) -> None:
    slot = Slot(datetime(2025, 9, 25, 9, 45, tzinfo=UTC), "Thu, 25 Sep 2025 03:15 PM")
    wish = Wish(customer_id="MzE1", time=slot.time, agent=None, native=None, url=None)
    booked = Booked(wish, slot, "Asia/Kolkata", ScheduledCall(time=time, timezone=timezone, incomplete=False))
    assert (booked.other_time, booked.is_incomplete) == (other, time == "soon")


@pytest.mark.parametrize("lacks_parts", [True, False])
def test_a_call_that_the_ledger_knew_lacks_a_time_and_nothing_else(slot: Slot, lacks_parts: bool) -> None:
    wish = Wish(customer_id="MzE1", time=slot.time, agent=None, native=None, url=None)
    call = ScheduledCall(time=None, timezone="Asia/Kolkata", incomplete=lacks_parts)
    booked = Booked(wish, slot, "Asia/Kolkata", call)
    assert (booked.other_time, booked.is_incomplete) == (None, lacks_parts)


def test_a_confirmation_that_lacks_parts_is_a_booking_with_a_warning(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.set_faults("schedule:missing_parts")
    with make_dag("schedule_incomplete") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time)

    assert states(run_dag(dag)) == {"book": "success"}
    assert "lacks documented parts" in output(capfd, caplog)


# ---- without a ledger: retries only


def test_a_try_that_died_between_request_and_answer_is_never_followed_by_a_second_request(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.set_faults("schedule:slow_after_commit(6)")
    with make_dag("schedule_killed") as dag:
        PopinScheduleOperator(
            task_id="book",
            customer_id=customer_id,
            time=slot.time,
            execution_timeout=timedelta(seconds=2.5),
            **QUICK,
        )
    run = killed_and_retried(run_dag, dag)

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 2})
    assert len(sandbox.requests(endpoint="schedule")) == len(sandbox.bookings()) == 1
    assert "earlier try" in output(capfd, caplog)


def test_a_cleared_task_sends_nothing_once_it_has_booked(
    run_dag: Callable[..., Any], sandbox: SandboxServer, customer_id: str, slot: Slot
) -> None:
    with make_dag("schedule_cleared") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time)
    run = run_dag(dag)

    assert states(run) == {"book": "success"}
    assert run_again(dag, run, "book") == "failed"
    assert len(sandbox.requests(endpoint="schedule")) == 1


@with_state_store
@pytest.mark.parametrize("fault", ["schedule:429(3600)@1", "slots:500@1-5"])
def test_from_3_3_on_a_retry_may_send_what_was_not_sent(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    no_waits(monkeypatch)
    sandbox.set_faults(fault)
    with make_dag("schedule_retry") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time, **QUICK)
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"book": "success"}, {"book": 2})
    assert len(sandbox.bookings()) == 1


@without_state_store
@pytest.mark.parametrize("fault", ["schedule:429(3600)@1", "slots:500@1-5"])
def test_before_3_3_a_retry_would_never_send_so_there_is_none(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    no_waits(monkeypatch)
    sandbox.set_faults(fault)
    with make_dag("schedule_no_retry") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time, **QUICK)
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    assert sandbox.bookings() == []
    assert "before Airflow 3.3" in output(capfd, caplog)


def stored_intents(run: Any) -> dict[int, Any]:
    """Return the stored intents by map index: value and expiry."""
    import json

    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.scalars(
            select(TaskStateStoreModel).where(
                TaskStateStoreModel.dag_id == run.dag_id,
                TaskStateStoreModel.run_id == run.run_id,
                TaskStateStoreModel.key == "popin_booking_intent",
            )
        )
        return {row.map_index: (json.loads(row.value), row.expires_at) for row in rows}


@with_state_store
def test_the_intent_names_account_customer_and_instant_and_never_expires(
    run_dag: Callable[..., Any], sandbox: SandboxServer, customer_id: str, slot: Slot
) -> None:
    with make_dag("schedule_intent") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time)
    run = run_dag(dag)

    with PopinHook() as hook:
        account = hook.config.account_key
    intent = {"account": account, "customer_id": customer_id, "time": slot.start.isoformat()}
    assert stored_intents(run) == {-1: (intent, None)}


@with_state_store
@pytest.mark.parametrize(
    ("fault", "kept"),
    [("schedule:422", False), ("schedule:403", False), ("schedule:429(3600)", False), ("schedule:500", True)],
)
def test_the_intent_is_withdrawn_exactly_when_nothing_can_have_been_booked(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    fault: str,
    kept: bool,
) -> None:
    sandbox.set_faults(fault)
    with make_dag("schedule_withdrawn") as dag:
        PopinScheduleOperator(task_id="book", customer_id=customer_id, time=slot.time)
    run = run_dag(dag)

    assert bool(stored_intents(run)) is kept
    sandbox.set_faults()
    assert run_again(dag, run, "book") == ("failed" if kept else "success")


@with_state_store
def test_mapped_bookings_have_their_own_intents(
    run_dag: Callable[..., Any], sandbox: SandboxServer, customer_id: str
) -> None:
    with PopinHook() as hook:
        slots = hook.get_slots().slots[-3:]
    sandbox.set_faults("schedule:500@2")
    with make_dag("schedule_mapped") as dag:
        PopinScheduleOperator.partial(task_id="book", customer_id=customer_id).expand(
            time=[slot.time for slot in slots]
        )
    run = run_dag(dag)

    assert sorted(states(run).values()) == ["failed", "success", "success"]
    assert {index: intent["time"] for index, (intent, _) in stored_intents(run).items()} == {
        index: slot.start.isoformat() for index, slot in enumerate(slots)
    }


def test_popins_sentence_and_ours_are_two_sentences() -> None:
    error = task_error(PopinRejectedError("time: The slot is taken."), conn_id="shop")

    assert "time: The slot is taken. Popin refused" in str(error)


def test_a_question_that_popin_refuses_has_no_values_to_correct() -> None:
    refused = PopinRejectedError("Invalid token.", method="GET", path="/external/slots")
    error = task_error(refused, conn_id="shop")

    assert "Invalid token. Check the connection's host, login (seller token) and password" in str(error)
    assert "values" not in str(error)


def test_an_error_is_told_with_its_remedy_and_stays_as_it_was() -> None:
    error = PopinNotSentError("dns_failed")
    told = task_error(error, conn_id="shop")

    assert str(told).startswith("connection 'shop': dns_failed. Nothing reached Popin")
    assert (error.reason, error.conn_id) == ("dns_failed", None)


@pytest.mark.parametrize("stored", ["a booking", 5, [], {}])
def test_an_intent_that_cannot_be_read_is_one(stored: object) -> None:
    class Store:
        def get(self, key: str) -> object:
            return stored

    with pytest.raises(AirflowFailException, match=r"customer None at None.*Nothing was sent now"):
        StoredIntent(cast("StateStore", Store())).check()


def test_each_mapped_task_is_a_task_of_its_own() -> None:
    tis = [
        SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=n, try_number=1) for n in (-1, 0, 1)
    ]
    tasks = [run_identity(cast("TaskInstance", ti)) for ti in tis]

    assert [(one.dag_run, one.task) for one in tasks] == [
        ("d/r/t", "d/t"),
        ("d/r/t/0", "d/t/0"),
        ("d/r/t/1", "d/t/1"),
    ]
