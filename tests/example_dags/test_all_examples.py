"""What every example Dag has in common, and what this Airflow makes of the files."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import example_dags
from tests.airflow_runs import IS_AIRFLOW_3

# They begin with an asset event from outside, which Airflow 2 does not have: there, the files hold no Dag.
STARTED_BY_EVENTS = {"popin_missed_calls", "popin_slots_open"}
ALL_FILES = sorted(Path(example_dags.__path__[0]).glob("popin_*.py"))
FILES = [file for file in ALL_FILES if IS_AIRFLOW_3 or file.stem not in STARTED_BY_EVENTS]


def load(file: Path) -> Any:
    return importlib.import_module(f"example_dags.{file.stem}").dag


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_example_runs_once_at_a_time_in_the_pool_and_says_how_to_set_it_up(file: Path) -> None:
    dag = load(file)
    assert dag.dag_id == file.stem
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert {task.pool for task in dag.tasks} == {"popin"}
    assert "airflow pools set popin 1" in dag.doc_md
    assert "**Set up once**" in dag.doc_md
    assert "**When something fails**" in dag.doc_md


def test_syncs_run_on_a_schedule() -> None:
    field = "schedule" if IS_AIRFLOW_3 else "schedule_interval"
    timed = [file for file in FILES if file.stem not in STARTED_BY_EVENTS]
    assert {file.stem: str(getattr(load(file), field)) for file in timed} == {
        "popin_call_outcomes": "@hourly",
        "popin_crm_sync": "*/15 * * * *",
        "popin_file_sync": "@hourly",
        "popin_mapped_leads": "None",
        "popin_one_lead": "None",
        "popin_salesforce_sync": "*/15 * * * *",
    }


def test_airflow_reads_the_files_from_its_dags_folder(airflow_db: None) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before 3.2
        from airflow.models import DagBag
    bag = DagBag(str(FILES[0].parent))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [file.stem for file in FILES]


@pytest.mark.skipif(IS_AIRFLOW_3, reason="Airflow 3 has asset events")
@pytest.mark.parametrize("name", sorted(STARTED_BY_EVENTS))
def test_file_without_a_dag_can_be_imported_on_airflow_2(name: str) -> None:
    assert importlib.import_module(f"example_dags.{name}").dag is None


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: file.stem)
def test_people_in_the_examples_do_not_exist(file: Path) -> None:
    text = file.read_text("utf-8")
    assert all(domain == "example.com" for domain in re.findall(r"[\w.]+@([\w.]+\.[a-z]+)", text))
