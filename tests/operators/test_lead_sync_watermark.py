"""The watermark arguments of the bulk operator: what is refused, what is bound, on each database."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator
from airflow_provider_popin.sandbox.server import SandboxServer
from tests.airflow_runs import states, xcom
from tests.earlier_runs import forget_earlier_runs
from tests.faults.people import lead_row
from tests.operators.support import make_dag
from tests.privacy import register_personal

AWARE = datetime(2026, 1, 1, tzinfo=UTC)
SELECT = "SELECT * FROM leads WHERE updated_at >= :watermark ORDER BY lead_id"
BY_SQL: dict[str, Any] = {"sql": SELECT, "sql_conn_id": "crm"}
WATERMARK: dict[str, Any] = {"watermark_column": "updated_at", "watermark_start": AWARE}


def make(**arguments: Any) -> PopinLeadSyncOperator:
    given: dict[str, Any] = {"task_id": "sync", "source": "crm.leads"} | WATERMARK
    return PopinLeadSyncOperator(**(given | arguments))


def takes_it(context: Any, watermark: datetime) -> Iterator[dict[str, object]]:
    yield from ()


def takes_none(context: Any) -> Iterator[dict[str, object]]:
    yield from ()


@pytest.mark.parametrize(
    "arguments",
    [
        BY_SQL,
        BY_SQL | {"watermark_overlap": timedelta(0)},
        BY_SQL | {"watermark_start": 0, "watermark_overlap": 10},
        BY_SQL | {"watermark_start": "2020-01-01T00:00:00Z"},
        BY_SQL | {"watermark_start": date(2020, 1, 1)},
        BY_SQL | {"sql": "leads.sql"},
        BY_SQL | {"sql": "SELECT {{ params.columns }} FROM leads"},
        BY_SQL | {"parameters": {"country": "IN"}},
        {"leads": takes_it},
        {"leads": functools.partial(takes_it)},
        {"leads": lambda context, **more: ()},
    ],
)
def test_what_is_taken(arguments: dict[str, Any]) -> None:
    make(**arguments)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (BY_SQL | {"watermark_column": None}, "watermark_start.*belongs to watermark_column"),
        (
            BY_SQL | {"watermark_column": None, "watermark_start": None, "watermark_overlap": 5},
            "watermark_overlap.*belongs to watermark_column",
        ),
        (BY_SQL | {"watermark_start": None}, "watermark_start.*is needed with watermark_column"),
        (BY_SQL | {"watermark_column": ""}, "watermark_column.*must be the name of a column"),
        (BY_SQL | {"watermark_start": "yesterday"}, "watermark_start.*must be a datetime, a date"),
        (BY_SQL | {"watermark_start": "2026-13-01"}, "watermark_start.*must be a datetime, a date"),
        (BY_SQL | {"watermark_start": 1.5}, "watermark_start.*must be a datetime, a date"),
        (BY_SQL | {"watermark_start": True}, "watermark_start.*must be a datetime, a date"),
        (BY_SQL | {"watermark_overlap": 5}, "watermark_overlap.*must be a timedelta"),
        (BY_SQL | {"watermark_overlap": timedelta(-1)}, "watermark_overlap.*must not be negative"),
        (BY_SQL | {"watermark_start": 0, "watermark_overlap": timedelta(1)}, "overlap.*whole number from 0"),
        (BY_SQL | {"sql": "SELECT * FROM leads"}, "sql.*must use :watermark, for example WHERE"),
        (BY_SQL | {"sql": "SELECT :watermark::date FROM leads"}, "sql.*must use :watermark"),
        (BY_SQL | {"parameters": ["IN"]}, "parameters.*must be a mapping"),
        (BY_SQL | {"parameters": {"watermark": 1}}, "parameters.*must not set watermark"),
        ({"path": "/data/leads.csv"}, "watermark_column.*a file is read as a whole"),
        ({"leads": [{"lead_id": "1"}]}, "watermark_column.*needs sql or a function"),
        ({"leads": takes_none}, r"leads: is called with a watermark_column, as leads\(context, watermark="),
    ],
)
def test_what_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(PopinInputError, match=problem):
        make(**arguments)


@pytest.fixture
def ready(
    popin_connection: str, set_connection: Callable[..., None], tmp_path: Any, airflow_db: None
) -> None:
    """A ledger, and no earlier runs."""
    forget_earlier_runs()
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))


def table(crm: Engine, kind: str, values: list[Any]) -> None:
    """A table of leads with these values, written as literals."""
    with crm.begin() as connection:
        connection.execute(
            text(f"CREATE TABLE leads (lead_id TEXT, name TEXT, mobile TEXT, updated_at {kind})")
        )
    add(crm, values)


def add(crm: Engine, values: list[Any], first: int = 1) -> None:
    with crm.begin() as connection:
        for number, value in enumerate(values, first):
            row = lead_row(number)
            register_personal(str(row["name"]), str(row["mobile"]))
            connection.execute(
                text(f"INSERT INTO leads VALUES (:lead_id, :name, :mobile, {value})"),
                {name: row[name] for name in ("lead_id", "name", "mobile")},
            )


KINDS = [
    ("timestamptz", ["'2026-01-01T05:30:00+05:30'", "'2026-01-02T00:00Z'"], "'2026-01-02T01:00Z'", AWARE),
    ("timestamp", ["'2026-01-01 00:00'", "'2026-01-02 00:00'"], "'2026-01-02 01:00'", datetime(2026, 1, 1)),  # noqa: DTZ001
    ("date", ["'2026-01-01'", "'2026-01-09'"], "'2026-01-10'", date(2026, 1, 1)),
    ("integer", ["1", "5000"], "5001", 0),
    ("bigint", ["1", "50000000000"], "50000000001", 0),
    ("numeric", ["1", "5000"], "5001", 0),
    (
        "text",
        ["'2026-01-01T00:00:00'", "'2026-01-09T00:00:00.5'"],
        "'2026-01-10T00:00:00'",
        "2026-01-01T00:00:00",
    ),
]
OF_SQLITE = ("integer", "numeric", "text")


@pytest.mark.postgres
@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(("kind", "values", "late", "start"), KINDS, ids=[kind[0] for kind in KINDS])
def test_every_type_of_postgres(
    crm_on_postgres: Engine, run_dag: Callable[..., Any], kind: str, values: list[Any], late: str, start: Any
) -> None:
    reads_only_what_is_new(crm_on_postgres, run_dag, kind, values, late, start)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("kind", "values", "late", "start"), [one for one in KINDS if one[0] in OF_SQLITE], ids=OF_SQLITE
)
def test_every_type_of_sqlite(
    crm_on_sqlite: Engine, run_dag: Callable[..., Any], kind: str, values: list[Any], late: str, start: Any
) -> None:
    reads_only_what_is_new(crm_on_sqlite, run_dag, kind, values, late, start)


def reads_only_what_is_new(
    crm: Engine, run_dag: Callable[..., Any], kind: str, values: list[Any], late: str, start: Any
) -> None:
    table(crm, kind, values)
    with make_dag(f"watermark_{crm.dialect.name}_{kind}") as dag:
        make(**BY_SQL, watermark_start=start, parameters={})
    first, second = run_dag(dag), None
    assert states(first) == {"sync": "success"}
    assert xcom(first, "sync")["results"]["booked"] == 2
    add(crm, [late], first=3)
    second = run_dag(dag)
    results = xcom(second, "sync")["results"]
    assert (results["booked"], results["skipped"]) == (1, 1)
    assert xcom(second, "sync")["watermark"]["column"] == "updated_at"


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("start", [AWARE, date(2026, 1, 1)])
def test_sqlite_wants_text_and_says_so(
    crm_on_sqlite: Engine,
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    start: Any,
    capfd: Any,
    caplog: Any,
) -> None:
    table(crm_on_sqlite, "timestamp", ["'2026-01-01 00:00:00'"])
    with make_dag(f"watermark_of_sqlite_{type(start).__name__}") as dag:
        make(**BY_SQL, watermark_start=start)
    assert states(run_dag(dag)) == {"sync": "failed"}
    assert "SQLite keeps times as text" in "".join((*capfd.readouterr(), caplog.text))
    assert not sandbox.requests(endpoint="capture")


@pytest.mark.usefixtures("ready")
def test_a_rendered_statement_without_it_is_refused(
    crm_on_sqlite: Engine, run_dag: Callable[..., Any], capfd: Any, caplog: Any
) -> None:
    table(crm_on_sqlite, "integer", ["1"])
    with make_dag("watermark_rendered", params={"where": ""}) as dag:
        make(**BY_SQL | {"sql": "SELECT * FROM leads {{ params.where }}"}, watermark_start=0)
    assert states(run_dag(dag)) == {"sync": "failed"}
    assert "must use :watermark" in "".join((*capfd.readouterr(), caplog.text))


@pytest.mark.usefixtures("ready")
def test_a_function_gets_it(run_dag: Callable[..., Any]) -> None:
    asked: list[datetime] = []

    def changed_leads(context: Any, watermark: datetime) -> Iterator[dict[str, object]]:
        asked.append(watermark)
        yield lead_row(7, updated_at=AWARE + timedelta(days=2))

    with make_dag("watermark_function") as dag:
        make(leads=changed_leads)
    runs = [run_dag(dag) for _ in range(2)]
    assert [states(run) for run in runs] == [{"sync": "success"}] * 2
    assert asked == [AWARE, AWARE + timedelta(days=2, hours=-1)]
