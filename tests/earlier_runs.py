"""Earlier Dag runs in the tests' Airflow: a new ledger beside them looks like a lost one, and is refused."""

from __future__ import annotations


def forget_earlier_runs() -> None:
    """Delete all Dag runs, with their tasks and XComs."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun).execution_options(synchronize_session=False))
