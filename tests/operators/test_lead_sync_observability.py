"""Metrics by real statsd, lineage by the real OpenLineage provider: what others see of a lead sync."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from sqlalchemy.engine import Engine

from airflow_provider_popin.operators import _metrics
from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.report import Report
from tests.airflow_runs import states
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.operators.statsd_listener import StatsdListener
from tests.operators.support import run_again
from tests.privacy import assert_no_personal_data, register_personal

ROOT = Path(__file__).parents[2]
PEOPLE = [
    ("L1", "Tara Metricsen", "+1 202 555 0131"),
    ("L2", "Uma Metricsen", "+1 202 555 0132"),
    ("L3", "Vera Metricsen", "nowhere 202 555 0133"),
]
register_personal(*(value for person in PEOPLE for value in person[1:]))
# From Airflow 3.2 on.
TASKS_HAVE_METRICS_OF_THEIR_OWN = find_spec("airflow.sdk") and find_spec("airflow.sdk.observability")
NONE = {name: ["0|c"] for name in (*_metrics.COUNTED, "alarms")}

Row = dict[str, Any]


@pytest.fixture
def statsd() -> Iterator[StatsdListener]:
    with StatsdListener() as listener:
        yield listener


@pytest.fixture
def use_statsd(statsd: StatsdListener, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Yield ``use_statsd(**options)``: this process sends its metrics with Airflow's own statsd client."""
    with ExitStack() as stack:

        def use_statsd(**options: str) -> None:
            for name, value in statsd.settings(**options).items():
                monkeypatch.setenv(name, value)
            if TASKS_HAVE_METRICS_OF_THEIR_OWN:
                import_module("airflow.sdk.serde")  # it sets a backend up when it is imported
                backend = import_module("airflow.sdk.observability.metrics.statsd_logger").get_statsd_logger()
            else:
                stats = import_module("airflow.stats").Stats
                backend = import_module("airflow.metrics.statsd_logger").get_statsd_logger(stats)
            stack.callback(backend.statsd.close)
            set_backend(monkeypatch, backend)

        yield use_statsd


def set_backend(monkeypatch: pytest.MonkeyPatch, backend: object) -> None:
    """Have Airflow's metrics go to a backend."""
    if TASKS_HAVE_METRICS_OF_THEIR_OWN:
        stats = import_module("airflow.sdk._shared.observability.metrics.stats")
        monkeypatch.setattr(stats, "_backend", backend)
    else:
        monkeypatch.setattr(import_module("airflow.stats").Stats, "instance", backend, raising=False)


def make_report(source: str = "crm", **values: Any) -> Report:
    report = Report(source=source, dag_run="d/r/t", try_number=1, dry_run=False, seconds=1.5, **values)
    report.results.update(booked=3, rejected=2, skipped=1)
    return report


def without_duration(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: values for name, values in found.items() if name != "duration"}


