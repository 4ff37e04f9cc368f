"""``make demo`` as a user runs it, and its Dag for files of one's own in the tests' Airflow."""

from __future__ import annotations

import importlib.util
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from scripts import crm, demo, demo_report
from scripts.field_maps import FieldMap
from scripts.own_leads import OwnLeads
from tests.airflow_runs import IS_AIRFLOW_3, states
from tests.earlier_runs import forget_earlier_runs

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "leads-1000.csv"


# Two runs in one process: what a second Airflow costs at its start is not what is tested.
TWICE = """
import sys
from scripts import demo
codes = [demo.main(sys.argv[1:])]
print("SECOND RUN")
codes.append(demo.main(sys.argv[1:]))
sys.exit(max(codes))
"""


def run_python(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("alone", [["--field-map", '{"lead_id": "Id"}'], ["--region", "US"]])
def test_what_belongs_to_a_file_of_ones_own_is_refused_without_one(
    alone: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([*alone, "--place", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "demo: FIELD_MAP and REGION belong to LEADS, which is not given\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="make demo installs and runs Airflow 3.3")
def test_demo_tells_of_every_lead_and_sends_nothing_the_second_time(tmp_path: Path) -> None:
    done = run_python("-c", TWICE, "--place", str(tmp_path / "a place"), home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, _, second = done.stdout.partition("SECOND RUN")
    found = re.findall(r"^ +(\d+)  (booked|unassigned|rejected|skipped)  ", first, re.M)
    counts = {name: int(number) for number, name in found}
    assert sum(counts.values()) == 200
    assert f"{counts['booked']} bookings sent, {counts['booked']} booked" in first
    assert "Nobody was booked twice." in first
    assert "Rows with the same id are one lead" in first
    named = set(re.findall(r"L-\d+|row \d+ \(no id\)", first.partition("unassigned: every row")[2]))
    assert len(named) >= counts["unassigned"] + counts["rejected"]
    for row in crm.read_csv(crm.SAMPLE)[1]:
        assert not any(cell in done.stdout for cell in row[3:6] if len(cell) > 6)
    # Nothing was left outside of the demo's own folder.
    assert [path.name for path in tmp_path.iterdir()] == ["a place"]

    assert "This is not the first run: 1" in second
    assert "0 captures, 0 bookings sent, 0 booked" in second
    assert "Nothing was sent" in second


def test_demo_asks_for_columns_that_it_cannot_guess(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("Kunde,Telefon\nA,1\n", "utf-8")
    place = tmp_path / "demo"
    done = run_python("-m", "scripts.demo", "--place", str(place), "--leads", str(file), home=tmp_path)
    assert done.returncode == 2
    assert "the file has the columns Kunde, Telefon" in done.stderr
    assert not place.exists()


def test_file_in_the_home_folder_may_begin_with_a_tilde(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("Kunde,Telefon\nA,1\n", "utf-8")
    options = ["--place", str(tmp_path / "demo"), "--leads", "~/mine.csv"]
    done = run_python("-m", "scripts.demo", *options, home=tmp_path)
    assert "the file has the columns Kunde, Telefon" in done.stderr


def written_dag(leads: OwnLeads, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_leads_of_test", leads.write_dag(folder))
    assert spec is not None and spec.loader is not None  # noqa: PT018  (for mypy only)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_own_leads(
    leads: OwnLeads, folder: Path, run_dag: Callable[..., Any], set_connection: Callable[..., None]
) -> Any:
    forget_earlier_runs()
    crm.make_own_crm(folder / "crm.db", leads.file, id_column=leads.id_column)
    set_connection("crm", conn_type="sqlite", host=str(folder / "crm.db"))
    set_connection("popin_ledger", conn_type="sqlite", host=str(folder / "ledger.db"))
    return run_dag(written_dag(leads, folder).dag)


@pytest.mark.skipif(not SHARED.exists(), reason=f"NOT TESTED: {SHARED} is not on this machine")
@pytest.mark.parametrize(("id_column", "duplicates"), [("Account Id", 203), ("Index", 0)])
def test_a_thousand_leads_of_a_file_all_end_in_a_result_set(
    id_column: str,
    duplicates: int,
    sandbox: SandboxServer,
    popin_connection: str,
    tmp_path: Path,
    run_dag: Callable[..., Any],
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sandbox.reset(seats_per_slot=4)
    monkeypatch.setenv("AIRFLOW_VAR_POPIN_RESULTS", (tmp_path / "results").as_uri())
    field_map: FieldMap = {
        "lead_id": id_column,
        "name": ["First Name", "Last Name"],
        "mobile": ["Phone 1", "Phone 2"],
    }
    source = "file." + id_column.replace(" ", "_")
    leads = OwnLeads(file=SHARED, source=source, field_map=field_map, region="US", calls_per_slot=4)
    run = run_own_leads(leads, tmp_path, run_dag, set_connection)
    assert states(run) == {"sync_leads": "success"}

    _, lines = demo_report.newest_results(tmp_path / "results")
    assert [line["row"] for line in lines] == list(range(1, 1001))
    counts = Counter((line["result"], line["reason"]) for line in lines)
    assert counts[("skipped", "duplicate_lead_id")] == duplicates
    assert {result for result, _ in counts} <= {"booked", "rejected", "skipped"}
    header, rows = crm.read_csv(SHARED)
    phones = [[row[header.index(name)] for name in ("Phone 1", "Phone 2")] for row in rows]
    for line, offered in zip(lines, phones, strict=True):
        if line["reason"] == "phone_extension":
            assert "x" in offered[0]
        elif line["reason"] == "phone_invalid":
            assert "x" not in offered[0]
    stats = sandbox.stats()
    booked = counts[("booked", None)]
    assert stats["bookings"] == stats["customers"] == booked > 0
    assert stats["bookings_per_customer_max"] == 1


def test_columns_with_awkward_names_are_written_back(
    sandbox: SandboxServer,
    popin_connection: str,
    tmp_path: Path,
    run_dag: Callable[..., Any],
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_POPIN_RESULTS", (tmp_path / "results").as_uri())
    file = tmp_path / 'of "mine".csv'
    file.write_text('"id:no ""1"" \\",Who,Tel\n 7 ,Own Testlead,+1 202 555 0199\n', "utf-8")
    field_map: FieldMap = {"lead_id": 'id:no "1" \\', "name": "Who", "mobile": "Tel"}
    leads = OwnLeads(file=file, source="file.awkward", field_map=field_map, region=None)
    run = run_own_leads(leads, tmp_path, run_dag, set_connection)
    assert states(run) == {"sync_leads": "success"}
    assert crm.count_states(tmp_path / "crm.db") == {"booked": 1}


def test_an_answer_is_written_back_without_going_through_all_rows(tmp_path: Path) -> None:
    file, database = tmp_path / "mine.csv", tmp_path / "crm.db"
    file.write_text("id no,Who,Tel\n7,Own Testlead,+1 202 555 0199\n", "utf-8")
    field_map: FieldMap = {"lead_id": "id no", "name": "Who", "mobile": "Tel"}
    leads = OwnLeads(file=file, source="file.mine", field_map=field_map, region=None)
    crm.make_own_crm(database, file, id_column=leads.id_column)
    statement = written_dag(leads, tmp_path).TELL_CRM
    binds = dict.fromkeys(re.findall(r":(\w+)", statement))
    with closing(sqlite3.connect(database)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", binds).fetchall()
    assert [row[3].split()[0] for row in plan] == ["SEARCH"]
