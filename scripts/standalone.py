"""``airflow standalone`` with a home of its own: started, waited for, asked by REST, stopped as a whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import requests

from scripts import local_airflow
from scripts.ports import HOST, check_port

START_SECONDS = 180.0
# Airflow's parts get so long to end by themselves after SIGINT, and then after SIGTERM.
POLITE_SECONDS = 8.0
_POLL_SECONDS = 0.5
_REQUEST_SECONDS = 10.0
_TAIL_LINES = 30


class StandaloneError(Exception):
    """Airflow did not start, or is no longer there; the text says what it said last."""


@dataclass(kw_only=True)
class Standalone:
    """One Airflow. Everybody who can reach the port is its admin, so it listens on loopback only.

    :param home: an empty or absent folder.
    :param dags: folder of the Dag files.
    :param port: of the UI and the REST API.
    :param connections: id to the fields of Airflow's JSON form; kept in Airflow's database, so that its pages
        show them.
    :param variables: Airflow Variables.
    :param settings: more environment variables.
    """

    home: Path
    dags: Path
    port: int
    connections: Mapping[str, Mapping[str, object]]
    variables: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = self.home / "standalone.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL of the UI."""
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        """Start, and wait until all parts are healthy and every Dag file is read.

        :raises StandaloneError: it ended, or took too long.
        :raises PortTakenError: the port is in use.
        """
        check_port(self.port)
        self.home.mkdir(parents=True, exist_ok=True)
        environment = self._environment()
        try:
            with self.log.open("ab") as log:
                self._fill(environment, log.fileno())
                # A session of its own: Ctrl-C in the terminal reaches us only, and we end it in good order.
                self._process = subprocess.Popen(
                    [_program("airflow"), "standalone"],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd=self.home,
                )
            self.wait_for(self._is_ready, seconds=START_SECONDS, what="all parts of Airflow")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Send a request to the REST API and return the JSON of the answer.

        :param method: HTTP method.
        :param path: below ``/api/v2``.
        :param options: of ``requests.request``.
        :raises requests.RequestException: no answer, or one that is no success.
        """
        return local_airflow.ask(self.url, method, path, **options)

    def wait_for(self, question: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait until a question is answered with yes.

        :param question: asked again and again; a request without an answer is a no.
        :param seconds: how long at most.
        :param what: for the error.
        :raises StandaloneError: it took too long, or Airflow ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            with suppress(requests.RequestException):
                if question():
                    return
            self.check_alive()
            if time.monotonic() > deadline:
                raise StandaloneError(f"waited {seconds:.0f} s for {what}.\n{self._tail()}")
            time.sleep(_POLL_SECONDS)

    def check_alive(self) -> None:
        """Make sure that Airflow runs.

        :raises StandaloneError: it ended.
        """
        if self._process is None or self._process.poll() is not None:
            raise StandaloneError(f"Airflow ended.\n{self._tail()}")

    def processes(self) -> list[psutil.Process]:
        """Return all processes of this Airflow, those included whose parent is gone."""
        if self._process is None:
            return []
        session = self._process.pid
        found = {process.pid: process for process in psutil.process_iter() if _session(process) == session}
        with suppress(psutil.NoSuchProcess):
            # What made a session of its own is still below its parent.
            for process in psutil.Process(session).children(recursive=True):
                found[process.pid] = process
        return list(found.values())

    def stop(self) -> None:
        """End all processes: SIGINT to the first, then SIGTERM and SIGKILL to whoever lingers."""
        if self._process is None:
            return
        everybody = self.processes()
        with suppress(ProcessLookupError):
            self._process.send_signal(2)
        _, left = psutil.wait_procs(everybody, timeout=POLITE_SECONDS)
        # Processes that were started while the others ended are not in the first list.
        left = list({*left, *self.processes()})
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(left, timeout=POLITE_SECONDS)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._process = None

    def _environment(self) -> dict[str, str]:
        own = local_airflow.environment(self.home, dags=self.dags, connections={}, variables=self.variables)
        own |= local_airflow.server_settings(self.port) | {
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__PARALLELISM": "4",
        }
        return local_airflow.without_airflow(os.environ) | own | dict(self.settings)

    def _fill(self, environment: Mapping[str, str], log: int) -> None:
        """Make the database, with connections and pool."""
        # In a process of its own: Airflow reads its environment once, and takes a lot of memory.
        code = "import sys, scripts.airflow_contents as contents; contents.fill(sys.stdin.read())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=local_airflow.as_json(self.connections).encode(),
            env=dict(environment),
            stdout=log,
            stderr=log,
            check=False,
        )
        if done.returncode:
            raise StandaloneError(f"Airflow's database cannot be made.\n{self._tail()}")

    def _is_ready(self) -> bool:
        health = requests.get(f"{self.url}/api/v2/monitor/health", timeout=_REQUEST_SECONDS).json()
        parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        if any(health.get(part, {}).get("status") != "healthy" for part in parts):
            return False
        for error in self.ask("GET", "/importErrors")["import_errors"]:
            raise StandaloneError(f"{error['filename']} cannot be read:\n{error['stack_trace']}")
        files = len(list(self.dags.glob("*.py")))
        return int(self.ask("GET", "/dags")["total_entries"]) >= files

    def _tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return "\n".join([*lines[-_TAIL_LINES:], f"All of it: {self.log}"])


def _program(name: str) -> str:
    """Return a program of the environment that this Python belongs to."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise StandaloneError(f"there is no {name} beside {sys.executable}")
    return found


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None
