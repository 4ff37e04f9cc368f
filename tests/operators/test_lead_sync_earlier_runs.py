"""What can be seen of earlier tries, in real Dag runs on this Airflow's version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_popin.operators import _earlier_runs
from airflow_provider_popin.operators._earlier_runs import leave_note, look_back
from tests import airflow_runs

Run = Callable[..., Any]

REPORT = {"ledger_id": "ledger-1", "ledger_sequence": 7, "ledger_time": 1.5, "rows": 99}
NUMBERS = {"ledger_id": "ledger-1", "ledger_sequence": 7, "ledger_time": 1.5}
JANUARY = datetime(2026, 1, 10, tzinfo=UTC)


class Step(BaseOperator):
    """Looks back, then does what a lead sync does at its worst or best.

    :param dry_run_: as the bulk job's ``dry_run``.
    :param sending: whether it gets as far as sending.
    :param report: what it reports at the end; None for a task that dies before.
    :param fail: whether it fails.
    """

    def __init__(
        self,
        *,
        dry_run_: bool = False,
        sending: bool = True,
        report: Mapping[str, object] | None = None,
        fail: bool = False,
        note: bool = True,
        index: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dry_run_, self.sending, self.report, self.fail, self.note = dry_run_, sending, report, fail, note

    def execute(self, context: Any) -> dict[str, object]:
        ti = context["ti"]
        prior = look_back(ti)
        if self.note:
            leave_note(ti, dry_run=self.dry_run_, sending=self.sending, report=self.report or {})
        seen: dict[str, object] = {"earlier_try": prior.earlier_try, "reports": list(prior.reports)}
        ti.xcom_push(key="seen", value=seen)
        if self.fail and (self.retries or 0) + 1 > ti.try_number:
            raise ValueError("this try fails")
        if self.fail and not self.retries:
            raise ValueError("the task fails")
        return seen


@pytest.fixture
def step(run_dag: Run, request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """Return a function that runs one Dag run and says what it saw."""

    def run(*, at: datetime | None = None, **arguments: Any) -> dict[str, Any]:
        dag_run = run_dag(make_dag(request.node.name, **arguments), **when(at))
        seen = airflow_runs.xcom(dag_run, "sync", key="seen")
        assert isinstance(seen, dict)
        return seen

    return run


def make_dag(name: str, **arguments: Any) -> DAG:
    dag_id = "".join(c if c.isalnum() else "_" for c in f"earlier_{name}")
    with DAG(dag_id, schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC), catchup=False) as dag:
        Step(task_id="sync", retry_delay=timedelta(0), **arguments)
    return dag


def when(at: datetime | None) -> dict[str, datetime]:
    if at is None:
        return {}
    return {"logical_date" if airflow_runs.IS_AIRFLOW_3 else "execution_date": at}


Runs = Callable[..., dict[str, Any]]


def test_nothing_is_known_of_a_first_run(step: Runs) -> None:
    assert step() == {"earlier_try": False, "reports": []}


def test_an_earlier_run_and_its_report_are_seen(step: Runs) -> None:
    step(report=REPORT)
    assert step() == {"earlier_try": True, "reports": [NUMBERS]}


@pytest.mark.parametrize("arguments", [{"fail": True}, {"note": False}, {"note": False, "fail": True}])
def test_a_run_that_died_or_left_no_note_is_seen(step: Runs, arguments: dict[str, Any]) -> None:
    step(**arguments)
    assert step()["earlier_try"] is True


@pytest.mark.parametrize(
    "arguments", [{"dry_run_": True}, {"sending": False, "fail": True}, {"dry_run_": True, "fail": True}]
)
def test_a_run_that_sent_nothing_is_no_earlier_try(step: Runs, arguments: dict[str, Any]) -> None:
    step(**arguments)
    step(**arguments)
    assert step()["earlier_try"] is False


def test_a_dry_run_does_not_hide_a_real_one_before_it(step: Runs) -> None:
    step(report=REPORT)
    step(dry_run_=True)
    assert step()["earlier_try"] is True


def test_a_second_try_counts_and_hides_nothing(step: Runs) -> None:
    assert step(retries=1, fail=True)["earlier_try"] is True
    assert step(dry_run_=True)["earlier_try"] is True


def test_a_later_note_of_a_retried_run_cannot_clear_it(step: Runs) -> None:
    step(retries=1, fail=True, sending=False)  # who knows what the first try did
    assert step()["earlier_try"] is True


def test_a_backfill_sees_runs_of_later_dates(step: Runs) -> None:
    step(at=JANUARY, report=REPORT)
    seen = step(at=JANUARY - timedelta(days=3))
    assert seen["earlier_try"] is True
    if not airflow_runs.IS_AIRFLOW_3 or AIRFLOW_V_3_2_PLUS:
        assert seen["reports"] == [NUMBERS]


def test_the_newest_report_comes_first(step: Runs) -> None:
    for number in range(3):
        at = JANUARY + timedelta(days=number)
        seen = step(at=at, report={**REPORT, "ledger_sequence": number})
    assert [r["ledger_sequence"] for r in seen["reports"]][:1] == [1]


def test_too_many_runs_to_look_at_count(step: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_earlier_runs, "_MOST_RUNS_CHECKED", 1)
    step(dry_run_=True)
    assert step(dry_run_=True)["earlier_try"] is False
    assert step()["earlier_try"] is True


def test_a_cleared_run_that_has_not_run_again(step: Runs, request: pytest.FixtureRequest) -> None:
    step(report=REPORT)
    clear(make_dag(request.node.name).dag_id)
    assert step()["earlier_try"] is True


def test_siblings_of_a_mapped_task_are_no_earlier_tries(run_dag: Run) -> None:
    def make() -> DAG:
        with DAG("earlier_mapped", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
            Step.partial(task_id="sync_all").expand(index=[0, 1, 2], report=[REPORT])
        return dag

    def seen(run: Any) -> list[Any]:
        return [airflow_runs.xcom(run, "sync_all", map_index=index)["earlier_try"] for index in range(3)]

    assert seen(run_dag(make())) == [False, False, False]
    assert seen(run_dag(make())) == [True, True, True]


def test_all_instances_of_a_dry_mapped_run_are_looked_at(run_dag: Run) -> None:
    def make(dry: Sequence[bool]) -> DAG:
        with DAG("earlier_mapped_dry", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
            Step.partial(task_id="sync").expand(dry_run_=list(dry))
        return dag

    def seen(run: Any) -> Any:
        return airflow_runs.xcom(run, "sync", map_index=0)["earlier_try"]

    run_dag(make([True, True]))
    assert seen(run_dag(make([True, False]))) is False
    assert seen(run_dag(make([True, True]))) is True


def clear(dag_id: str) -> None:
    """Clear every task instance of a Dag, as the UI does."""
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.utils.session import create_session

    with create_session() as session:
        instances = session.query(TaskInstance).filter(TaskInstance.dag_id == dag_id).all()
        clear_task_instances(instances, session)
