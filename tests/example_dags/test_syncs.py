"""The examples that sync a CRM table and a file, on real Airflow, against the sandbox."""

from __future__ import annotations

import csv
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from example_dags import popin_crm_sync, popin_file_sync
from scripts.crm import make_sample_crm
from tests.airflow_runs import states, xcom
from tests.privacy import register_personal

pytestmark = pytest.mark.usefixtures("pool")

Results = Callable[[], list[dict[str, Any]]]

FILE_ROWS = [
    ("Lead ID", "First Name", "Last Name", "Mobile", "Phone", "Email", "Country Code", "Source"),
    ("F-1", "Gita", "Testrow", "", "020 7946 0333", "gita.testrow@example.com", "GB", "fair"),
    ("F-2", "Hamza", "Testrow", "+1 202 555 0109", "", "", "", ""),
    ("F-3", "Ines", "Testrow", "01 99 00 77 66", "", "", "", ""),
    ("F-2", "Hamza", "Testrow", "+1 202 555 0109", "", "", "", ""),
]
register_personal(*(cell for row in FILE_ROWS[1:] for cell in row[1:6] if cell))


def attempted(popin: SandboxServer) -> int:
    requests = popin.stats()["requests"]
    return requests["capture"] + requests["schedule"]


def test_crm_sync_books_the_sample_and_tells_the_crm(
    popin: SandboxServer,
    crm: sqlite3.Connection,
    tmp_path: Path,
    run_dag: Callable[..., Any],
    results: Results,
) -> None:
    assert make_sample_crm(tmp_path / "crm.db") == 200
    run = run_dag(popin_crm_sync.dag)
    assert states(run) == {"sync_leads": "success"}
    lines = results()
    assert [line["row"] for line in lines] == list(range(1, 201))
    counts = Counter(line["result"] for line in lines)
    assert {name: n for name, n in xcom(run, "sync_leads")["results"].items() if n} == counts
    assert counts.keys() == {"booked", "rejected", "unassigned", "skipped"}

    bookings = {booking["customer_id"]: booking for booking in popin.bookings()}
    assert len(bookings) == counts["booked"] == popin.stats()["bookings"]
    told = {row["id"]: row for row in crm.execute("SELECT * FROM leads WHERE id <> ''")}
    for line in lines:
        if line["result"] == "booked":
            row = told[line["lead_id"]]
            assert (row["popin_state"], row["popin_call_time"]) == ("booked", line["call_time"])
            assert bookings[row["popin_customer_id"]]["time"] == line["slot"]
            assert bookings[row["popin_customer_id"]]["join_url"] == row["popin_join_url"]
        elif line["result"] in ("rejected", "unassigned") and line["lead_id"]:
            row = told[line["lead_id"]]
            assert (row["popin_state"], row["popin_reason"]) == (line["result"], line["reason"])

    before = attempted(popin)
    run = run_dag(popin_crm_sync.dag)
    assert states(run) == {"sync_leads": "success"}
    assert {line["result"] for line in results()} == {"skipped", "unassigned", "rejected"}
    assert attempted(popin) == before


def test_crm_sync_sends_nothing_in_a_dry_run(
    popin: SandboxServer,
    crm: sqlite3.Connection,
    tmp_path: Path,
    run_dag: Callable[..., Any],
    results: Results,
) -> None:
    make_sample_crm(tmp_path / "crm.db")
    run = run_dag(popin_crm_sync.dag, run_conf={"dry_run": True})
    assert xcom(run, "sync_leads")["dry_run"] is True
    assert "planned" in {line["result"] for line in results()}
    assert attempted(popin) == 0
    assert not (tmp_path / "ledger.db").exists()


def test_file_sync_books_the_rows_of_a_csv_file(
    popin: SandboxServer,
    tmp_path: Path,
    run_dag: Callable[..., Any],
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "leads.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(FILE_ROWS)
    monkeypatch.setenv("AIRFLOW_VAR_POPIN_LEADS_FILE", file.as_uri())
    run = run_dag(popin_file_sync.dag)
    assert states(run) == {"sync_leads": "success"}
    assert [(line["lead_id"], line["result"], line["reason"]) for line in results()] == [
        ("F-1", "booked", None),
        ("F-2", "booked", None),
        ("F-3", "rejected", "phone_no_region"),
        ("F-2", "skipped", "duplicate_lead_id"),
    ]
    sent = {customer["fields"]["mobile"]: customer["fields"] for customer in popin.customers()}
    assert sent["2079460333"]["campaign"] == {"utm_source": "fair"}
    assert popin.stats()["bookings"] == 2
    run_dag(popin_file_sync.dag)
    assert popin.stats()["bookings"] == 2
