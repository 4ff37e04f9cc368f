"""Run a Dag in this process, on real Airflow 2.11 or 3.x, and look at what became of it."""

from __future__ import annotations

import logging
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from packaging.version import Version

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

_VERSION = Version(version("apache-airflow"))
IS_AIRFLOW_3 = _VERSION.major >= 3
# Older ones are built on interfaces that their own dependencies, and Airflow itself, have since deprecated.
IS_FREE_OF_WARNINGS = _VERSION.release >= (3, 3)

_BUNDLE = "testing"


def init_database() -> None:
    """Create Airflow's tables in the database that ``airflow_env`` named."""
    from airflow.utils.db import initdb

    initdb()


def run_dag(dag: Any, **kwargs: Any) -> DagRun:
    """Run every task of a Dag with ``dag.test()`` and return the Dag run, whatever its state.

    :param dag: the Dag, from a file or made in the test.
    :param kwargs: arguments of ``dag.test()``, for example ``run_conf`` or ``logical_date``.
    """
    if IS_AIRFLOW_3:
        _write_logs_as_workers_do()
        _build_the_api_once()
        _store(dag)
    run: DagRun = dag.test(**kwargs)
    return run


def states(run: DagRun) -> dict[str, str]:
    """Return the state of each task instance: ``{"task": "success", "mapped[0]": "failed"}``."""
    return {_label(ti): str(ti.state) for ti in run.get_task_instances()}


def xcom(run: DagRun, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
    """Return a value that a task of the run pushed; None if it pushed none.

    :param task_id: the task.
    :param key: the XCom key; ``return_value`` is what ``execute`` returned.
    :param map_index: the index of a mapped task; -1 for a task that is not mapped.
    """
    if IS_AIRFLOW_3:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        query = XComModel.get_many(
            run_id=run.run_id, dag_ids=run.dag_id, task_ids=task_id, key=key, map_indexes=map_index
        )
        with create_session() as session:
            row = session.scalars(query.limit(1)).first()
            return None if row is None else XComModel.deserialize_value(row)
    from airflow.models.xcom import XCom

    return XCom.get_one(run_id=run.run_id, dag_id=run.dag_id, task_id=task_id, key=key, map_index=map_index)


def _label(ti: Any) -> str:
    return str(ti.task_id) if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"


def _write_logs_as_workers_do() -> None:
    """Airflow 3.0 sets structlog up in workers only: its ``dag.test()`` prints secrets and variables."""
    import structlog

    if not structlog.is_configured():
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO), processors=[renderer]
        )


def _build_the_api_once() -> None:
    """Airflow 3.0 and 3.1 build the API that tasks talk to anew for each of them: ten seconds every time."""
    supervisor: Any = import_module("airflow.sdk.execution_time.supervisor")

    if not hasattr(supervisor.in_process_api_server, "cache_info"):
        supervisor.in_process_api_server = lru_cache(maxsize=1)(supervisor.in_process_api_server)


def _store(dag: Any) -> None:
    """Serialize the Dag into the database: from 3.2 on, ``dag.test()`` wants it there."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session

    serializer: Any = import_module("airflow.serialization.serialized_objects")

    with create_session() as session:
        session.merge(DagBundleModel(name=_BUNDLE))
        session.flush()
        if hasattr(serializer.LazyDeserializedDAG, "from_dag"):
            dag = serialized = serializer.LazyDeserializedDAG.from_dag(dag)
        else:  # Airflow 3.0
            serialized = serializer.SerializedDAG.from_dict(serializer.SerializedDAG.to_dict(dag))
        serializer.SerializedDAG.bulk_write_to_db(_BUNDLE, None, [serialized], session=session)
        SerializedDagModel.write_dag(dag, bundle_name=_BUNDLE, session=session)
