"""How the ledger names a task and its Dag run."""

from __future__ import annotations

from airflow_provider_popin.operators._earlier_runs import TaskInstance
from airflow_provider_popin.sync.settings import RunIdentity


def run_identity(ti: TaskInstance) -> RunIdentity:
    """Return which try of which task is running; each mapped task instance is a task of its own.

    :param ti: the running task instance.
    """
    mapped = [str(ti.map_index)] if ti.map_index is not None and ti.map_index >= 0 else []
    return RunIdentity(
        dag_run="/".join([ti.dag_id, ti.run_id, ti.task_id, *mapped]),
        try_number=ti.try_number,
        task="/".join([ti.dag_id, ti.task_id, *mapped]),
    )
