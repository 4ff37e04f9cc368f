"""The example that Popin's slots start, on real Airflow, against the sandbox."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from example_dags import popin_crm_sync, popin_slots_open
from scripts.crm import make_sample_crm
from tests.airflow_runs import IS_AIRFLOW_3, states, xcom

pytestmark = [
    pytest.mark.usefixtures("pool"),
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="AssetWatcher exists from Airflow 3.0 on"),
]

TASK = "book_waiting_leads"
Results = Callable[[], list[dict[str, Any]]]


def booked(run: Any) -> int:
    report: dict[str, Any] = xcom(run, TASK)
    return int(report["results"]["booked"])


def test_waiting_leads_get_the_slots_that_open_up(
    popin: SandboxServer,
    crm: sqlite3.Connection,
    tmp_path: Path,
    run_dag: Callable[..., Any],
    results: Results,
) -> None:
    make_sample_crm(tmp_path / "crm.db")
    popin.set_faults("slots:empty_availability")
    run = run_dag(popin_slots_open.dag)
    assert states(run) == {TASK: "success"}
    assert booked(run) == 0
    waiting = {row["id"] for row in crm.execute("SELECT id FROM leads WHERE popin_state = 'unassigned'")}
    assert len(waiting) > 100

    popin.set_faults()
    run = run_dag(popin_slots_open.dag)

    assert states(run) == {TASK: "success"}
    assert booked(run) == popin.stats()["bookings"] > 100
    told = {row["id"] for row in crm.execute("SELECT id FROM leads WHERE popin_state = 'booked'")}
    # Nobody was registered twice, and nobody got a call who did not wait.
    assert told <= waiting
    assert len(told) == booked(run)
    assert popin.stats()["customers"] == popin.stats()["requests"]["capture"]


def test_leads_that_another_dag_booked_are_left_alone(
    popin: SandboxServer,
    crm: sqlite3.Connection,
    tmp_path: Path,
    run_dag: Callable[..., Any],
    results: Results,
) -> None:
    make_sample_crm(tmp_path / "crm.db")
    crm_run = run_dag(popin_crm_sync.dag)
    before = popin.stats()["bookings"]
    assert before == Counter(line["result"] for line in results())["booked"]
    assert states(crm_run) == {"sync_leads": "success"}

    run = run_dag(popin_slots_open.dag)

    assert states(run) == {TASK: "success"}
    # Rows without an id cannot be written back, so they are read again.
    assert {line["result"] for line in results()} == {"unassigned", "rejected"}
    assert all(line["lead_id"] is None for line in results() if line["result"] == "rejected")
    assert popin.stats()["bookings"] == before
    assert popin.stats()["bookings_per_customer_max"] == 1


def test_the_dag_is_watched_by_the_trigger() -> None:
    dag: Any = popin_slots_open.dag
    (asset,) = dag.schedule
    (watcher,) = asset.watchers
    path, kwargs = watcher.trigger.serialize()
    assert asset.uri == "popin://popin_default/slots/open"
    assert path.endswith(".PopinSlotsOpenTrigger")
    assert json.loads(json.dumps(kwargs)) == kwargs
