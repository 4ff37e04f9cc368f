"""The bulk job in real Airflow, against the sandbox, with real databases."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task, task_group

from airflow_provider_popin import cli
from airflow_provider_popin.operators import lead_sync
from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator
from airflow_provider_popin.sandbox.server import SandboxServer
from tests import airflow_runs
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.operators.support import tries
from tests.privacy import find_personal_data, register_personal

ROWS: list[dict[str, object]] = [
    {"lead_id": "L1", "name": "Asha Testperson", "mobile": "+91 95445 10801"},
    {"lead_id": "L2", "name": "Bela Testperson", "mobile": "+91 95445 10802"},
    {"lead_id": "L3", "name": "Chitra Testperson", "mobile": "ask for Chitra 95445 10803"},
]
PERSONAL = [str(value) for row in ROWS for key, value in row.items() if key != "lead_id"]
register_personal(*PERSONAL)

BOOKED = {"booked": 2, "rejected": 1}
UPDATE = (
    "UPDATE leads SET state = :state, reason = :reason, call_time = :call_time, url = :join_url"
    " WHERE id = :lead_id"
)
CRM = {
    "sql": "SELECT id AS lead_id, name, mobile FROM leads WHERE id LIKE :like ORDER BY id",
    "sql_conn_id": "crm",
    "parameters": {"like": "L%"},
}

Run = Callable[..., Any]
Output = Callable[[], str]


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Output:
    """Return a function that gives what was printed and logged so far: Airflow 3 does not use ``logging``."""
    seen: list[str] = []

    def output() -> str:
        seen.extend(capfd.readouterr())
        return "".join(seen) + caplog.text

    return output


@pytest.fixture
def ledger(tmp_path: Path, set_connection: Callable[..., None]) -> Path:
    path = tmp_path / "ledger.db"
    set_connection("popin_ledger", conn_type="sqlite", host=str(path))
    return path


@pytest.fixture
def popin(popin_connection: str, sandbox: SandboxServer, ledger: Path) -> SandboxServer:
    return sandbox


@pytest.fixture
def crm(tmp_path: Path, set_connection: Callable[..., None]) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "crm.db"
    set_connection("crm", conn_type="sqlite", host=str(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "CREATE TABLE leads (id PRIMARY KEY, name, mobile, state, reason, call_time, url, alerted)"
        )
        for row in ROWS:
            connection.execute("INSERT INTO leads (id, name, mobile) VALUES (?, ?, ?)", tuple(row.values()))
        yield connection


def make_dag(dag_id: str, **arguments: Any) -> DAG:
    arguments.setdefault("source", "crm.leads")
    with DAG(dag_id, schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC), catchup=False) as dag:
        PopinLeadSyncOperator(task_id="sync", **arguments)
    return dag


def report(run: Any) -> dict[str, Any]:
    value = airflow_runs.xcom(run, "sync")
    assert isinstance(value, dict), "the task failed"
    return value


def counts(run: Any) -> dict[str, int]:
    return {name: count for name, count in report(run)["results"].items() if count}


def state(run: Any) -> str:
    return airflow_runs.states(run)["sync"].rpartition(".")[2].lower()


class TestSources:
    def test_a_callable_runs_in_the_task_and_leads_are_not_sent_twice(
        self, popin: SandboxServer, run_dag: Run
    ) -> None:
        seen: list[str] = []

        def leads(context: Mapping[str, Any]) -> Iterator[Mapping[str, object]]:
            seen.append(context["ti"].task_id)
            yield from ROWS

        dag = make_dag("sync_callable", leads=leads)
        assert seen == []
        assert counts(run_dag(dag)) == BOOKED
        assert counts(run_dag(dag)) == {"skipped": 3}
        assert seen == ["sync", "sync"]
        assert len(popin.bookings()) == 2

    def test_a_callable_may_fill_one_mapping_again_and_again(
        self, popin: SandboxServer, run_dag: Run
    ) -> None:
        def leads(context: Mapping[str, Any]) -> Iterator[Mapping[str, object]]:
            row: dict[str, object] = {}
            for values in ROWS:
                row.update(values)
                yield row

        assert counts(run_dag(make_dag("sync_one_mapping", leads=leads))) == BOOKED

    def test_a_sequence_with_rows_that_are_no_mappings(self, popin: SandboxServer, run_dag: Run) -> None:
        run = run_dag(make_dag("sync_sequence", leads=[*ROWS, "text", None]))
        assert counts(run) == {"booked": 2, "rejected": 3}
        assert report(run)["reasons"]["rejected"]["row_not_a_mapping"] == 2

    @pytest.mark.parametrize("name", ["leads.csv", "leads.jsonl.gz"])
    def test_a_file(self, popin: SandboxServer, run_dag: Run, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        if name.endswith("csv"):
            path.write_text("Id,First,Last,Phone\n1,Asha,Testperson,+91 95445 10801\n2,short\n")
            field_map: Any = {"lead_id": "Id", "name": ["First", "Last"], "mobile": "Phone"}
        else:
            path.write_bytes(gzip.compress(json.dumps(ROWS[0]).encode() + b"\n[]\n"))
            field_map = None
        run = run_dag(make_dag(f"sync_file_{len(name)}", path=str(path), field_map=field_map))
        assert counts(run) == {"booked": 1, "rejected": 1}

    def test_sql_with_write_back_in_the_same_database(
        self, popin: SandboxServer, run_dag: Run, crm: sqlite3.Connection
    ) -> None:
        run = run_dag(make_dag("sync_sql", **CRM, write_back_sql=UPDATE))
        assert counts(run) == BOOKED
        rows = {row[0]: row[1:] for row in crm.execute("SELECT id, state, reason, call_time, url FROM leads")}
        assert [rows[lead][0] for lead in ("L1", "L2", "L3")] == ["booked", "booked", "rejected"]
        assert datetime.fromisoformat(rows["L1"][2]).utcoffset() == timedelta(hours=5, minutes=30)
        assert rows["L1"][3].startswith("http")
        assert rows["L3"][1] == "phone_letters"

    def test_output_of_another_task_is_wired_and_read(self, popin: SandboxServer, run_dag: Run) -> None:
        with DAG("sync_xcom", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:

            @task(show_return_value_in_logs=False)
            def extract() -> list[dict[str, object]]:
                return ROWS

            PopinLeadSyncOperator(task_id="sync", source="crm.leads", leads=extract())
        assert dag.get_task("sync").upstream_task_ids == {"extract"}
        assert counts(run_dag(dag)) == BOOKED

    def test_output_of_a_mapped_task_is_one_row_per_instance(
        self, popin: SandboxServer, run_dag: Run
    ) -> None:
        with DAG("sync_mapped_xcom", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:

            @task(show_return_value_in_logs=False)
            def extract(number: int) -> dict[str, object]:
                return ROWS[number]

            PopinLeadSyncOperator(task_id="sync", source="crm.leads", leads=extract.expand(number=[0, 1, 2]))
        assert dag.get_task("sync").upstream_task_ids == {"extract"}
        assert counts(run_dag(dag)) == BOOKED

    def test_expanded_over_files(self, popin: SandboxServer, run_dag: Run, tmp_path: Path) -> None:
        paths = []
        for number, row in enumerate(ROWS):
            paths.append(str(tmp_path / f"{number}.jsonl"))
            Path(paths[-1]).write_text(json.dumps(row))
        with DAG("sync_expanded", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
            PopinLeadSyncOperator.partial(
                task_id="sync", source="crm.leads", results_path=str(tmp_path / "out"), max_rejected_ratio=1
            ).expand(path=paths)
        run = run_dag(dag)
        results = [airflow_runs.xcom(run, "sync", map_index=index)["results"] for index in range(3)]
        assert [result["booked"] for result in results] == [1, 1, 0]
        assert len(list((tmp_path / "out").glob("sync_expanded/*/sync/*/1.jsonl"))) == 3

    def test_arguments_of_a_mapped_task_group(
        self, popin: SandboxServer, run_dag: Run, tmp_path: Path
    ) -> None:
        """Airflow knows them in the task only, like the output of a task, which they may be part of."""
        with DAG("sync_group", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:

            @task(show_return_value_in_logs=False)
            def extract() -> list[Any]:
                return [[row] for row in ROWS]

            @task_group
            def shop(leads: Any, limit: Any, folder: Any) -> None:
                PopinLeadSyncOperator(
                    task_id="sync", source="crm.leads", leads=leads, limit=limit, results_path=folder
                )

            shop.expand(leads=extract(), limit=[1], folder=[str(tmp_path)])
        assert dag.get_task("shop.sync").upstream_task_ids == {"extract"}
        run = run_dag(dag)
        found = [airflow_runs.xcom(run, "shop.sync", map_index=index)["results"] for index in range(3)]
        assert [{name for name, count in results.items() if count} for results in found] == [
            {"booked"},
            {"booked"},
            {"rejected"},
        ]
        assert len(popin.bookings()) == 2
        assert len(list(tmp_path.glob("sync_group/*/shop.sync/*/1.jsonl"))) == 3

    def test_expanded_over_sources_with_one_callable(self, popin: SandboxServer, run_dag: Run) -> None:
        with DAG("sync_sources", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
            PopinLeadSyncOperator.partial(task_id="sync", leads=lambda context: ROWS[:1]).expand(
                source=["shop.a", "shop.b"]
            )
        run = run_dag(dag)
        reports = [airflow_runs.xcom(run, "sync", map_index=index) for index in range(2)]
        assert [report["results"]["booked"] for report in reports] == [1, 1]
        assert [report["source"] for report in reports] == ["shop.a", "shop.b"]

    @pytest.mark.parametrize(
        "leads", [lambda context: None, lambda context: {"lead_id": 1}, lambda context: "x"]
    )
    def test_leads_that_cannot_be_gone_through(
        self, popin: SandboxServer, run_dag: Run, leads: Any, output: Output
    ) -> None:
        assert state(run_dag(make_dag("sync_no_rows", leads=leads))) == "failed"
        assert "leads must give mappings" in output()
        assert popin.requests() == []

    def test_a_frame_is_no_sequence_of_leads(
        self, popin: SandboxServer, run_dag: Run, output: Output
    ) -> None:
        """Gone through, it gives the names of its columns: a handful of rejected rows, and a green task."""
        frame = pytest.importorskip("pandas").DataFrame(ROWS)
        assert state(run_dag(make_dag("sync_frame", leads=lambda context: frame))) == "failed"
        assert "not DataFrame. For a DataFrame: its to_dict('records')" in output()
        run = run_dag(make_dag("sync_records", leads=lambda context: frame.to_dict("records")))
        assert counts(run) == BOOKED


class TestArgumentsAtRunTime:
    def test_templates(
        self, popin: SandboxServer, run_dag: Run, crm: sqlite3.Connection, tmp_path: Path
    ) -> None:
        (tmp_path / "leads.sql").write_text("SELECT id AS lead_id, name, mobile FROM leads WHERE id = :id")
        with DAG(
            "sync_templates",
            schedule=None,
            start_date=datetime(2025, 1, 1, tzinfo=UTC),
            template_searchpath=str(tmp_path),
            params={"dry": False, "limit": None},
        ) as dag:
            PopinLeadSyncOperator(
                task_id="sync",
                source="crm.leads",
                sql="leads.sql",
                sql_conn_id="crm",
                parameters={"id": "{{ 'L1' }}"},
                dry_run="{{ params.dry }}",
                limit="{{ params.limit }}",
                results_path=str(tmp_path / "{{ dag.dag_id }}"),
            )
        run = run_dag(dag)
        assert counts(run) == {"booked": 1}
        assert report(run)["results_path"].startswith(str(tmp_path / "sync_templates" / "sync_templates"))

    def test_a_dry_run_sends_nothing_and_makes_no_ledger(
        self, popin: SandboxServer, run_dag: Run, ledger: Path
    ) -> None:
        run = run_dag(make_dag("sync_dry", leads=ROWS, dry_run="{{ 'True' }}"))
        assert counts(run) == {"planned": 2, "rejected": 1}
        assert not ledger.exists()
        assert {request["method"] for request in popin.requests()} == {"GET"}

    def test_a_limit(self, popin: SandboxServer, run_dag: Run) -> None:
        assert counts(run_dag(make_dag("sync_limit", leads=ROWS, limit="{{ 1 }}")))["booked"] == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"dry_run": "{{ 'maybe' }}"}, "dry_run"),
            ({"dry_run": "{{ None }}"}, "dry_run"),
            ({"limit": "{{ 'many' }}"}, "limit"),
            ({"results_path": "{{ 'relative' }}"}, "results_path"),
            ({"leads": None, "path": "{{ 'leads.xlsx' }}"}, "argument 'path': must end in .csv"),
            ({"leads": None, "sql": "{{ '' }}", "sql_conn_id": "crm"}, "argument 'sql': must be"),
        ],
    )
    def test_a_rendered_value_that_cannot_be_used(
        self,
        popin: SandboxServer,
        run_dag: Run,
        arguments: dict[str, Any],
        message: str,
        output: Output,
    ) -> None:
        given = {"leads": ROWS, "retries": 1, "retry_delay": timedelta(0)} | arguments
        run = run_dag(make_dag("sync_bad_value", **given))
        assert (state(run), tries(run)) == ("failed", {"sync": 1})
        assert message in output()
        assert popin.requests() == []

    def test_a_results_path_may_render_to_none(self, popin: SandboxServer, run_dag: Run) -> None:
        run = run_dag(make_dag("sync_no_results", leads=ROWS, results_path="{{ none }}"))
        assert report(run)["results_path"] is None

    def test_the_connections_ledger_is_used_when_asked_for(
        self,
        connect_popin: Callable[..., None],
        run_dag: Run,
        set_connection: Callable[..., None],
        tmp_path: Path,
    ) -> None:
        set_connection("books", conn_type="sqlite", host=str(tmp_path / "books.db"))
        connect_popin(requests_per_second=0, ledger_conn_id="books")
        assert counts(run_dag(make_dag("sync_own_ledger", leads=ROWS, ledger_conn_id=None))) == BOOKED
        assert (tmp_path / "books.db").exists()


def command_in(text: str, command: str) -> list[str]:
    """The words of a command of ours that a text quotes, without the program's name."""
    found = re.findall(f"`python -m airflow_provider_popin ({command} [^`]*)`", text)
    return shlex.split(found[-1])


