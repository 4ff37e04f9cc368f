"""A CRM's export of 10,000 leads meets 2,000 free seats: as many are booked as can be, and nobody is lost."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator
from airflow_provider_popin.sandbox.server import SandboxServer
from tests.airflow_runs import xcom
from tests.operators.support import make_dag

EXPORT = Path(__file__).parents[3] / "shared" / "data" / "leads-10000.csv"
SEATS = 2_000
COLUMNS = ("Index", "First Name", "Last Name", "Phone 1", "Phone 2")


@pytest.fixture
def crm_with_export(crm_on_sqlite: Engine) -> Engine:
    if not EXPORT.is_file():
        pytest.skip(f"NOT TESTED: the export {EXPORT.name} is not beside this checkout")
    with EXPORT.open(encoding="utf-8", newline="") as file, crm_on_sqlite.begin() as connection:
        names = ", ".join(f'"{name}" TEXT' for name in COLUMNS)
        connection.exec_driver_sql(f"CREATE TABLE leads ({names})")
        rows = [tuple(row[name] for name in COLUMNS) for row in csv.DictReader(file)]
        connection.exec_driver_sql("INSERT INTO leads VALUES (?, ?, ?, ?, ?)", rows)
    return crm_on_sqlite


def test_the_seats_are_filled_nobody_is_lost_and_a_second_run_sends_nothing(
    crm_with_export: Engine,
    tmp_path: Path,
    sandbox: SandboxServer,
    popin_connection: str,
    set_connection: Callable[..., None],
    run_dag: Callable[..., Any],
) -> None:
    sandbox.reset(days=14, seats_per_slot=5)
    free = sandbox.stats()["free_seats"]
    per_slot = 5
    assert free > SEATS
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
    keep = _first_slots(sandbox, SEATS // per_slot)
    sandbox.reset(slots=keep, seats_per_slot=per_slot)
    assert sandbox.stats()["free_seats"] == SEATS

    first = _report(_run(run_dag, tmp_path, "ten_thousand_leads"))
    text = Path(first["results_path"].removeprefix("file://")).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    results = Counter(line["result"] for line in lines)

    assert len(lines) == first["rows"] == 10_000
    assert sorted(line["row"] for line in lines) == list(range(1, 10_001))
    assert results["booked"] == SEATS == sandbox.stats()["bookings"]
    assert results["booked"] + results["unassigned"] + results["rejected"] == 10_000
    assert results["unassigned"] == first["reasons"]["unassigned"]["slots_full"]
    assert sum(first["reasons"]["rejected"].values()) == results["rejected"]
    assert set(first["reasons"]["rejected"]) == {"phone_extension", "phone_invalid"}
    assert sandbox.stats()["bookings_per_customer_max"] == 1

    posts = _posts(sandbox)
    second = _report(_run(run_dag, tmp_path, "ten_thousand_leads"))
    assert _posts(sandbox) == posts
    assert second["reasons"]["skipped"] == {
        "already_booked": SEATS,
        "unchanged_since_rejection": results["rejected"],
    }
    assert second["results"]["unassigned"] == results["unassigned"]


def _first_slots(sandbox: SandboxServer, count: int) -> tuple[str, ...]:
    """The soonest slots but the first few, which would run out of notice during the test."""
    from airflow_provider_popin.hooks.popin import PopinHook

    with PopinHook(popin_conn_id="popin_default") as popin:
        slots = popin.get_slots().slots
    return tuple(slot.time for slot in slots[8 : 8 + count])


def _run(run_dag: Callable[..., Any], tmp_path: Path, dag_id: str) -> Any:
    with make_dag(dag_id) as dag:
        PopinLeadSyncOperator(
            task_id="sync_leads",
            source="crm.export",
            sql='SELECT * FROM leads ORDER BY CAST("Index" AS INTEGER)',
            sql_conn_id="crm",
            field_map={
                "lead_id": "Index",
                "name": ["First Name", "Last Name"],
                "mobile": ["Phone 1", "Phone 2"],
            },
            default_region="US",
            calls_per_slot=5,
            max_concurrency=32,
            max_rejected_ratio=1,
            results_path=f"file://{tmp_path}/results",
        )
    return run_dag(dag)


def _report(run: Any) -> dict[str, Any]:
    assert str(run.state) == "success"
    report = xcom(run, "sync_leads")
    assert isinstance(report, dict)
    return report


def _posts(sandbox: SandboxServer) -> tuple[int, int]:
    requests = sandbox.stats()["requests"]
    return requests["capture"], requests["schedule"]
