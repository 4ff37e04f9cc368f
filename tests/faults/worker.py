"""Runs of the lead sync in processes of their own, which can be killed.

``python -m tests.faults.worker`` imports everything once and then forks a child for each line of JSON on its
standard input, so that a process costs milliseconds. ``Workers`` is the other end.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_popin.client import retrying
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinError
from airflow_provider_popin.sync import exchange_loop
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.errors import SyncError
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from airflow_provider_popin.webhooks.processing import take_evidence
from tests.faults.checkpoints import checkpoints
from tests.faults.people import Row
from tests.waiting import wait_until

# No child outlives this, whatever a test forgets.
LIFE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run in a process. Everything is JSON.

    :param folder: for ``log`` (as it comes), ``results.json`` and ``told`` (at the end)
    :param config: of the client
    :param settings: of the run
    :param signal_at: step and its n-th time at which the process signals itself
    :param signal_number: which signal
    :param latest_send_seconds: instead of the engine's own
    """

    folder: str
    ledger_url: str
    config: dict[str, Any]
    settings: dict[str, Any]
    dag_run: str
    rows: list[Row]
    try_number: int = 1
    signal_at: tuple[str, int] | None = None
    signal_number: int = signal.SIGKILL
    latest_send_seconds: float | None = None


@dataclass
class Worker:
    """A process that runs a task.

    :param pid: of the process
    :param ended: how it ended, as ``waitpid`` tells, once known
    """

    pid: int
    task: Task
    workers: Workers = field(repr=False)
    ended: int | None = None

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.ended is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end.

        :return: 0 after a run without an error, 1 after one with an error of ours, 2 after any other one,
            minus the signal that killed it
        """
        if self.ended is None:
            self.ended = os.waitstatus_to_exitcode(int(self.workers.ask({"wait": self.pid})))
        return self.ended

    def wait_stopped(self) -> None:
        """Wait until SIGSTOP has stopped it."""
        status = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")

    def lines(self) -> list[Mapping[str, object]] | None:
        """The results, if they were written."""
        path = Path(self.task.folder) / "results.json"
        return json.loads(path.read_text()) if path.exists() else None

    def told(self) -> str:
        """Its log, and what it told at its end."""
        folder = Path(self.task.folder)
        return "\n".join(path.read_text() for path in (folder / "log", folder / "told") if path.exists())


class Workers:
    """Starts workers. Use as a context manager."""

    def __enter__(self) -> Workers:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(LIFE_SECONDS)

    def start(self, task: Task) -> Worker:
        """Run a task in a process of its own."""
        Path(task.folder).mkdir(parents=True, exist_ok=True)
        return Worker(pid=int(self.ask({"start": asdict(task)})), task=task, workers=self)

    def ask(self, command: Mapping[str, object]) -> str:
        """One command, one line of answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(command) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline()


def serve() -> None:
    """Fork a child for each ``start``, and tell about its end when asked to ``wait``."""
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            print(os.waitpid(command["wait"], 0)[1], flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os.close(0)
            os._exit(_child(Task(**command["start"])))
        print(pid, flush=True)


def _child(task: Task) -> int:
    signal.alarm(LIFE_SECONDS)
    retrying._FIRST_WAIT_SECONDS, retrying._LONGEST_WAIT_SECONDS = 0.01, 0.05
    if task.latest_send_seconds is not None:
        exchange_loop.LATEST_SEND_SECONDS = task.latest_send_seconds
    folder = Path(task.folder)
    logging.basicConfig(filename=folder / "log", level=logging.INFO, force=True)
    logging.getLogger("airflow_provider_popin").setLevel(logging.DEBUG)

    def write(lines: Iterable[Mapping[str, object]]) -> str:
        # Complete or absent, like the real ones: it may be killed in the middle of writing.
        unfinished = folder / "results.unfinished"
        unfinished.write_text(json.dumps(list(lines)))
        unfinished.replace(folder / "results.json")
        return "results.json"

    sync = LeadSync(
        settings=SyncSettings(**task.settings),
        config=ClientConfig(**task.config),
        ledger=Ledger.open(sa.create_engine(task.ledger_url, future=True)),
        run=RunIdentity(dag_run=task.dag_run, try_number=task.try_number),
        results=write,
        take_evidence=take_evidence,
    )
    signal.signal(signal.SIGTERM, lambda *_: sync.stop("SIGTERM"))
    reach = _signaller(task)
    with checkpoints(reach) if reach is not None else nullcontext():
        try:
            told = json.dumps(sync.run(iter(task.rows)).to_xcom())
        except (SyncError, PopinError) as error:
            told = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001 - told to the test
            (folder / "told").write_text(traceback.format_exc())
            return 2
    (folder / "told").write_text(told)
    return 0 if told.startswith("{") else 1


def _signaller(task: Task) -> Callable[[str], None] | None:
    if task.signal_at is None:
        return None
    wanted, times = task.signal_at
    reached: Counter[str] = Counter()

    def reach(name: str) -> None:
        reached[name] += 1
        if name == wanted and reached[name] == times:
            # To this very thread, which then gets no further: sent to the process, another one would take it.
            signal.pthread_kill(threading.get_ident(), task.signal_number)

    return reach


if __name__ == "__main__":
    serve()
