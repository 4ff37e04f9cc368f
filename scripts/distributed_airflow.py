"""An Airflow in parts on this machine: CeleryExecutor, Redis, Postgres, two workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from scripts import local_airflow
from scripts.distributed_services import ServiceError, Services, wait_until
from scripts.ports import HOST

WORKERS = ("worker-1", "worker-2")
START_SECONDS = 150.0
_REQUEST_SECONDS = 15.0
_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
# A task that was lost is noticed within seconds, not within five minutes.
_QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "3",
    # Redis gives the message of a dead worker to another one: Airflow must refuse it, and it does.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "60",
    # One task at a time and no second one in reserve, so that two Dags run on two workers.
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
    "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
    "AIRFLOW__CELERY__TASK_ACKS_LATE": "True",
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """All parts of one Airflow.

    :param place: folder for its home.
    :param dags: folder of the Dag files.
    :param services: start and end its processes.
    :param database: ``user@host:port`` of the Postgres server.
    :param connections: id to the fields of Airflow's JSON form.
    :param variables: Airflow Variables.
    :param api_port: of the API server.
    :param redis_port: of Redis.
    """

    place: Path
    dags: Path
    services: Services
    database: str
    connections: Mapping[str, Mapping[str, object]]
    variables: Mapping[str, str]
    api_port: int
    redis_port: int

    @property
    def url(self) -> str:
        """Base URL of the API server."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def logs(self) -> Path:
        """Folder of the tasks' logs."""
        return self.place / "airflow" / "logs"

    def start(self) -> None:
        """Start Redis and all parts of Airflow, and wait until they are healthy.

        :raises ServiceError: a part ended or took too long.
        """
        environment = self._environment()
        self._start_redis(environment)
        self._migrate(environment)
        airflow: list[str | Path] = [Path(sys.executable).with_name("airflow")]
        for part in ("api-server", "scheduler", "dag-processor"):
            self.services.start(part, [*airflow, part], environment)
        # Its log server would listen on every address; a worker's too.
        self.services.start("triggerer", [*airflow, "triggerer", "--skip-serve-logs"], environment)
        for worker in WORKERS:
            options = ["--celery-hostname", f"{worker}@{HOST}", "--pid", str(self.place / f"{worker}.pid")]
            options += ["--without-mingle", "--without-gossip", "--skip-serve-logs"]
            self.services.start(worker, [*airflow, "celery", "worker", *options], environment)
        wait_until(self._is_ready, services=self.services, seconds=START_SECONDS, what="all parts of Airflow")

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Send a request to the REST API and return the JSON of the answer.

        :param method: HTTP method.
        :param path: below ``/api/v2``.
        :param options: of ``requests.request``.
        :raises requests.RequestException: no answer, or one that is no success.
        """
        return local_airflow.ask(self.url, method, path, **options)

    def task(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the one task instance of a run.

        :param dag_id: of the Dag.
        :param run_id: of the run.
        """
        found = self.ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return dict(found[0]) if found else {}

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a Dag, oldest first.

        :param dag_id: of the Dag.
        """
        found: list[dict[str, Any]] = self.ask("GET", f"/dags/{dag_id}/dagRuns?order_by=id")["dag_runs"]
        return found

    def trigger(self, dag_id: str) -> str:
        """Start a run and return its id.

        :param dag_id: of the Dag.
        """
        return str(self.ask("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None})["dag_run_id"])

    def _environment(self) -> dict[str, str]:
        own = local_airflow.environment(
            self.place / "airflow", dags=self.dags, connections=self.connections, variables=self.variables
        )
        broker = f"redis://{HOST}:{self.redis_port}"
        own |= _QUICK | local_airflow.server_settings(self.api_port)
        own |= {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{self.database}/airflow",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": f"{broker}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"{broker}/1",
        }
        return local_airflow.without_airflow(os.environ) | own

    def _start_redis(self, environment: Mapping[str, str]) -> None:
        options = ["--bind", HOST, "--port", str(self.redis_port), "--save", "", "--appendonly", "no"]
        program = shutil.which("redis-server") or "redis-server"
        self.services.start("redis", [program, *options, "--dir", str(self.place)], environment)

    def _migrate(self, environment: Mapping[str, str]) -> None:
        program = Path(sys.executable).with_name("airflow")
        done = subprocess.run(
            [program, "db", "migrate"], env=dict(environment), check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise ServiceError(f"airflow db migrate failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def _is_ready(self) -> bool:
        with suppress(requests.RequestException):
            health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=_REQUEST_SECONDS).json()
            healthy = all(health.get(part, {}).get("status") == "healthy" for part in _PARTS)
            files = len(list(self.dags.glob("*.py")))
            workers = all("ready." in self.services.tail(worker) for worker in WORKERS)
            return healthy and workers and int(self.ask("GET", "/dags")["total_entries"]) >= files
        return False
