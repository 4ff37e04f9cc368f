"""``HttpOperator``, mapped per lead, through a real scheduler: SQLite and LocalExecutor, as Airflow comes.

Its processes may use every core: pinned to one they would be slower still.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from benchmarks.subjects.subject import Figures
from scripts import local_airflow
from scripts.ports import free_port

_HERE = Path(__file__).parent
_POLL_SECONDS = 0.25
_STOP_SECONDS = 15
_START_SECONDS = 120


def run(*, url: str, slot: str, leads: int, folder: Path, timeout_seconds: float) -> Figures:
    """Run the Dag once and read from Airflow's database how long its run took.

    :param url: the sandbox's base URL
    :param slot: with a seat for every lead
    :param leads: how many
    :param folder: empty, becomes AIRFLOW_HOME
    :param timeout_seconds: for the run, without the start of Airflow
    :raises RuntimeError: the run failed or did not end in time
    """
    environment = _environment(url, slot, leads, folder)
    airflow = [sys.executable, "-m", "airflow"]
    with (folder / "migrate.log").open("w") as output:
        subprocess.run([*airflow, "db", "migrate"], env=environment, stdout=output, stderr=output, check=True)
    with _processes(airflow, environment, folder):
        seconds = _wait(folder / "airflow.db", time.monotonic() + _START_SECONDS + timeout_seconds)
    return Figures(leads=leads, seconds=seconds, cpu_seconds=0.0, peak_rss_mb=0.0)


def _environment(url: str, slot: str, leads: int, folder: Path) -> dict[str, str]:
    port = free_port()
    return local_airflow.without_airflow(os.environ) | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(_HERE / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW_CONN_BENCHMARK_POPIN": url,
        "POPIN_BENCHMARK_LEADS": str(leads),
        "POPIN_BENCHMARK_SLOT": slot,
        "PYTHONPATH": str(_HERE.parent),
    }


@contextmanager
def _processes(airflow: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    running: list[subprocess.Popen[bytes]] = []
    try:
        running.append(_started([*airflow, "api-server"], environment, folder))
        # Tasks that find nobody to report to are lost.
        _wait_for_api(environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] + "health")
        running += [
            _started([*airflow, name], environment, folder) for name in ("dag-processor", "scheduler")
        ]
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _started(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{command[-1]}.log").open("w") as output:
        # A group of its own, since the scheduler's workers have to be ended with it.
        return subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _wait_for_api(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own server
            return
    raise RuntimeError("Airflow's API server did not start")


def _wait(database: Path, deadline: float) -> float:
    """Seconds from the start of the Dag run to its end."""
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
            row = connection.execute("SELECT state, start_date, end_date FROM dag_run").fetchone()
            refused = connection.execute("SELECT stacktrace FROM import_error").fetchone()
        if refused is not None:
            raise RuntimeError(f"Airflow cannot import the Dag: {refused[0]}")
        if row is not None and row[0] in ("success", "failed"):
            if row[0] == "failed":
                raise RuntimeError("the Dag run of the HttpOperator failed")
            return (datetime.fromisoformat(row[2]) - datetime.fromisoformat(row[1])).total_seconds()
    raise RuntimeError("the Dag run of the HttpOperator did not end in time")
