"""The example that tells the CRM how calls ended, on real Airflow, with webhooks of the sandbox's calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from example_dags import popin_call_outcomes, popin_crm_sync
from tests.airflow_runs import states, xcom
from tests.example_dags.webhooks import make_small_crm, tell_of

pytestmark = pytest.mark.usefixtures("pool", "results")


def outcomes(crm: sqlite3.Connection) -> dict[str, str]:
    """What the CRM knows: id to outcome."""
    rows = crm.execute("SELECT id, popin_outcome FROM leads WHERE popin_outcome IS NOT NULL")
    return {row["id"]: row["popin_outcome"] for row in rows}


def test_outcomes_reach_the_crm_and_are_told_once(
    popin: SandboxServer, crm: sqlite3.Connection, tmp_path: Path, run_dag: Callable[..., Any]
) -> None:
    make_small_crm(tmp_path / "crm.db", 3)
    run_dag(popin_crm_sync.dag)
    ann, bob, *_ = crm.execute("SELECT * FROM leads WHERE popin_state = 'booked' ORDER BY id").fetchall()
    tell_of(ann, "missed")
    # Received, and the API server died: the Dag processes it.
    tell_of(bob, "successful", process=False)

    run = run_dag(popin_call_outcomes.dag)

    assert states(run) == {"tell_crm": "success"}
    assert xcom(run, "tell_crm") == {"source": "crm.leads", "told": {"missed": 1, "successful": 1}}
    assert outcomes(crm) == {ann["id"]: "missed", bob["id"]: "successful"}
    assert xcom(run_dag(popin_call_outcomes.dag), "tell_crm")["told"] == {}


def test_what_the_crm_does_not_take_is_told_again(
    popin: SandboxServer, crm: sqlite3.Connection, tmp_path: Path, run_dag: Callable[..., Any]
) -> None:
    make_small_crm(tmp_path / "crm.db", 3)
    run_dag(popin_crm_sync.dag)
    for row in crm.execute("SELECT * FROM leads WHERE popin_state = 'booked'").fetchall():
        tell_of(row, "successful")
        last = row["id"]
    crm.execute(
        "CREATE TRIGGER locked BEFORE UPDATE OF popin_outcome ON leads "
        f"WHEN new.id = '{last}' BEGIN SELECT RAISE(ABORT, 'locked'); END"
    )
    crm.commit()
    task: Any = popin_call_outcomes.dag.get_task("tell_crm")
    retries, task.retries = task.retries, 0
    try:
        assert states(run_dag(popin_call_outcomes.dag)) == {"tell_crm": "failed"}
    finally:
        task.retries = retries
    assert len(outcomes(crm)) == 2
    crm.execute("DROP TRIGGER locked")
    crm.commit()

    run = run_dag(popin_call_outcomes.dag)

    assert xcom(run, "tell_crm")["told"] == {"successful": 1}
    assert len(outcomes(crm)) == 3
