"""What is found out when the Dag is parsed, and what parsing must not do."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.operators._arguments import read_dry_run, read_limit, read_parameters
from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

SQL = {"sql": "SELECT 1", "sql_conn_id": "crm"}


def make(**arguments: Any) -> PopinLeadSyncOperator:
    arguments = {"source": "crm.leads", **arguments}
    return PopinLeadSyncOperator(task_id="sync", **arguments)


def takes_nothing() -> list[Any]:
    return []


def takes_a_day_too(context: Any, day: Any) -> list[Any]:
    return []


def takes_keywords(**context: Any) -> list[Any]:
    return []


@pytest.mark.parametrize(
    "arguments",
    [
        SQL,
        {**SQL, "parameters": ["x"], "write_back_sql": "UPDATE t SET a = :state WHERE id = :lead_id"},
        {"path": "/data/leads.csv", "results_path": "s3://bucket/out"},
        {"path": Path("/data/leads.csv"), "results_path": Path("/data/out")},
        {**SQL, "results_path": "None", "parameters": "{{ params.parameters }}"},
        {"path": "{{ params.path }}", "dry_run": "{{ params.dry }}", "limit": "{% if x %}1{% endif %}"},
        {"leads": []},
        {"leads": [], "earliest": "2026-01-01T00:00:00+01:00", "hours": "10:00-18:00", "dry_run": "No"},
        {"leads": [], "latest": datetime(2026, 1, 1, tzinfo=UTC), "hours": (time(22), time(2)), "limit": "5"},
        {"leads": lambda context: [], "steps": ["capture"], "max_concurrency": 64, "requests_per_second": 0},
        {"leads": lambda *context: []},
        {"leads": lambda context, day=None: []},
        {"leads": [], "default_region": " in "},
        {"leads": [], "steps": ("schedule",), "field_map": {"lead_id": "a", "customer_id": "b"}},
    ],
)
def test_accepted(arguments: dict[str, Any]) -> None:
    make(**arguments)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "exactly one of sql, path and leads is needed, not none"),
        ({**SQL, "leads": []}, "not sql and leads"),
        ({**SQL, "path": "/a.csv", "leads": []}, "not sql and path and leads"),
        *(
            ({"leads": value}, f"leads: must be a sequence of mappings.* not {type(value).__name__}; a file")
            for value in ("/data/leads.csv", b"", Path("/data/leads.csv"), {"lead_id": 1}, 5)
        ),
        *(
            ({"leads": function}, "leads: is called as leads(context")
            for function in (takes_nothing, takes_a_day_too, takes_keywords)
        ),
        ({"sql": "SELECT 1"}, "sql_conn_id"),
        ({"leads": [], "parameters": {}}, "parameters"),
        ({"leads": [], "source": "{{ ds }}"}, "source: must be literal text"),
        ({"leads": [], "source": "{% if x %}a{% endif %}"}, "source: must be literal text"),
        ({"leads": [], "source": ""}, "source"),
        ({"leads": [], "source": 7}, "source: must be literal text"),
        ({"path": "/data/leads.xlsx"}, "leads.xlsx"),
        ({"path": "leads.csv"}, "must be absolute"),
        ({"leads": [], "results_path": "out"}, "results_path"),
        ({"leads": [], "dry_run": "perhaps"}, "dry_run"),
        ({"leads": [], "dry_run": None}, "dry_run"),
        ({"leads": [], "limit": -1}, "limit"),
        ({"leads": [], "limit": "ten"}, "limit"),
        ({"leads": [], "limit": "9" * 5000}, "limit"),
        ({"sql": ["SELECT 1"], "sql_conn_id": "crm"}, "sql: must be the text of one statement"),
        ({"sql": 5, "sql_conn_id": "crm", "watermark_column": "u", "watermark_start": 0}, "sql: must be"),
        ({"sql": " ", "sql_conn_id": "crm"}, "sql: must be the text of one statement"),
        *(({**SQL, "parameters": value}, "parameters: must be") for value in (5, "abc", {"a"}, b"abc")),
        *(({"path": value}, "path: must be text") for value in (5, b"/data/leads.csv", ["/data/leads.csv"])),
        *(
            ({"leads": [], "results_path": value}, "results_path: must be")
            for value in (5.5, b"/out", ["/out"])
        ),
        *(({"leads": [], "steps": value}, "steps: must be one of") for value in (None, 5, {"capture"}, "x")),
        ({**SQL, "write_back_sql": 5}, "write_back_sql: must be the text of one statement"),
        ({"leads": [], "carry_over": "False"}, "carry_over: must be True or False"),
        ({"leads": [], "drop_phone_extension": "False"}, "drop_phone_extension: must be True or False"),
        ({"leads": [], "steps": ("schedule", "capture")}, "steps"),
        ({"leads": [], "on_in_doubt": "ignore"}, "on_in_doubt"),
        ({"leads": [], "calls_per_slot": 0}, "calls_per_slot"),
        ({"leads": [], "min_notice": timedelta(minutes=-1)}, "min_notice"),
        ({"leads": [], "max_rejected_ratio": 20}, "max_rejected_ratio"),
        ({"leads": [], "max_in_doubt": -1}, "max_in_doubt"),
        ({"leads": [], "max_concurrency": 0}, "max_concurrency"),
        ({"leads": [], "max_concurrency": 10**9}, "max_concurrency: must be a whole number from 1 to 10000"),
        ({"leads": [], "requests_per_second": 1e-300}, "requests_per_second: must be a number from 0.001"),
        ({"leads": [], "earliest": datetime(2026, 1, 1)}, "earliest"),  # noqa: DTZ001
        (
            {"leads": [], "earliest": "2031-01-01T00:00:00Z", "latest": "2030-01-01T00:00:00Z"},
            "latest: is not after earliest",
        ),
        ({"leads": [], "hours": "all day"}, "hours"),
        ({"leads": [], "default_region": "India"}, "default_region: must be an ISO alpha-2 region"),
        ({"leads": [], "default_region": ""}, "default_region"),
        ({"leads": [], "field_map": {"lead_id": "Id"}}, "field_map"),
        ({"leads": [], "field_map": {"lead": "Id", "name": "n", "mobile": "m"}}, "field_map"),
        ({**SQL, "write_back_sql": "UPDATE t SET a = 1"}, "write_back_sql"),
        ({"leads": [], "write_back_sql": "UPDATE t SET a = 1 WHERE id = :lead_id"}, "write_back_conn_id"),
    ],
)
def test_refused(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(PopinInputError, match=field.replace("(", r"\(")):
        make(**arguments)


def test_a_list_of_outputs_is_no_sequence_of_rows() -> None:
    @task
    def lead() -> dict[str, str]:
        return {}

    with (
        DAG("outputs", schedule=None),
        pytest.raises(PopinInputError, match="leads: must be the output of one task"),
    ):
        make(leads=[lead()])


def test_a_path_is_templated_as_text() -> None:
    operator = make(path=Path("/data/{{ ds }}/leads.csv"), results_path=Path("/data/{{ ds }}"))
    assert (operator.path, operator.results_path) == ("/data/{{ ds }}/leads.csv", "/data/{{ ds }}")


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        *((value, True) for value in (True, 1, "True", " yes\n", "ON", "t", "Y", "1")),
        *((value, False) for value in (False, 0, "False", "no", "off", "F", "n", "0")),
    ],
)
def test_dry_run(value: object, meaning: bool) -> None:
    assert read_dry_run(value) is meaning


@pytest.mark.parametrize(
    "value", [None, "", "None", "2", 2, pytest.param(10**5000, id="long"), "ture", [], 1.0, object()]
)
def test_a_dry_run_that_nobody_can_read_is_no_real_run(value: object) -> None:
    with pytest.raises(PopinInputError, match="dry_run"):
        read_dry_run(value)


@pytest.mark.parametrize(
    ("value", "limit"), [(None, None), ("", None), (" None ", None), (0, 0), ("0", 0), (7, 7), (" 12 ", 12)]
)
def test_limit(value: object, limit: int | None) -> None:
    assert read_limit(value) == limit


@pytest.mark.parametrize("value", [True, -1, "-1", "1.5", "٣", [1], 2.0, "ten", "9" * 5000])
def test_a_limit_that_cannot_be_read(value: object) -> None:
    with pytest.raises(PopinInputError, match="limit"):
        read_limit(value)


@pytest.mark.parametrize(
    ("value", "meaning"),
    [(None, None), ("", None), (" None ", None), ({"a": 1}, {"a": 1}), ([1], [1]), ((1,), (1,)), ([], [])],
)
def test_parameters(value: object, meaning: object) -> None:
    assert read_parameters(value) == meaning


@pytest.mark.parametrize("value", ["[1]", "abc", 5, {1}, b"abc"])
def test_parameters_that_cannot_be_read(value: object) -> None:
    with pytest.raises(PopinInputError, match="parameters"):
        read_parameters(value)


def test_rows_and_only_what_the_design_says_are_templated() -> None:
    assert set(PopinLeadSyncOperator.template_fields) == {
        "sql",
        "parameters",
        "path",
        "results_path",
        "limit",
        "dry_run",
    }


def test_leads_are_not_copied_with_the_dag() -> None:
    rows = [{"lead_id": "1"}]
    with DAG("copies", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
        PopinLeadSyncOperator(task_id="sync", source="s", leads=rows)
    copied: Any = copy.deepcopy(dag).get_task("sync")
    assert copied.leads[0] is rows[0]


def test_an_argument_error_survives_pickling() -> None:
    """The Dag processor sends import errors between processes."""
    with pytest.raises(PopinInputError) as error:
        make()
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_parsing_a_dag_imports_no_database_and_no_http_client() -> None:
    """In a fresh process: this one has imported everything."""
    code = (
        "import sys\n"
        "from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, XComArg\n"
        "BaseOperator(task_id='any')\n"  # In Airflow 3.0 this imports the API server.
        "before = set(sys.modules)\n"
        "from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator\n"
        "PopinLeadSyncOperator(task_id='t', source='s', path='/a.csv', write_back_conn_id='c',"
        " write_back_sql='UPDATE t SET a = :state WHERE id = :lead_id')\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'sqlalchemy', 'httptools', 'phonenumbers', 'tenacity', 'requests', 'fsspec'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