class TestFailures:
    def test_too_many_in_doubt_fail_the_task_without_a_retry_and_say_what_to_do(
        self, popin: SandboxServer, run_dag: Run, output: Output
    ) -> None:
        popin.set_faults("schedule:500_after_commit")
        run = run_dag(make_dag("sync_doubt", leads=ROWS, retries=3, retry_delay=timedelta(0)))
        assert state(run) == "failed"
        assert run.get_task_instance("sync").try_number == 1
        assert "in-doubt resolve --source crm.leads" in output()
        assert note(run)["ledger_sequence"] >= 1

    def test_a_ledger_of_a_newer_version_is_nothing_that_a_retry_mends(
        self, popin: SandboxServer, run_dag: Run, ledger: Path, output: Output
    ) -> None:
        assert counts(run_dag(make_dag("sync_newer_ledger", leads=ROWS))) == BOOKED
        with closing(sqlite3.connect(ledger)) as connection, connection:
            connection.execute("UPDATE popin_ledger SET schema_version = 99")
        sent = len(popin.requests())
        run = run_dag(make_dag("sync_newer_ledger", leads=ROWS, retries=3, retry_delay=timedelta(0)))
        assert (state(run), tries(run)) == ("failed", {"sync": 1})
        assert "ledger connection 'popin_ledger': the ledger has schema version 99" in output()
        assert len(popin.requests()) == sent

    @pytest.mark.parametrize("host", [":memory:", "ledger.db"])
    def test_a_ledger_that_no_file_keeps_is_nothing_that_a_retry_mends(
        self, popin: SandboxServer, run_dag: Run, set_connection: Callable[..., None], host: str
    ) -> None:
        set_connection("popin_ledger", conn_type="sqlite", host=host)
        run = run_dag(make_dag("sync_no_ledger", leads=ROWS, retries=3, retry_delay=timedelta(0)))
        assert (state(run), tries(run)) == ("failed", {"sync": 1})
        assert popin.requests() == []

    def test_the_commands_that_it_tells_work_as_they_are_copied(
        self,
        sandbox: SandboxServer,
        run_dag: Run,
        set_connection: Callable[..., None],
        tmp_path: Path,
        output: Output,
    ) -> None:
        """Also where no connection has the default name: first for the doubt, then for a lost ledger."""
        file = tmp_path / "books.db"
        set_connection("crm_books", conn_type="sqlite", host=str(file))
        set_connection("popin_uk", conn_type="popin", host=sandbox.url, login=SELLER_TOKEN, password=API_KEY)
        dag = make_dag(
            "sync_copied", leads=ROWS, ledger_conn_id="crm_books", popin_conn_id="popin_uk", max_concurrency=1
        )
        sandbox.set_faults("schedule:500_after_commit")

        assert state(run_dag(dag)) == "failed"
        resolve = command_in(output(), "in-doubt resolve")
        words = {"LEAD_ID": "L1", "booked|not-booked": "booked", "TEXT": "seen in the dashboard"}
        assert cli.main([words.get(word, word) for word in resolve]) == 0
        sandbox.set_faults()
        assert counts(run_dag(dag)) == {"booked": 1, "skipped": 2}

        for part in file.parent.glob("books.db*"):
            part.unlink()
        assert state(run_dag(dag)) == "failed"
        assert cli.main(command_in(output(), "ledger init")) == 0
        assert counts(run_dag(dag)) == BOOKED

    def test_a_missing_column_fails_before_any_lead_is_sent(
        self, popin: SandboxServer, run_dag: Run, output: Output
    ) -> None:
        field_map = {"lead_id": "Id", "name": "name", "mobile": "mobile"}
        assert state(run_dag(make_dag("sync_column", leads=ROWS, field_map=field_map))) == "failed"
        assert "the source has no column 'Id'" in output()
        assert all(request["method"] == "GET" for request in popin.requests())

    def test_a_wrong_key_stops_the_run_and_names_the_connection(
        self, popin: SandboxServer, run_dag: Run, set_connection: Callable[..., None], output: Output
    ) -> None:
        set_connection("popin_default", conn_type="popin", host=popin.url, login="51", password="wrong-key-1")
        assert state(run_dag(make_dag("sync_key", leads=ROWS, retries=2))) == "failed"
        assert "popin_default" in output()
        assert popin.bookings() == []

    def test_what_a_run_did_that_popin_stopped_is_counted_and_told_to_later_runs(
        self, popin: SandboxServer, run_dag: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted: list[int] = []
        monkeypatch.setattr(lead_sync, "count_run", lambda told, _: counted.append(told.results["booked"]))
        popin.set_faults("schedule:401@2-")
        run = run_dag(make_dag("sync_stopped", leads=ROWS, max_concurrency=1))
        assert state(run) == "failed"
        assert len(popin.bookings()) == 1
        assert note(run)["ledger_sequence"] == 2
        assert counted == [1]

    def test_a_lost_ledger_is_refused(
        self, popin: SandboxServer, run_dag: Run, ledger: Path, output: Output
    ) -> None:
        dag = make_dag("sync_lost", leads=ROWS, retries=2, retry_delay=timedelta(0))
        assert counts(run_dag(dag)) == BOOKED
        for file in ledger.parent.glob("ledger.db*"):
            file.unlink()
        run = run_dag(dag)
        assert state(run) == "failed"
        assert run.get_task_instance("sync").try_number == 1
        assert "ledger init --source crm.leads" in output()
        assert len(popin.bookings()) == 2

    @pytest.mark.parametrize("dry_run_between", [False, True])
    def test_a_ledger_that_is_behind_the_last_report_is_refused(
        self, popin: SandboxServer, run_dag: Run, ledger: Path, output: Output, dry_run_between: bool
    ) -> None:
        name = f"sync_behind_{dry_run_between}"
        dag = make_dag(name, leads=lambda context: ROWS[: 1 + len(popin.bookings())])
        run_dag(dag)
        with closing(sqlite3.connect(ledger)) as old, closing(sqlite3.connect(f"{ledger}.old")) as backup:
            old.backup(backup)
        assert counts(run_dag(dag))["booked"] == 1
        if dry_run_between:
            assert report(run_dag(make_dag(name, leads=ROWS, dry_run=True)))["dry_run"] is True
        for file in ledger.parent.glob("ledger.db*"):
            if file.suffix != ".old":
                file.unlink()
        Path(f"{ledger}.old").rename(ledger)
        assert state(run_dag(dag)) == "failed"
        assert "is behind a run" in output()
        assert len(popin.bookings()) == 2

    @pytest.mark.parametrize("wrong", [{"password": ""}, {"extra": {"default_region": "nowhere"}}])
    def test_a_run_after_one_that_a_wrong_connection_ended(
        self,
        popin: SandboxServer,
        run_dag: Run,
        set_connection: Callable[..., None],
        wrong: dict[str, Any],
    ) -> None:
        """It sent nothing: nobody has to say that the ledger, which does not know the source, is meant."""
        name = f"lead_sync_wrong_connection_{next(iter(wrong))}"
        right = {"conn_type": "popin", "host": popin.url, "login": SELLER_TOKEN, "password": API_KEY}
        dag = make_dag(name, leads=ROWS, popin_conn_id="popin_other")
        set_connection("popin_other", **right | wrong)
        assert state(run_dag(dag)) == "failed"
        set_connection("popin_other", **right)

        assert counts(run_dag(dag)) == BOOKED

    def test_a_real_run_after_a_dry_run_and_after_one_that_failed_early(
        self, popin: SandboxServer, run_dag: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        impossible = str(tmp_path / "file" / "folder")
        run_dag(make_dag("sync_late_start", leads=ROWS, dry_run=True))
        assert state(run_dag(make_dag("sync_late_start", leads=ROWS, results_path=impossible))) == "failed"
        assert counts(run_dag(make_dag("sync_late_start", leads=ROWS))) == BOOKED

    def test_what_fails_to_be_written_back_is_written_by_the_next_run(
        self, popin: SandboxServer, run_dag: Run, crm: sqlite3.Connection
    ) -> None:
        crm.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON leads WHEN NEW.id = 'L2'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        dag = make_dag("sync_write_back", **CRM, write_back_sql=UPDATE)
        assert state(run_dag(dag)) == "failed"
        assert crm.execute("SELECT id FROM leads WHERE state = 'booked'").fetchall() == [("L1",)]
        crm.execute("DROP TRIGGER refuse")
        assert counts(run_dag(dag)) == {"skipped": 3}
        assert crm.execute("SELECT id FROM leads WHERE state = 'booked'").fetchall() == [("L1",), ("L2",)]

    def test_a_killed_task_stops_the_engine(self, popin: SandboxServer, run_dag: Run, output: Output) -> None:
        operators: list[PopinLeadSyncOperator] = []

        def leads(context: Mapping[str, Any]) -> Iterator[Mapping[str, object]]:
            yield ROWS[0]
            operators.append(context["ti"].task)  # as Airflow does; in 3.0 context["task"] is another
            context["ti"].task.on_kill()
            yield ROWS[1]

        run = run_dag(make_dag("sync_kill", leads=leads))
        assert state(run) == "failed"
        assert "the task was killed" in output()
        assert len(popin.bookings()) == 0

    def test_on_kill_before_anything_runs(self) -> None:
        PopinLeadSyncOperator(task_id="sync", source="s", leads=[]).on_kill()

    def test_a_task_killed_before_its_engine_runs_sends_nothing(
        self, popin: SandboxServer, run_dag: Run, output: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Airflow 3 calls on_kill on SIGTERM and lets the task go on.
        operators: list[PopinLeadSyncOperator] = []

        def killed_here(operator: PopinLeadSyncOperator, stack: object) -> None:
            operators.append(operator)
            operator.on_kill()

        monkeypatch.setattr(PopinLeadSyncOperator, "_write_back", killed_here)
        assert state(run_dag(make_dag("sync_early_kill", leads=ROWS))) == "failed"
        assert operators
        assert "the task was killed" in output()
        assert popin.stats()["requests"]["all"] == 0


class TestPrivacy:
    def test_nothing_personal_is_left_behind(
        self, popin: SandboxServer, run_dag: Run, crm: sqlite3.Connection, tmp_path: Path, ledger: Path
    ) -> None:
        from airflow.models.renderedtifields import RenderedTaskInstanceFields
        from airflow.utils.session import create_session

        run = run_dag(make_dag("sync_private", **CRM, results_path=str(tmp_path / "results")))
        (results,) = (tmp_path / "results").rglob("*.jsonl")
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        assert report(run)["results_path"] == str(results)
        assert [line["lead_id"] for line in lines] == ["L1", "L2", "L3"]
        with create_session() as session:
            query = session.query(RenderedTaskInstanceFields).filter_by(dag_id="sync_private")
            rendered = [str(row.rendered_fields) for row in query]
        with closing(sqlite3.connect(ledger)) as connection:
            dump = list(connection.iterdump())
        everything = [*rendered, *dump, results.read_text(), str(report(run)), str(note(run))]
        assert rendered
        assert find_personal_data("\n".join(everything), PERSONAL) == []

    def test_leads_of_the_dag_file_are_not_rendered(self, popin: SandboxServer, run_dag: Run) -> None:
        from airflow.models.renderedtifields import RenderedTaskInstanceFields
        from airflow.utils.session import create_session

        run_dag(make_dag("sync_literal", leads=ROWS))
        with create_session() as session:
            query = session.query(RenderedTaskInstanceFields).filter_by(dag_id="sync_literal")
            assert find_personal_data(str([row.rendered_fields for row in query]), PERSONAL) == []


def note(run: Any) -> dict[str, Any]:
    value = airflow_runs.xcom(run, "sync", key="popin_lead_sync")
    assert isinstance(value, dict)
    return value
