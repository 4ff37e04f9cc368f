"""Every code block of the README runs: Dags on real Airflow, commands as they stand, SQL on a real table."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from airflow_provider_popin import cli
from airflow_provider_popin.sandbox.server import SandboxServer
from tests import airflow_runs
from tests.airflow_runs import IS_AIRFLOW_3, states, xcom
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.earlier_runs import forget_earlier_runs
from tests.example_dags.webhooks import tell
from tests.operators import conftest as databases

crm_on_postgres = databases.crm_on_postgres

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)]
PYTHON = [code for language, code in BLOCKS if language == "python"]
DAGS = [code for code in PYTHON if "with DAG(" in code]
SNIPPETS = [code for code in PYTHON if "with DAG(" not in code]
COMMANDS = [
    shlex.split(line, comments=True)
    for language, code in BLOCKS
    if language == "bash"
    for line in code.splitlines()
]
SQL = [code for language, code in BLOCKS if language == "sql"]

LEADS = [
    ("1042", "Asha", "Example", "+1 202 555 0143"),
    ("1043", "Björn", "Exempel", "+46 70 174 06 05"),
    ("1044", "Chloé", "Exemple", "01 99"),
    ("W-17", "", "", ""),
]


def commands(*words: str) -> list[list[str]]:
    """Return the commands that begin with some words, without these words."""
    return [line[len(words) :] for line in COMMANDS if line[: len(words)] == [*words]]


@pytest.fixture
def set_up(
    sandbox: SandboxServer,
    popin_connection: str,
    set_connection: Callable[..., None],
    tmp_path: Path,
    airflow_db: None,
) -> Iterator[sqlite3.Connection]:
    """Do what the README tells before its Dags: connections, the pool, the columns of the CRM's table."""
    from airflow.models.pool import Pool

    forget_earlier_runs()
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
    set_connection("crm", conn_type="sqlite", host=str(tmp_path / "crm.db"))
    (arguments,) = commands("airflow", "pools", "set")
    Pool.create_or_update_pool(arguments[0], int(arguments[1]), arguments[2], include_deferred=False)
    with closing(sqlite3.connect(tmp_path / "crm.db")) as crm:
        crm.execute("CREATE TABLE leads (id, first_name, last_name, phone, email, country)")
        for code in SQL:
            crm.executescript(code)
        crm.executemany("INSERT INTO leads (id, first_name, last_name, phone) VALUES (?, ?, ?, ?)", LEADS)
        crm.commit()
        yield crm


def load(code: str, folder: Path) -> Any:
    """Run a block as a file: Airflow reads the source of functions in it."""
    file = folder / "block.py"
    file.write_text(code, "utf-8")
    names: dict[str, Any] = {"__name__": "readme_block", "__file__": str(file)}
    exec(compile(code, str(file), "exec"), names)
    return names.get("dag")


def test_all_blocks_are_of_a_kind_that_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"bash", "python", "sql"}
    assert (len(DAGS), len(SNIPPETS), len(SQL)) == (7, 2, 2)
    known = {"airflow", "curl", "make", "pip", "python"}
    assert {line[0] for line in COMMANDS if line} == known


def test_reader_has_it_installed_connected_and_running_within_40_lines() -> None:
    first_lines = "\n".join(TEXT.splitlines()[:40])
    assert "pip install " in first_lines
    assert "airflow connections add popin_default" in first_lines
    assert f"```python\n{DAGS[0]}```" in first_lines


def test_what_a_red_task_says_is_said_somewhere() -> None:
    table = TEXT.partition("## When a task is red")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert len(messages) > 15
    # As it is written there: in several pieces, and with numbers that are known later.
    files = (ROOT / "airflow_provider_popin").rglob("*.py")
    source = re.sub(r'"\s*f?"', "", " ".join(file.read_text("utf-8") for file in files))
    assert [text for text in messages if re.sub(r"^http_\d+$", "http_{status}", text) not in source] == []


def test_promise_is_the_one_that_is_kept() -> None:
    words = " ".join(TEXT.replace("\n>", "\n").split())
    assert (
        "never books the same lead twice on its own, and names every booking that it cannot vouch for"
        in words
    )
    assert "exactly once" not in words.lower()


