"""What the tests of operators, sensor and link share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from inspect import signature
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.client import retrying
from tests.airflow_runs import IS_AIRFLOW_3
from tests.privacy import register_personal

if TYPE_CHECKING:
    import pytest

ASHA: dict[str, Any] = {
    "name": "Asha Examplesen",
    "mobile": "+91 98765-43210",
    "email": "asha.examplesen@example.com",
    "pincode": "560001",
}
BENO: dict[str, Any] = {
    "name": "Beno Testmann",
    "mobile": 9876512345,
    "email": "beno.testmann@example.com",
    "country": "in",
}

# From here on every test fails that lets one of them get into its output.
register_personal("Asha Examplesen", "Beno Testmann", "9876543210", "9876512345")
register_personal(ASHA["email"], BENO["email"])


def make_dag(dag_id: str, **kwargs: Any) -> DAG:
    """Return an empty Dag without a schedule."""
    return DAG(dag_id=dag_id, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), **kwargs)


def rendered(run: Any) -> dict[str, dict[str, Any]]:
    """Return what Airflow's page of rendered fields shows: ``{"task": {...}, "mapped[0]": {...}}``."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    return {
        ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]": json.loads(
            json.dumps(RenderedTaskInstanceFields.get_templated_fields(ti))
        )
        for ti in run.get_task_instances()
    }


def tries(run: Any) -> dict[str, int]:
    """Return how often each task instance was tried."""
    return {ti.task_id: ti.try_number for ti in run.get_task_instances()}


def killed_and_retried(run_dag: Callable[..., Any], dag: Any) -> Any:
    """Run a Dag whose first try ends by a timeout of Airflow, and the second try; return the run.

    ``dag.test()`` of Airflow 2 lets the timeout through and ends, so that the retry has to be started here.
    """
    if IS_AIRFLOW_3:
        return run_dag(dag)
    from airflow.exceptions import AirflowTaskTimeout
    from airflow.models.dagrun import DagRun

    try:
        return run_dag(dag)
    except AirflowTaskTimeout:
        (run,) = DagRun.find(dag_id=dag.dag_id)
        (ti,) = run.get_task_instances()
        assert ti.state == "up_for_retry"
        _run_instance(dag, ti)
        return run


def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client try again at once; everything else about its retries stays."""
    monkeypatch.setattr(retrying, "backoff_seconds", lambda *_: 0.0)


def output(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    """Return all that was logged and printed: Airflow 2 writes with logging, Airflow 3 with structlog."""
    return "".join((*capfd.readouterr(), caplog.text))


def run_again(dag: Any, run: Any, task_id: str, map_index: int = -1) -> str:
    """Clear a task instance of an ended run, run it once more, and return its state."""
    from airflow.models import taskinstance
    from airflow.utils.session import create_session

    arguments: dict[str, Any] = {} if IS_AIRFLOW_3 else {"dag": dag}
    with create_session() as session:
        ti = session.merge(run.get_task_instance(task_id, map_index=map_index))
        # False: the run goes on as it is; only a scheduler would start one that is queued.
        taskinstance.clear_task_instances([ti], session, dag_run_state=False, **arguments)
    _run_instance(dag, run.get_task_instance(task_id, map_index=map_index))
    return str(run.get_task_instance(task_id, map_index=map_index).state)


def _run_instance(dag: Any, ti: Any) -> None:
    from airflow.utils.session import create_session

    task: Any = dag.get_task(ti.task_id)
    with create_session() as session:
        ti = session.merge(ti)
        # The scheduler counts the try when it queues the task.
        ti.try_number += 1
    if IS_AIRFLOW_3:
        from airflow.sdk.definitions.dag import _run_task

        run_task: Any = _run_task
        if "task" in signature(run_task).parameters:
            run_task(ti=ti, task=task)
        else:  # 3.0
            ti.task = task
            run_task(ti=ti)
        return
    ti.task = task
    # A worker's process would end here; the state is in the database.
    with contextlib.suppress(Exception):
        assert ti.check_and_change_state_before_execution()
        ti._run_raw_task()
