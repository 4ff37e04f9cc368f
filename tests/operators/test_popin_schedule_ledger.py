"""PopinScheduleOperator with a ledger, in real Dag runs against the local Popin: the promise is kept."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.hooks.ledger import open_ledger
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.operators.popin import PopinScheduleOperator
from airflow_provider_popin.sync import single
from tests.airflow_runs import states, xcom
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.operators.support import killed_and_retried, make_dag, no_waits, output, run_again, tries
from tests.webhooks.deliveries import deliver, scheduled

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer

pytestmark = pytest.mark.usefixtures("popin_connection")

QUICK: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0)}


@pytest.fixture
def ledger_conn_id(tmp_path: Path, set_connection: Callable[..., None]) -> str:
    """Return the connection id of an empty ledger."""
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
    return "popin_ledger"


def with_ledger(dag_id: str, customer_id: str, slot: Slot, **arguments: Any) -> Any:
    given: dict[str, Any] = {
        "customer_id": customer_id,
        "time": slot.time,
        "ledger_conn_id": "popin_ledger",
        "source": "crm.leads",
        "lead_id": "L-1",
    } | arguments
    with make_dag(dag_id) as dag:
        PopinScheduleOperator(task_id="book", **given)
    return dag


@pytest.mark.parametrize("source", ["", " crm ", "{{ params.source }}", "c\nrm", "c" * 256, 5])
def test_a_source_that_no_lead_sync_could_have_is_refused_when_the_dag_is_parsed(source: Any) -> None:
    with pytest.raises(PopinInputError, match="source: must "):
        PopinScheduleOperator(task_id="book", customer_id="MzE1", time="x", source=source, lead_id="1")


def test_with_a_ledger_clear_a_second_run_and_a_second_dag_book_nothing_more(
    run_dag: Callable[..., Any], sandbox: SandboxServer, customer_id: str, slot: Slot, ledger_conn_id: str
) -> None:
    dag = with_ledger("ledger_first", customer_id, slot, lead_id="{{ 'L-1' }}")
    run = run_dag(dag)
    booked = {"time": slot.start.isoformat(), "timezone": "Asia/Kolkata", "slot": slot.time}
    assert xcom(run, "book") == booked

    assert run_again(dag, run, "book") == "success"
    second = run_dag(dag)
    other = run_dag(with_ledger("ledger_second", customer_id, slot))

    assert xcom(second, "book") == xcom(other, "book") == booked
    assert len(sandbox.requests(endpoint="schedule")) == len(sandbox.bookings()) == 1


@pytest.mark.parametrize(("number", "lead_id"), list(enumerate(["1_000", "0x1F", "+77", "'q'", "007"])))
def test_a_lead_id_is_text_in_a_dag_that_renders_native_objects(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    ledger_conn_id: str,
    number: int,
    lead_id: str,
) -> None:
    dag = with_ledger(f"ledger_native_{number}", customer_id, slot, lead_id="{{ params.lead_id }}")
    dag.render_template_as_native_obj = True
    dag.params["lead_id"] = lead_id
    assert states(run_dag(dag)) == {"book": "success"}

    with open_ledger(ledger_conn_id).read() as connection:
        kept = connection.exec_driver_sql("SELECT lead_id FROM popin_leads").scalars().all()
    assert kept == [lead_id]


def test_with_a_ledger_a_retry_may_send_what_was_not_sent_on_every_airflow(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    ledger_conn_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Both tries run in this process here, and the second would sit out the pause that the 429 asked for.
    monkeypatch.setattr(single, "MAX_RETRY_AFTER_SECONDS", 0.2)
    sandbox.set_faults("schedule:429(3600)@1")
    run = run_dag(with_ledger("ledger_retry", customer_id, slot, **QUICK))

    assert (states(run), tries(run)) == ({"book": "success"}, {"book": 2})
    assert len(sandbox.bookings()) == 1


def test_a_first_try_that_found_no_slots_does_not_make_the_ledger_look_lost(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    ledger_conn_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_waits(monkeypatch)
    sandbox.set_faults("slots:500@1-5")
    run = run_dag(with_ledger("ledger_no_slots", customer_id, slot, **QUICK))

    assert (states(run), tries(run)) == ({"book": "success"}, {"book": 2})


@pytest.mark.parametrize(
    ("fault", "told"),
    [("500_after_commit", "in-doubt resolve"), ("wrong_time", "confirmed another time")],
    ids=["in doubt", "for another time"],
)
def test_what_a_person_must_look_up_fails_and_is_told_again_when_it_is_cleared(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    ledger_conn_id: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fault: str,
    told: str,
) -> None:
    sandbox.set_faults(f"schedule:{fault}")
    dag = with_ledger(f"ledger_{fault}", customer_id, slot, **QUICK)
    run = run_dag(dag)
    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    assert told in output(capfd, caplog)

    sandbox.set_faults()
    caplog.clear()
    assert run_again(dag, run, "book") == "failed"
    assert len(sandbox.requests(endpoint="schedule")) == len(sandbox.bookings()) == 1
    text = output(capfd, caplog)
    assert told in text
    assert "ledger connection 'popin_ledger'" in text


def test_a_webhook_ends_the_doubt_before_the_task_runs_again(
    run_dag: Callable[..., Any], sandbox: SandboxServer, customer_id: str, slot: Slot, ledger_conn_id: str
) -> None:
    sandbox.set_faults("schedule:500_after_commit")
    dag = with_ledger("ledger_evidence", customer_id, slot)
    run = run_dag(dag)
    assert states(run) == {"book": "failed"}

    with PopinHook() as hook:
        account, zone = hook.config.account_key, hook.get_slots().timezone
    user_id = base64.b64decode(customer_id).decode()
    told = scheduled(slot.start.timestamp(), user_id, zone=zone)
    ledger = open_ledger(ledger_conn_id)
    deliver(ledger, told, account=account)
    ledger.engine.dispose()
    assert run_again(dag, run, "book") == "success"
    assert len(sandbox.requests(endpoint="schedule")) == len(sandbox.bookings()) == 1


def test_a_try_that_died_is_held_by_the_ledger(
    run_dag: Callable[..., Any], sandbox: SandboxServer, customer_id: str, slot: Slot, ledger_conn_id: str
) -> None:
    sandbox.set_faults("schedule:slow_after_commit(6)")
    dag = with_ledger("ledger_killed", customer_id, slot, execution_timeout=timedelta(seconds=2.5), **QUICK)
    run = killed_and_retried(run_dag, dag)

    assert states(run) == {"book": "failed"}
    assert len(sandbox.requests(endpoint="schedule")) == 1


def test_a_customer_of_another_lead_is_refused(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    ledger_conn_id: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_dag(with_ledger("ledger_owner", customer_id, slot))
    run = run_dag(with_ledger("ledger_thief", customer_id, slot, lead_id=2, **QUICK))

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    assert len(sandbox.bookings()) == 1
    assert "customer_id" in output(capfd, caplog)


def test_a_ledger_that_was_lost_between_two_runs_is_refused(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    set_connection: Callable[..., None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The command that helps names both connections, which have not the default names here."""
    set_connection("crm_books", conn_type="sqlite", host=str(tmp_path / "books.db"))
    set_connection("popin_uk", conn_type="popin", host=sandbox.url, login=SELLER_TOKEN, password=API_KEY)
    names = {"ledger_conn_id": "crm_books", "popin_conn_id": "popin_uk"}
    dag = with_ledger("ledger_lost", customer_id, slot, **names)
    run = run_dag(dag)
    for file in tmp_path.glob("books.db*"):
        file.unlink()

    assert run_again(dag, run, "book") == "failed"
    assert len(sandbox.requests(endpoint="schedule")) == 1
    command = "ledger init --source crm.leads --ledger-conn-id crm_books --popin-conn-id popin_uk`"
    assert command in output(capfd, caplog)


