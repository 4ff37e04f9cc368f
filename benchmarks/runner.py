"""Runs cells, each in a process of its own, and asks the sandbox's oracle whether the work was done."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import drt, http_operator, postgres
from benchmarks.cells import Cell, Result, Subject
from benchmarks.cpu import pinned
from benchmarks.servers import Sandbox, seats_for
from benchmarks.subjects.subject import Figures, Job

_ROOT = Path(__file__).parents[1]
_MODULES = {
    Subject.BARE: "bare",
    Subject.BARE_FRESH: "bare",
    Subject.BARE_UVLOOP: "bare",
    Subject.SQLITE: "lead_sync",
    Subject.POSTGRES: "lead_sync",
    Subject.REQUESTS: "requests_loop",
}
_CELL_SECONDS = 600
_MAPPED_SECONDS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """What the cells need.

    :param sandbox: running
    :param core: the processor core of the clients
    :param folder: for ledgers and projects
    :param postgres: URL of a server for ledgers, None if there is none
    :param drt: interpreter of the environment with drt-core, None if there is none
    :param tell: prints a line of progress
    """

    sandbox: Sandbox
    core: int
    folder: Path
    postgres: str | None
    drt: Path | None
    tell: Callable[[str], None]

    def run(self, cell: Cell) -> Result:
        """Measure one cell.

        :param cell: what
        :raises RuntimeError: the subject failed, or the oracle does not confirm what it says
        """
        seats = seats_for(cell.leads)
        # The bare loops go round the slots without counting; the mapped tasks all take the same slot.
        spare = cell.leads if cell.subject is Subject.HTTP_OPERATOR else 1
        self.sandbox.reset(latency_ms=cell.latency_ms, seats=seats + spare)
        job = Job(
            url=self.sandbox.url,
            leads=cell.leads,
            concurrency=cell.concurrency,
            steps=cell.steps,
            calls_per_slot=seats,
            fresh_connections=cell.subject in (Subject.BARE_FRESH, Subject.BARE_UVLOOP),
            uvloop=cell.subject is Subject.BARE_UVLOOP,
            ledger=self._ledger(cell.subject),
        )
        before = self.sandbox.cpu_seconds()
        figures = self._figures(cell.subject, job)
        result = Result(
            cell=cell,
            seconds=figures.seconds,
            cpu_seconds=figures.cpu_seconds,
            server_cpu_seconds=self.sandbox.cpu_seconds() - before,
            peak_rss_mb=figures.peak_rss_mb,
        )
        self._check(cell, figures)
        self.tell(
            f"  {cell.subject:<34} {cell.latency_ms:>4} ms  {cell.concurrency:>4} at once  "
            f"{cell.leads:>7,} leads  {result.rate:>8,.1f} leads/s"
        )
        return result

    def run_all(self, cells: Sequence[Cell], *, repeats: int) -> list[Result]:
        """Measure some cells in turns; of each the run with the median rate counts.

        :param cells: to be compared with each other
        :param repeats: how often
        """
        rounds = [[self.run(cell) for cell in cells] for _ in range(repeats)]
        return [_median(list(results)) for results in zip(*rounds, strict=True)]

    def planning(self, leads: int, seats: int) -> Figures:
        """Measure the planner alone.

        :param leads: that want a call
        :param seats: of each slot
        """
        return self._subject("planning", Job(url="", leads=leads, calls_per_slot=seats))

    def _figures(self, subject: Subject, job: Job) -> Figures:
        match subject:
            case Subject.DRT | Subject.DRT_THREADS:
                return self._drt(job)
            case Subject.HTTP_OPERATOR:
                return self._http_operator(job)
            case _:
                return self._subject(_MODULES[subject], job)

    def _subject(self, module: str, job: Job) -> Figures:
        command = [sys.executable, "-m", f"benchmarks.subjects.{module}", job.to_argument()]
        done = subprocess.run(
            pinned(command, self.core),
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=_CELL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{module} failed: {done.stderr[-4000:]}")
        return Figures(**json.loads(done.stdout.splitlines()[-1]))

    def _ledger(self, subject: Subject) -> str | None:
        if subject is Subject.SQLITE:
            return f"sqlite:///{self._new_folder()}/ledger.db"
        if subject is Subject.POSTGRES:
            assert self.postgres is not None
            postgres.empty(self.postgres)
            return self.postgres
        return None

    def _drt(self, job: Job) -> Figures:
        assert self.drt is not None
        return drt.run(job, python=self.drt, folder=self._new_folder(), core=self.core)

    def _http_operator(self, job: Job) -> Figures:
        return http_operator.run(
            url=job.url,
            slot=self.sandbox.last_slot(),
            leads=job.leads,
            folder=self._new_folder(),
            timeout_seconds=_MAPPED_SECONDS,
        )

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _check(self, cell: Cell, figures: Figures) -> None:
        stats = self.sandbox.stats()
        books = "schedule" in cell.steps
        done = stats["leads_booked"] if books else stats["customers"]
        if (figures.leads, done) != (cell.leads, cell.leads):
            raise RuntimeError(
                f"{cell.subject}: {figures.leads} leads by its own count and {done} by the server's, "
                f"not {cell.leads}"
            )


def _median(results: list[Result]) -> Result:
    rates = [result.rate for result in results]
    return results[rates.index(statistics.median_low(rates))]
