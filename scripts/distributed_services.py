"""What a distributed Airflow needs on this machine: programs, and processes that end when we do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

# Processes get so long to end by themselves after SIGTERM.
POLITE_SECONDS = 4.0
_TAIL_LINES = 25


class ServiceError(Exception):
    """A program is missing, or a process ended that should run; the text says what to do."""


def need_program(name: str, *, package: str, found: bool) -> None:
    """Install a program of Debian's, if it is missing and we may.

    :param name: of the program, for people.
    :param package: Debian's package of it.
    :param found: whether it is there.
    :raises ServiceError: it is missing, and this is not root on Debian.
    """
    if found:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServiceError(f"{name} is missing. Install it (on Debian: apt-get install {package})")
    print(f"Installing Debian's {package} ...", flush=True)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise ServiceError(f"{' '.join(command)} failed:\n{done.stderr[-1000:]}")


class Services:
    """Processes that all end with the ``with`` block, their children included.

    :param logs: folder for one log file per process.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        # Sessions outlive their first process; by them children are found whose parent is gone.
        self._sessions: set[int] = set()

    def __enter__(self) -> Self:
        """Make the folder of the logs."""
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything: SIGTERM, then SIGKILL to whoever lingers."""
        # Before anybody ends: a child with a session of its own is found by its parent only.
        everybody = self._everybody()
        for process in self._started.values():
            with suppress(ProcessLookupError):
                process.terminate()
        psutil.wait_procs(everybody, timeout=POLITE_SECONDS)
        self._kill([*everybody, *self._everybody()])
        for process in self._started.values():
            process.wait()

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        """Start a process in a session of its own.

        :param name: for its log file and for :meth:`kill`.
        :param command: program and arguments.
        :param environment: its whole environment.
        """
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started[name] = process
        self._sessions.add(process.pid)

    def check(self) -> None:
        """Make sure that nobody has ended.

        :raises ServiceError: a process has; the text holds the end of its log.
        """
        for name, process in self._started.items():
            if process.poll() is not None:
                raise ServiceError(f"{name} ended with {process.returncode}.\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """Return the end of a process's log.

        :param name: of the process.
        """
        file = self._logs / f"{name}.log"
        lines = file.read_text("utf-8", "replace").splitlines() if file.exists() else []
        return "\n".join([*lines[-_TAIL_LINES:], f"All of it: {file}"])

    def owner_of(self, pid: int) -> str | None:
        """Return the name of the process that a process belongs to.

        :param pid: of any process.
        """
        with suppress(psutil.NoSuchProcess):
            ancestors = {pid, *(parent.pid for parent in psutil.Process(pid).parents())}
            return next((name for name, process in self._started.items() if process.pid in ancestors), None)
        return None

    def kill(self, name: str) -> int:
        """SIGKILL a process and all below it, as when a machine dies; return how many that were.

        :param name: of the process.
        """
        process = self._started.pop(name)
        first = psutil.Process(process.pid)
        # The first one first: it would notice the others' end, and tell.
        victims = [first, *first.children(recursive=True)]
        self._kill(victims)
        process.wait()
        return len(victims)

    def _everybody(self) -> list[psutil.Process]:
        found = {each.pid: each for each in psutil.process_iter() if _session(each.pid) in self._sessions}
        for process in list(found.values()):
            with suppress(psutil.NoSuchProcess):
                found |= {child.pid: child for child in process.children(recursive=True)}
        return list(found.values())

    def _kill(self, victims: Sequence[psutil.Process]) -> None:
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(victims, timeout=POLITE_SECONDS)


def wait_until(question: Callable[[], bool], *, services: Services, seconds: float, what: str) -> None:
    """Wait until a question is answered with yes.

    :param question: asked every half second.
    :param services: must all be alive meanwhile.
    :param seconds: how long at most.
    :param what: for the error.
    :raises ServiceError: it took too long, or a process ended.
    """
    deadline = time.monotonic() + seconds
    while not question():
        services.check()
        if time.monotonic() > deadline:
            raise ServiceError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