def test_first_dag_books_the_leads_of_the_table(
    set_up: sqlite3.Connection, sandbox: SandboxServer, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    national = ("070-174 06 05", "SE", "bjorn@example.com", "1043")
    set_up.execute("UPDATE leads SET phone = ?, country = ?, email = ? WHERE id = ?", national)
    set_up.commit()
    run = run_dag(load(DAGS[0], tmp_path))
    assert states(run) == {"sync_leads": "success"}
    counts = {name: n for name, n in xcom(run, "sync_leads")["results"].items() if n}
    assert counts == {"booked": 2, "rejected": 2}
    assert sandbox.stats()["bookings"] == 2
    sent = {str(row["fields"]["country"]): row["fields"] for row in sandbox.customers()}
    assert sent.keys() == {"1", "46"}
    assert sent["46"]["email"] == "bjorn@example.com"


def test_dag_with_a_function_books_and_tells_the_crm(
    set_up: sqlite3.Connection, sandbox: SandboxServer, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    code = DAGS[1].replace("file:///tmp/popin-results", (tmp_path / "results").as_uri())
    assert code != DAGS[1]
    assert states(run_dag(load(code, tmp_path))) == {"sync_leads": "success"}
    bookings = sandbox.bookings()
    assert len(bookings) == 2
    assert all("01:00 PM" <= booking["time"][-8:] < "06:00 PM" for booking in bookings)
    told = set_up.execute("SELECT popin_state, popin_call_time, popin_join_url FROM leads WHERE id = 'W-17'")
    state, call_time, join_url = told.fetchone()
    assert state == "booked"
    assert call_time.endswith("+05:30")
    assert join_url in [booking["join_url"] for booking in bookings]
    assert len(list((tmp_path / "results").rglob("*.jsonl"))) == 1


def test_dag_for_one_lead_books_it(
    set_up: sqlite3.Connection, sandbox: SandboxServer, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    run = run_dag(load(DAGS[2], tmp_path))
    assert set(states(run).values()) == {"success"}
    (booking,) = sandbox.bookings()
    assert booking["time"] == xcom(run, "schedule")["slot"]
    assert re.fullmatch(r".*(11:\d\d AM|1[2]:\d\d PM|0[1-7]:\d\d PM)", booking["time"])


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="Airflow 3 has asset watchers")
def test_dag_for_new_slots_books_at_weekends(
    set_up: sqlite3.Connection, sandbox: SandboxServer, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    dag = load(DAGS[3], tmp_path)
    (asset,) = dag.schedule
    (watcher,) = asset.watchers
    assert watcher.trigger.serialize()[1]["weekdays"] == [5, 6]
    assert states(run_dag(dag)) == {"sync_leads": "success"}
    assert len(sandbox.bookings()) == 2


@pytest.mark.postgres
def test_dag_with_a_watermark_reads_what_has_changed(
    set_up: sqlite3.Connection, crm_on_postgres: Engine, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    columns = "id text, first_name text, last_name text, phone text, updated_at timestamptz"
    insert = "INSERT INTO leads VALUES (%s, %s, %s, %s, now() - interval '1 day' * %s)"
    with crm_on_postgres.begin() as crm:
        crm.exec_driver_sql(f"CREATE TABLE leads ({columns})")
        for day, lead in enumerate(LEADS[:3], 1):
            crm.exec_driver_sql(insert, (*lead, day))
    dag = load(DAGS[4], tmp_path)
    assert xcom(run_dag(dag), "sync_leads")["rows"] == 3
    again = xcom(run_dag(dag), "sync_leads")
    assert (again["rows"], again["results"]["skipped"]) == (1, 1)


def test_dag_tells_the_crm_how_calls_ended(
    set_up: sqlite3.Connection, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    run_dag(load(DAGS[0], tmp_path))
    set_up.row_factory = sqlite3.Row
    ledger = sqlite3.connect(tmp_path / "ledger.db")
    booked = ledger.execute(
        "SELECT customer_id, slot_start FROM popin_leads WHERE booking_state = 'booked' AND lead_id = '1042'"
    ).fetchone()
    ledger.close()
    tell(booked[0], datetime.fromtimestamp(booked[1], UTC), "missed")
    assert xcom(run_dag(load(DAGS[6], tmp_path)), "tell_crm")["told"] == {"missed": 1}
    told = set_up.execute("SELECT id FROM leads WHERE popin_outcome = 'missed'").fetchall()
    assert [row["id"] for row in told] == ["1042"]


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="Airflow 3 has an API server to receive webhooks")
def test_dag_on_missed_calls_is_queued_and_tells_the_lead(
    set_up: sqlite3.Connection,
    run_dag: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    from airflow_provider_popin.plugins.outbox import register_all
    from airflow_provider_popin.webhooks import outbox

    dag = load(DAGS[5], tmp_path)
    airflow_runs._store(dag)
    extra = {"source": "crm.leads", "lead_id": "1042", "call_time": None}
    with create_session() as session:
        session.query(DagModel).filter_by(dag_id=dag.dag_id).update({"is_paused": False})
    register_all([outbox.AssetEvent(1, outbox.asset_uri("popin_default", "missed"), extra)])
    with create_session() as session:
        queued = session.query(AssetDagRunQueue).filter_by(target_dag_id=dag.dag_id)
        assert queued.count() == 1
        event = session.query(AssetEvent).order_by(AssetEvent.id.desc()).first()
        dag.get_task("tell").python_callable(triggering_asset_events={"missed": [event]})
        queued.delete()
    assert "crm.leads 1042 None" in capsys.readouterr().out


def test_hook_books(
    set_up: sqlite3.Connection, sandbox: SandboxServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(SNIPPETS[0], tmp_path)
    assert len(sandbox.bookings()) == 1
    assert "free slots, times in Asia/Kolkata" in capsys.readouterr().out


def test_export_is_passed_through(
    set_connection: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Dashboard(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(
                (self.path, self.headers["X-API-KEY"], self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.send_header("Content-Type", "text/csv")
            self.end_headers()
            self.wfile.write(b"a;b\n1;2\n")

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    asked: list[tuple[str, str | None, bytes]] = []
    with HTTPServer(("127.0.0.1", 0), Dashboard) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        set_connection(
            "popin_dashboard",
            conn_type="popin",
            host=f"http://127.0.0.1:{server.server_port}",
            login=SELLER_TOKEN,
            password=API_KEY,
        )
        load(SNIPPETS[1], tmp_path)
        thread.join()
    ((path, key, body),) = asked
    assert (path, key, json.loads(body)) == ("/api/v1/export", API_KEY, {"date": "2025-09-25"})
    assert "8 bytes of text/csv" in capsys.readouterr().out


def test_connections_and_pool_are_added_as_written(airflow_db: None) -> None:
    from airflow.cli import cli_parser
    from airflow.models import Connection
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session

    added = commands("airflow")
    for arguments in added:
        parsed = cli_parser.get_parser().parse_args(arguments)
        parsed.func(parsed)
    with create_session() as session:
        found = {
            one.conn_id: one for one in session.query(Connection).filter(Connection.conn_id.like("popin%"))
        }
        assert sorted(found) == ["popin_dashboard", "popin_default", "popin_ledger"]
        assert (found["popin_default"].conn_type, found["popin_default"].login) == ("popin", "TOKEN")
        assert found["popin_default"].password == "API_KEY"
        assert found["popin_dashboard"].host == "https://dashboard.popin.to"
        assert found["popin_ledger"].conn_type == "sqlite"
        assert session.query(Pool).filter(Pool.pool == "popin").one().slots == 1
        for one in found.values():
            session.delete(one)


def test_command_line_runs_as_written(
    set_up: sqlite3.Connection,
    sandbox: SandboxServer,
    run_dag: Callable[..., Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    dag = load(DAGS[0], tmp_path)
    dag.get_task("sync_leads").max_concurrency = 1
    sandbox.set_faults("schedule:reset_after_commit@1")
    assert states(run_dag(dag)) == {"sync_leads": "failed"}
    capfd.readouterr()
    printed = {}
    lines = commands("python", "-m", "airflow_provider_popin")
    for arguments in lines:
        assert cli.main(arguments) == 0, arguments
        printed[" ".join(arguments[:2])] = capfd.readouterr().out
    assert len(lines) == 11
    assert "1042" in printed["in-doubt list"]
    assert "booked" in printed["in-doubt resolve"]
    assert '"lead_id": "1042"' in printed["ledger export"]
    assert len(sandbox.bookings()) == 1


def test_packages_have_the_name_and_the_extras_that_are_built() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for (requirement,) in commands("pip", "install"):
        name, _, extras = requirement.rstrip("]").partition("[")
        assert name == project["name"]
        assert {extra for extra in extras.split(",") if extra} <= set(project["optional-dependencies"])
    for extra in re.findall(r"`\[(\w+)\]`", TEXT):
        assert extra in project["optional-dependencies"]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = {arguments[0] for arguments in commands("make")} | set(re.findall(r"`make ([\w.-]+)", TEXT))
    assert named >= {"demo", "up"}
    for target in named:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.M), target


def test_files_that_are_named_exist() -> None:
    for path in re.findall(r"\]\((\w+\.md)\)|`(example_dags/[\w./]*)`", TEXT):
        assert (ROOT / (path[0] or path[1])).exists(), path


@pytest.mark.skipif(shutil.which("curl") is None, reason="NOT TESTED: there is no curl")
def test_sandbox_starts_and_answers_as_written() -> None:
    started = commands("python", "-m", "airflow_provider_popin.sandbox")
    assert len(started) == 2
    for options in started:
        start_and_ask(options)


def start_and_ask(options: list[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    options = [port if option == "8081" else option for option in options]
    command = [sys.executable, "-m", "airflow_provider_popin.sandbox", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert f":{port}" in server.stdout.readline()
            for (url,) in commands("curl"):
                ask = ["curl", "--silent", "--fail", url.replace(":8081", f":{port}")]
                assert subprocess.run(ask, capture_output=True, check=True, text=True).stdout.startswith("{")
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(10)
