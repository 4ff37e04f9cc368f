"""One task under Airflow's own supervisor, as executors start it: a process that runs the task in another.

Airflow 3: the task SDK's supervisor, which asks an API server. Airflow 2.11: ``LocalTaskJob``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import requests

from tests import airflow_runs

ROOT = Path(__file__).parents[2]
# Airflow looks this often, in seconds, whether a running task is still wanted.
HEARTBEAT_SECONDS = 1
SETTINGS = {
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": str(HEARTBEAT_SECONDS),
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": str(HEARTBEAT_SECONDS),
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__API_AUTH__JWT_SECRET": 64 * "t",
    "PYTHONPATH": str(ROOT),
}


@dataclass
class Supervised:
    """A supervisor that runs, and its task.

    :param process: the supervisor.
    :param output: what it wrote.
    :param run_id: of the Dag run.
    :param mark_failed: what a person does in Airflow's UI.
    """

    process: subprocess.Popen[bytes]
    output: Path
    run_id: str
    mark_failed: Callable[[], None]

    def terminate(self) -> None:
        """SIGTERM to the supervisor, as when its worker is shut down."""
        self.process.send_signal(signal.SIGTERM)

    def task_process(self) -> psutil.Process:
        """Return the process of the task itself, which the supervisor forked."""
        return psutil.Process(self.process.pid).children()[0]

    def told(self) -> str:
        """Everything that supervisor and task wrote, and the task's log."""
        logs = Path(os.environ["AIRFLOW_HOME"], "logs").rglob("*.log")
        texts = [file.read_text("utf-8", "replace") for file in logs if self.run_id in str(file)]
        return "\n".join([self.output.read_text("utf-8", "replace"), *texts])


@contextmanager
def api_server(port: int, output: Path) -> Iterator[str]:
    """Run Airflow 3's API server on the tests' database; yield its URL.

    :param port: to listen on.
    :param output: file for what it writes.
    """
    url = f"http://127.0.0.1:{port}"
    command = ["api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with _process(command, output) as process:
        wait_for(lambda: _is_up(url), 90, process)
        yield url


@contextmanager
def supervised(dag_file: Path, dag: Any, task_id: str, *, url: str, output: Path) -> Iterator[Supervised]:
    """Run a task of a new Dag run under its supervisor.

    :param dag_file: in Airflow's Dags folder.
    :param dag: the Dag in it.
    :param task_id: of its task.
    :param url: of the API server; on Airflow 2 there is none.
    :param output: file for what supervisor and task write.
    """
    run_id = f"stopped_{time.time_ns()}"
    if airflow_runs.IS_AIRFLOW_3:
        command, mark_failed = _airflow_3(dag_file, dag, task_id, run_id, url)
    else:
        command, mark_failed = _airflow_2(dag_file, dag, task_id, run_id)
    api = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/"}
    with _process(command, output, more=api) as process:
        yield Supervised(process, output, run_id, mark_failed)


def wait_for(question: Callable[[], object], seconds: float, process: subprocess.Popen[bytes]) -> None:
    """Wait until a question is answered with yes, while a process runs.

    :param question: asked again and again.
    :param seconds: how long at most.
    :param process: that must not end meanwhile.
    """
    deadline = time.monotonic() + seconds
    while not question():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def _airflow_3(
    dag_file: Path, dag: Any, task_id: str, run_id: str, url: str
) -> tuple[list[str], Callable[[], None]]:
    from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_args
    from airflow.configuration import conf
    from airflow.executors.workloads import BundleInfo, ExecuteTask
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    _make_run(dag, run_id)
    audience = conf.get_mandatory_list_value("execution_api", "jwt_audience")[0]
    generator: Any = JWTGenerator(
        valid_for=600, audience=audience, issuer=None, **get_signing_args(make_secret_key_if_needed=False)
    )
    with create_session() as session:
        instance = session.query(TaskInstance).filter_by(run_id=run_id, task_id=task_id).one()
        instance.set_state("queued", session=session)
        workload = ExecuteTask.make(
            instance,
            dag_rel_path=Path(dag_file.name),
            generator=generator,
            bundle_info=BundleInfo(name="dags-folder", version=None),
        ).model_dump_json()

    def mark_failed() -> None:
        token = requests.get(f"{url}/auth/token", timeout=10).json()["access_token"]
        requests.patch(
            f"{url}/api/v2/dags/{dag.dag_id}/dagRuns/{run_id}/taskInstances/{task_id}",
            json={"new_state": "failed"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        ).raise_for_status()

    module = "airflow.sdk.execution_time.execute_workload"
    return [sys.executable, "-m", module, "--json-string", workload], mark_failed


def _airflow_2(dag_file: Path, dag: Any, task_id: str, run_id: str) -> tuple[list[str], Callable[[], None]]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    _make_run(dag, run_id)

    def mark_failed() -> None:
        with create_session() as session:
            instance = session.query(TaskInstance).filter_by(run_id=run_id, task_id=task_id).one()
            instance.set_state("failed", session=session)

    options = ["--local", "--subdir", str(dag_file)]
    return ["tasks", "run", *options, dag.dag_id, task_id, run_id], mark_failed


def _make_run(dag: Any, run_id: str) -> None:
    """Make a Dag run without a scheduler."""
    from airflow.utils.types import DagRunType

    now = datetime.now(UTC)
    common: dict[str, Any] = {"run_id": run_id, "run_type": DagRunType.MANUAL, "data_interval": (now, now)}
    if not airflow_runs.IS_AIRFLOW_3:
        from airflow.utils.state import DagRunState

        dag.sync_to_db()
        dag.create_dagrun(state=DagRunState.RUNNING, execution_date=now, **common)
        return
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType

    airflow_runs._store(dag)
    serialized = SerializedDagModel.get_dag(dag.dag_id)
    assert serialized is not None
    serialized.create_dagrun(
        state=DagRunState.RUNNING,
        logical_date=now,
        run_after=now,
        triggered_by=DagRunTriggeredByType.TEST,
        **common,
    )


@contextmanager
def _process(
    command: list[str], output: Path, more: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, or an ``airflow`` command; end it with all below it."""
    if command[0] != sys.executable:
        command = [str(Path(sys.executable).with_name("airflow")), *command]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | (more or {})
        )
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            everybody = [*psutil.Process(process.pid).children(recursive=True), process]
            for each in everybody:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        process.wait()


def _is_up(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{url}/api/v2/version", timeout=2).ok
    return False