class TestMetrics:
    def test_every_result_is_counted_and_the_run_timed(
        self, statsd: StatsdListener, use_statsd: Callable[..., None]
    ) -> None:
        use_statsd()
        _metrics.count_run(make_report(alarms=4), None)
        found = statsd.received()
        assert without_duration(found) == NONE | {
            "booked": ["3|c"],
            "rejected": ["2|c"],
            "skipped": ["1|c"],
            "alarms": ["4|c"],
        }
        (duration,) = found["duration"]
        assert float(duration.removesuffix("|ms")) == 1500

    @pytest.mark.parametrize(
        ("source", "tag"),
        [
            ("crm.leads", "crm.leads"),
            ("a b,c=d:e|f", "a_b_c_d_e_f"),
            ("leads 東京", "leads___"),
            ("x" * 255, "x" * 100),
        ],
    )
    def test_tags_hold_any_source(
        self, statsd: StatsdListener, use_statsd: Callable[..., None], source: str, tag: str
    ) -> None:
        use_statsd(statsd_influxdb_enabled="True")
        _metrics.count_run(make_report(source), None)
        found = statsd.received()
        assert found[f"booked,source={tag}"] == ["3|c"]
        assert {name.partition(",")[2] for name in found} == {f"source={tag}"}
        assert len(found) == len(NONE) + 1

    def test_a_backend_without_tags_adds_the_sources_up(
        self, statsd: StatsdListener, use_statsd: Callable[..., None]
    ) -> None:
        use_statsd()
        for source in ("a", "b"):
            _metrics.count_run(make_report(source), None)
        assert statsd.received()["booked"] == ["3|c", "3|c"]

    def test_a_dry_run_counts_nothing(self, statsd: StatsdListener, use_statsd: Callable[..., None]) -> None:
        use_statsd()
        report = make_report()
        report.dry_run = True
        _metrics.count_run(report, None)
        assert statsd.received() == {}

    def test_metrics_that_fail_cost_a_warning(
        self,
        use_statsd: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        class Broken:
            def incr(self, *_: object, **__: object) -> None:
                raise RuntimeError("secret of the backend")

        set_backend(monkeypatch, Broken())
        with caplog.at_level(logging.WARNING):
            _metrics.count_run(make_report(), None)
        assert "metrics of this run could not be sent (RuntimeError)" in caplog.text
        assert "secret of the backend" not in caplog.text

    def test_a_task_that_runs_again_counts_only_what_is_new(
        self,
        statsd: StatsdListener,
        use_statsd: Callable[..., None],
        sandbox: SandboxServer,
        popin_connection: str,
        set_connection: Callable[..., None],
        tmp_path: Path,
        run_dag: Callable[..., Any],
    ) -> None:
        set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
        rows = [dict(zip(("lead_id", "name", "mobile"), person, strict=True)) for person in PEOPLE]
        with DAG("observed_again", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
            sync = PopinLeadSyncOperator(task_id="sync", source="s", leads=lambda context: rows[:2], limit=1)
        use_statsd()
        run = run_dag(dag)
        assert states(run) == {"sync": "success"}
        assert without_duration(statsd.received()) == NONE | {"booked": ["1|c"], "pending": ["1|c"]}
        sync.leads, sync.limit = lambda context: rows, None
        use_statsd()
        assert run_again(dag, run, "sync").rpartition(".")[2].lower() == "success"
        assert without_duration(statsd.received()) == NONE | {"booked": ["1|c"], "rejected": ["1|c"]}
        assert sandbox.stats()["bookings"] == 2


def lineage(event: str = "complete", report: Report | None = None, **arguments: Any) -> Any:
    """Return what a lead sync tells the OpenLineage provider."""
    operator = PopinLeadSyncOperator(task_id="sync", source="crm.leads", **arguments)
    operator.last_report = report
    return getattr(operator, f"get_openlineage_facets_on_{event}")(None)


def names(datasets: list[Any]) -> list[tuple[str, str]]:
    return [(dataset.namespace, dataset.name) for dataset in datasets]


CALLS = ("popin://popin_default", "calls")
SOURCE = ("popin://popin_default", "sources/crm.leads")


class TestLineage:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/data/leads.csv", ("file", "/data/leads.csv")),
            ("file:///data/leads.csv.gz", ("file", "/data/leads.csv.gz")),
            ("s3://bucket/in/leads.jsonl", ("s3://bucket", "in/leads.jsonl")),
            ("/data/leads#1.csv", ("file", "/data/leads#1.csv")),
            ("/data/50%?.csv", ("file", "/data/50%?.csv")),
            ("s3://aws_default@bucket/leads.csv", ("s3://bucket", "leads.csv")),
            ("s3://aws_default@bucket/leads#1.csv", ("s3://bucket", "leads#1.csv")),
            ("gs://bucket/leads.csv", ("gs://bucket", "leads.csv")),
        ],
    )
    def test_a_file_is_named_by_its_path(self, path: str, expected: tuple[str, str]) -> None:
        told = lineage(path=path)
        assert (names(told.inputs), names(told.outputs)) == ([expected], [CALLS])

    def test_leads_of_a_function_are_named_by_their_source(self) -> None:
        told = lineage(leads=lambda context: [])
        assert (names(told.inputs), names(told.outputs)) == ([SOURCE], [CALLS])

    def test_tables_of_sqlite(self, crm_on_sqlite: Engine) -> None:
        sql = "WITH new AS (SELECT * FROM leads) SELECT * FROM new JOIN main.people USING (id)"
        told = lineage(sql=sql, sql_conn_id="crm")
        namespace = f"sqlite://{crm_on_sqlite.url.database}"
        assert names(told.inputs) == [(namespace, "leads"), (namespace, "main.people")]

    @pytest.mark.postgres
    def test_tables_of_postgres_are_named_as_by_other_operators(self, crm_on_postgres: Engine) -> None:
        from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

        sql = "SELECT id FROM leads WHERE id IN (SELECT id FROM archive.old_leads)"
        with crm_on_postgres.begin() as connection:
            connection.exec_driver_sql("CREATE SCHEMA archive")
            connection.exec_driver_sql("CREATE TABLE leads (id text)")
            connection.exec_driver_sql("CREATE TABLE archive.old_leads (id text)")
        other: Any = SQLExecuteQueryOperator(task_id="other", sql=sql, conn_id="crm")
        known = names(other.get_openlineage_facets_on_start().inputs)
        assert sorted(name for _, name in known) == ["popin_crm.archive.old_leads", "popin_crm.public.leads"]
        assert sorted(names(lineage(sql=sql, sql_conn_id="crm").inputs)) == sorted(known)

    @pytest.mark.parametrize("sql", ["SELECT 1", "SELEKT nonsense FRM"])
    def test_a_statement_without_tables_is_named_by_its_source(self, crm_on_sqlite: Engine, sql: str) -> None:
        assert names(lineage(sql=sql, sql_conn_id="crm").inputs) == [SOURCE]

    def test_a_connection_that_is_gone_costs_no_more_than_the_tables(
        self, airflow_db: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            told = lineage(sql="SELECT * FROM leads", sql_conn_id="nowhere")
        assert (names(told.inputs), names(told.outputs)) == ([SOURCE], [CALLS])
        assert "AirflowNotFoundException" in caplog.text

    def test_a_failed_run_that_booked_tells_how_many(self) -> None:
        told = lineage("failure", make_report(), path="/data/leads.csv")
        (calls,) = told.outputs
        assert calls.outputFacets["outputStatistics"].rowCount == 3

    def test_a_run_that_did_not_get_so_far_tells_no_number(self) -> None:
        (calls,) = lineage("failure", path="/data/leads.csv").outputs
        assert not calls.outputFacets

    def test_what_only_captures_makes_customers(self) -> None:
        told = lineage(path="/data/leads.csv", steps=("capture",))
        assert names(told.outputs) == [("popin://popin_default", "customers")]


def test_a_whole_airflow_tells_openlineage_and_statsd(
    sandbox: SandboxServer, statsd: StatsdListener, tmp_path: Path
) -> None:
    told, ended = run_observed(sandbox, statsd, tmp_path)
    assert ended == ["tables success", "file failed", "dry success"]

    crm = f"sqlite://{tmp_path / 'crm.db'}"
    complete = told["observed_tables.sync", "COMPLETE"]
    assert datasets(complete["inputs"]) == [(crm, "leads"), (crm, "people")]
    assert datasets(complete["outputs"]) == [CALLS]
    assert complete["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 2
    failed = told["observed_file.sync", "FAIL"]
    assert datasets(failed["inputs"]) == [("file", str(tmp_path / "leads.csv"))]
    assert datasets(failed["outputs"]) == [CALLS]
    assert failed["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 0
    dry = told["observed_dry.sync", "COMPLETE"]
    assert (datasets(dry["inputs"]), dry["outputs"]) == ([(crm, "leads"), (crm, "people")], [])
    for event in told.values():
        assert_no_personal_data(json.dumps(event), [value for person in PEOPLE for value in person[1:]])
        assert API_KEY not in json.dumps(event)

    counted = statsd.received()
    assert counted["booked,source=crm_leads__EU"] == ["2|c"]
    assert counted["rejected,source=crm_leads__EU"] == ["1|c"]
    assert counted["rejected,source=export"] == ["20|c"]
    assert len(counted["duration,source=export"]) == 1
    assert {name.partition(",")[2] for name in counted} == {"source=crm_leads__EU", "source=export"}


def run_observed(
    sandbox: SandboxServer, statsd: StatsdListener, folder: Path
) -> tuple[dict[tuple[str, str], Row], list[str]]:
    """Run the syncs of ``observed_run``; return OpenLineage's events by job and type, and how they ended."""
    with closing(sqlite3.connect(folder / "crm.db")) as crm:
        crm.execute("CREATE TABLE leads (lead_id, person)")
        crm.execute("CREATE TABLE people (id, name, mobile)")
        crm.executemany("INSERT INTO leads VALUES (?, ?)", [(person[0], person[0]) for person in PEOPLE])
        crm.executemany("INSERT INTO people VALUES (?, ?, ?)", PEOPLE)
        crm.commit()
    bad = [f"X{n},Wim Metricsen,call {n}" for n in range(20)]
    (folder / "leads.csv").write_text("\n".join(["lead_id,name,mobile", *bad, ""]), "utf-8")
    popin = {"login": SELLER_TOKEN, "password": API_KEY, "extra": {"requests_per_second": 0}}
    transport = {"type": "file", "log_file_path": str(folder / "lineage.jsonl"), "append": True}
    settings = statsd.settings(statsd_influxdb_enabled="True") | {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW_CONN_POPIN_DEFAULT": json.dumps({"conn_type": "popin", "host": sandbox.url, **popin}),
        "AIRFLOW_CONN_CRM": json.dumps({"conn_type": "sqlite", "host": str(folder / "crm.db")}),
        "AIRFLOW_CONN_POPIN_LEDGER": json.dumps({"conn_type": "sqlite", "host": str(folder / "ledger.db")}),
        "LEADS_FILE": str(folder / "leads.csv"),
        "ENDED_FILE": str(folder / "ended.json"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.operators.observed_run"],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    events = [json.loads(line) for line in (folder / "lineage.jsonl").read_text("utf-8").splitlines()]
    ended = json.loads((folder / "ended.json").read_text("utf-8"))
    return {(event["job"]["name"], event["eventType"]): event for event in events}, ended


def datasets(found: list[Row]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in found]
