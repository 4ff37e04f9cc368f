"""What the tests of operators, sensor and link share."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.client import retrying
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


def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client try again at once; everything else about its retries stays."""
    monkeypatch.setattr(retrying, "backoff_seconds", lambda *_: 0.0)


def output(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    """Return all that was logged and printed: Airflow 2 writes with logging, Airflow 3 with structlog."""
    return "".join((*capfd.readouterr(), caplog.text))