@pytest.mark.parametrize(
    ("field", "value"),
    [("source", None), ("source", "None"), ("lead_id", None), ("lead_id", ""), ("lead_id", "None")],
)
def test_with_a_ledger_source_and_lead_id_are_required(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    ledger_conn_id: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    field: str,
    value: str | None,
) -> None:
    run = run_dag(with_ledger("ledger_identity", customer_id, slot, **{field: value}, **QUICK))

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    assert sandbox.requests(endpoint="schedule") == []
    assert f"{field}: is missing; the ledger 'popin_ledger' needs it" in output(capfd, caplog)


@pytest.mark.parametrize("absent", [None, "", "None"])
@pytest.mark.parametrize("kept", ["source", "lead_id"])
def test_who_names_a_lead_and_no_ledger_is_told_so(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    kept: str,
    absent: str | None,
) -> None:
    """He counts on a promise that nobody would keep."""
    arguments = {"source": None, "lead_id": None, kept: "crm.leads", "ledger_conn_id": absent}
    run = run_dag(with_ledger("ledger_forgotten", customer_id, slot, **arguments, **QUICK))

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 1})
    assert sandbox.requests(endpoint="schedule") == []
    assert "ledger_conn_id: is missing" in output(capfd, caplog)


def test_the_ledger_of_the_popin_connection_is_used_where_none_is_given(
    run_dag: Callable[..., Any],
    customer_id: str,
    slot: Slot,
    ledger_conn_id: str,
    connect_popin: Callable[..., None],
    tmp_path: Path,
) -> None:
    connect_popin(ledger_conn_id=ledger_conn_id)
    dag = with_ledger("ledger_of_connection", customer_id, slot, ledger_conn_id=None)

    assert states(run_dag(dag)) == {"book": "success"}
    assert (tmp_path / "ledger.db").exists()


def test_a_ledger_connection_that_is_no_database_is_named(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dag = with_ledger("ledger_no_database", customer_id, slot, ledger_conn_id="popin_default")

    assert states(run_dag(dag)) == {"book": "failed"}
    assert "'conn_type'" in output(capfd, caplog)


def test_a_ledger_that_cannot_be_reached_is_left_to_a_retry(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    customer_id: str,
    slot: Slot,
    set_connection: Callable[..., None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "file" / "ledger.db"))
    run = run_dag(with_ledger("ledger_unreachable", customer_id, slot, **QUICK))

    assert (states(run), tries(run)) == ({"book": "failed"}, {"book": 2})
    assert sandbox.requests(endpoint="schedule") == []
    assert "ledger connection 'popin_ledger'" in output(capfd, caplog)
