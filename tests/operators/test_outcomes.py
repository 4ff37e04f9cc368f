"""The operator that tells the CRM how calls ended: what it refuses, and how it goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.operators import outcomes
from airflow_provider_popin.operators.outcomes import PopinOutcomesOperator
from airflow_provider_popin.sync.errors import WriteBackError
from airflow_provider_popin.sync.ledger import guards, ledger_queries, schema, watermark_store
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks import telling
from airflow_provider_popin.webhooks.telling import tell_outcomes
from tests.airflow_runs import states
from tests.operators.support import make_dag, output, tries

SOURCE = "crm.leads"
Told = list[tuple[object, object]]


def make(**arguments: Any) -> PopinOutcomesOperator:
    given: dict[str, Any] = {
        "task_id": "tell",
        "source": SOURCE,
        "write_back_sql": "UPDATE leads SET o = :outcome WHERE id = :lead_id",
        "write_back_conn_id": "crm",
    }
    return PopinOutcomesOperator(**(given | arguments))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"source": "{{ params.source }}"}, "source.*literal"),
        *(({"source": source}, "source: must ") for source in (5, None, "", " crm", "c\nrm", "c" * 256)),
        ({"write_back_sql": "UPDATE leads SET o = :outcome"}, "which row it means, with :lead_id "),
        *(({"write_back_sql": sql}, "write_back_sql: must be the text") for sql in (5, None, ["UPDATE"])),
        (
            {"write_back_sql": "UPDATE l SET o = :state WHERE id = :lead_id"},
            "uses :state; offered are :lead_id",
        ),
    ],
)
def test_what_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(PopinInputError, match=problem):
        make(**arguments)


@pytest.mark.parametrize("sql", ["tell.sql", "{{ params.statement }}"])
def test_what_can_only_be_checked_in_the_task(sql: str) -> None:
    make(write_back_sql=sql)


def test_the_statement_may_be_what_another_task_returns() -> None:
    with make_dag("outcomes_by_output"):
        other = make(task_id="other")
        assert make(write_back_sql=other.output).upstream_task_ids == {"other"}


def test_a_rendered_statement_that_cannot_work_fails_without_a_retry(
    run_dag: Callable[..., Any], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with make_dag("outcomes_rendered") as dag:
        make(
            write_back_sql="UPDATE leads SET o = {{ ':state' }} WHERE id = :lead_id",
            retries=1,
            retry_delay=timedelta(0),
        )
    run = run_dag(dag)
    assert (states(run), tries(run)) == ({"tell": "failed"}, {"tell": 1})
    assert "connection 'crm', argument 'write_back_sql': uses :state" in output(capfd, caplog)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with three leads, and no ends of calls."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}", future=True)
    ledger = Ledger.open(engine)
    with ledger.write() as connection:
        guards.register(connection, account="shop", source=SOURCE, lead_id_column="id")
        leads = [{"lead_id": f"L{number}", "generation": 1} for number in range(1, 4)]
        ledger_queries.insert_leads(connection, "shop", SOURCE, leads)
    yield ledger
    engine.dispose()


def end(ledger: Ledger, lead_id: str, outcome: str, told_at: float) -> None:
    """What processing a webhook leaves in the ledger."""
    with ledger.write() as connection:
        connection.execute(
            schema.leads.update()
            .where(schema.leads.c.lead_id == lead_id)
            .values(outcome=outcome, outcome_at=1_700_000_000.0, outcome_told_at=told_at)
        )


def run(ledger: Ledger, fails: Sequence[str] = (), meanwhile: Callable[[], None] | None = None) -> Told:
    """One run; return what the CRM was told."""
    told: Told = []

    def tell(batch: Sequence[Mapping[str, object]]) -> None:
        assert {tuple(row) for row in batch} == {outcomes.NAMES}  # what a statement may use
        failed = [index for index, row in enumerate(batch) if row["lead_id"] in fails]
        told.extend((row["lead_id"], row["outcome"]) for row in batch if row["lead_id"] not in fails)
        if meanwhile is not None:
            meanwhile()
        if failed:
            raise WriteBackError("UPDATE failed", failed=failed)

    found = tell_outcomes(ledger, source=SOURCE, task="dag/tell", run="dag/1/tell", tell=tell)
    assert sum(found.outcomes.values()) == len(told)
    assert found.leads == [lead for lead in fails if lead in found.leads]
    return told


def test_each_ending_is_told_once_and_a_changed_one_again(ledger: Ledger) -> None:
    end(ledger, "L2", "missed", 100.0)
    end(ledger, "L1", "successful", 200.0)
    assert run(ledger) == [("L2", "missed"), ("L1", "successful")]
    assert run(ledger) == []
    end(ledger, "L2", "successful", 300.0)
    assert run(ledger) == [("L2", "successful")]
    watermark_store.reset(ledger, SOURCE)
    assert run(ledger) == []
    watermark_store.reset(ledger, SOURCE, "dag/tell")
    assert len(run(ledger)) == 2


def test_what_fails_is_told_again_with_what_came_after(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        end(ledger, f"L{number}", "missed", 1_763_000_000.123456 + number)
    assert run(ledger, fails=["L2"]) == [("L1", "missed"), ("L3", "missed")]
    assert run(ledger, fails=["L2"]) == [("L3", "missed")]
    assert run(ledger) == [("L2", "missed"), ("L3", "missed")]
    assert run(ledger) == []


def test_many_are_told_page_by_page(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "PAGE", 1)
    for number in (1, 2, 3):
        end(ledger, f"L{number}", "missed", 100.0 + number)
    with pytest.raises(KeyboardInterrupt):
        run(ledger, meanwhile=_interrupt_after(2))
    assert run(ledger) == [("L2", "missed"), ("L3", "missed")]


def test_of_two_runs_at_once_one_keeps_the_place(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    end(ledger, "L1", "missed", 100.0)
    both: list[Told] = []
    other = iter([lambda: both.append(run(ledger))])
    both.append(run(ledger, meanwhile=lambda: next(other, lambda: None)()))
    assert both == [[("L1", "missed")], [("L1", "missed")]]
    assert "Another run moved the place" in caplog.text
    assert run(ledger) == []


def test_a_source_that_nobody_knows_is_said(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    tell_outcomes(ledger, source="crm.laeds", task="dag/tell", run="r", tell=lambda batch: None)
    assert "knows no source 'crm.laeds' yet" in caplog.text


def test_it_runs_on_every_airflow(
    run_dag: Callable[..., Any], ledger: Ledger, set_connection: Callable[..., None], tmp_path: Path
) -> None:
    crm = sqlite3.connect(tmp_path / "crm.db")
    crm.execute("CREATE TABLE leads (id, o, at, generation)")
    crm.execute("INSERT INTO leads (id) VALUES ('L1')")
    crm.commit()
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
    set_connection("crm", conn_type="sqlite", host=str(tmp_path / "crm.db"))
    end(ledger, "L1", "abandoned", 100.0)
    sql = "UPDATE leads SET o = :outcome, at = :outcome_at, generation = :generation WHERE id = :lead_id"
    with make_dag("outcomes_everywhere") as dag:
        make(write_back_sql=sql)
    assert states(run_dag(dag)) == {"tell": "success"}
    at = datetime.fromtimestamp(1_700_000_000, UTC).isoformat()
    assert crm.execute("SELECT * FROM leads").fetchall() == [("L1", "abandoned", at, 1)]
    crm.close()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"conn_type": "popin", "host": "localhost"}, "SQL database"),
        ({"conn_type": "sqlite", "host": ":memory:"}, "memory"),
    ],
)
def test_a_ledger_that_is_none(
    run_dag: Callable[..., Any],
    set_connection: Callable[..., None],
    fields: dict[str, Any],
    problem: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_connection("popin_ledger", **fields)
    set_connection("crm", conn_type="sqlite", host="/tmp/nothing.db")
    with make_dag(f"outcomes_without_{fields['conn_type']}") as dag:
        make()
    assert states(run_dag(dag)) == {"tell": "failed"}
    assert problem in "".join((*capfd.readouterr(), caplog.text))


def _interrupt_after(pages: int) -> Callable[[], None]:
    left = [pages]

    def interrupt() -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return interrupt
