"""Run the lead sync under random faults and kills for as long as asked, and check the promise all the time.

``python -m scripts.soak --minutes 10``: half of the time on SQLite, half on Postgres (skipped loudly where
there is none). One life is a fresh ledger and a fresh sandbox; in it, rounds of random faults with one to
three processes at once, some of which are killed, stopped or paused; then the faults end, time passes, and
the next Dag runs pick up what is left. The invariants I1 to I5 are checked after every round.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sqlalchemy.exc import OperationalError

from airflow_provider_popin.sandbox.fault_kinds import KINDS
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from scripts.stopping import interrupted_once
from tests import postgres, postgres_server
from tests.faults.invariants import check_invariants
from tests.faults.people import lead_rows
from tests.faults.worker import Worker, Workers
from tests.faults.world import World

CONCURRENCY = 4
ROUNDS = 6
LEADS_PER_ROUND = 15
# Faults that last longer than a round, or that end all rounds after them.
LEFT_OUT = {"timezone_change", "outage", "slow_before_commit", "slow_after_commit", "slow_body"}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)

MakeUrl = Callable[[Path], AbstractContextManager[str]]


@dataclass
class Figures:
    """What happened on one database."""

    database: str
    lives: int = 0
    runs: int = 0
    leads: int = 0
    faults: int = 0
    kills: int = 0
    stops: int = 0
    pauses: int = 0
    booked: int = 0
    in_doubt: int = 0
    rejected: int = 0
    violations: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        names = (
            "lives",
            "runs",
            "leads",
            "faults",
            "kills",
            "stops",
            "pauses",
            "booked",
            "in_doubt",
            "rejected",
        )
        counts = ", ".join(f"{name.replace('_', ' ')} {getattr(self, name)}" for name in names)
        return f"{self.database}: {counts}, violations {len(self.violations)}"


class Life:
    """One ledger from its first run to its last.

    :param world: fresh
    :param seed: of everything random in it
    """

    def __init__(self, world: World, workers: Workers, figures: Figures, folder: Path, seed: int) -> None:
        self._world = world
        self._workers = workers
        self._figures = figures
        self._folder = folder
        self._dice = random.Random(seed)
        self._interrupted = 0
        self._calls_per_slot = self._dice.choice([1, 3])

    def live(self) -> None:
        """Rounds of faults, then peace.

        :raises AssertionError: an invariant is broken
        """
        world, dice = self._world, self._dice
        latency = dice.choice([0, 2, 10])
        world.sandbox.reset(seats_per_slot=self._calls_per_slot, latency_ms=latency, keep_requests=50_000)
        for number in range(ROUNDS):
            world.rows = [*lead_rows(LEADS_PER_ROUND * (number + 1))]
            world.sandbox.set_faults(*self._faults(), seed=dice.randrange(1000))
            self._round(number)
            self._check(at_rest=False)
            if dice.random() < 0.8:
                world.ledger.let_time_pass()
        world.all_rows = world.rows
        self._count_faults()
        world.settle(runs=3, calls_per_slot=self._calls_per_slot)
        self._check(at_rest=True)
        self._count()

    def _round(self, number: int) -> None:
        dice, figures = self._dice, self._figures
        running = []
        for index in range(dice.choice([1, 1, 2, 3])):
            task = self._world.task(
                self._folder / f"{number}-{index}",
                dag_run=f"dag/{number - dice.choice([0, 0, 1])}/sync",
                try_number=index + 1,
                max_concurrency=CONCURRENCY,
                calls_per_slot=self._calls_per_slot,
                max_in_doubt=dice.choice([2, 1000]),
            )
            running.append(self._workers.start(task))
            time.sleep(dice.uniform(0.0, 0.15))
        for worker in running:
            if dice.random() < 0.6:
                time.sleep(dice.uniform(0.0, 0.1))
                self._disturb(worker, dice.choice(SIGNALS))
        for worker in running:
            ended = worker.wait()
            # A SIGTERM that comes before the run has begun ends the process as it ends any other.
            assert ended in (0, 1, -signal.SIGKILL, -signal.SIGTERM), worker.told()
            figures.kills += ended == -signal.SIGKILL
            figures.runs += 1
            self._world.take_over(worker)

    def _disturb(self, worker: Worker, number: signal.Signals) -> None:
        worker.send(number)
        self._interrupted += CONCURRENCY
        if number == signal.SIGTERM:
            self._figures.stops += 1
        elif number == signal.SIGSTOP:
            self._figures.pauses += 1
            # Paused in the middle of a transaction it keeps its locks, and time stands still for all.
            with suppress(OperationalError):
                self._world.ledger.let_time_pass()
            time.sleep(self._dice.uniform(0.0, 0.3))
            worker.send(signal.SIGCONT)

    def _faults(self) -> list[str]:
        names = [kind for kind in KINDS.values() if kind.name not in LEFT_OUT]
        chosen = self._dice.sample(names, k=self._dice.randrange(1, 8))
        return [
            f"{endpoint}:{kind.name}={self._dice.choice(['0.02', '0.1', '0.3'])}"
            for kind in chosen
            for endpoint in kind.endpoints
        ]

    def _check(self, *, at_rest: bool) -> None:
        check_invariants(
            self._world,
            interrupted=self._interrupted,
            at_rest=at_rest,
            calls_per_slot=self._calls_per_slot,
            private=at_rest,
        )

    def _count_faults(self) -> None:
        for counts in self._world.sandbox.stats()["faults"].values():
            self._figures.faults += sum(counts.values())

    def _count(self) -> None:
        ended = list(self._world.ledger.ended().values())
        self._figures.lives += 1
        self._figures.leads += len(ended)
        self._figures.booked += ended.count("booked")
        self._figures.in_doubt += ended.count("in_doubt")
        self._figures.rejected += ended.count("rejected")
        left = set(ended) - {"booked", "in_doubt", "rejected"}
        assert not left, f"left behind: {left}"


def soak(figures: Figures, make_url: MakeUrl, seconds: float, seed: int) -> None:
    """Live one life after the other until the time is over.

    :param figures: filled in
    :param make_url: gives the URL of an empty database, made in a folder if it takes one
    :param seconds: how long
    :param seed: of the first life; the next ones count on
    """
    ends = time.monotonic() + seconds
    with SandboxServer(SandboxSettings()) as sandbox, Workers() as workers:
        for life in count(seed):
            if time.monotonic() > ends:
                return
            with tempfile.TemporaryDirectory(prefix="popin-soak-") as name, make_url(Path(name)) as url:
                world = World(sandbox, url, [])
                try:
                    Life(world, workers, figures, Path(name), life).live()
                except AssertionError as error:
                    figures.violations.append(f"seed {life}: {error}")
                    print(f"{figures.database}: VIOLATION, seed {life}:", flush=True)
                    traceback.print_exc()
                finally:
                    world.close()


def _sqlite(folder: Path) -> AbstractContextManager[str]:
    return nullcontext(f"sqlite:///{folder / 'ledger.db'}")


def _postgres(address: str) -> MakeUrl:
    @contextmanager
    def make_url(folder: Path) -> Iterator[str]:
        with postgres.empty_schema(address) as url:
            yield url.render_as_string(hide_password=False)

    return make_url


def main() -> int:
    """Soak, print the figures, and end with 1 where the promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60 / 2
    print(f"Soaking for {arguments.minutes:g} minutes, seed {arguments.seed}", flush=True)
    found = [Figures("SQLite"), Figures("Postgres")]
    try:
        with interrupted_once():
            _soak_both(found, seconds, arguments.seed)
    except KeyboardInterrupt:
        print("soak: stopped; until then", file=sys.stderr)
        for figures in found:
            print(figures.line())
        ended = 130
    else:
        ended = 0
    return 1 if any(figures.violations for figures in found) else ended


def _soak_both(found: Sequence[Figures], seconds: float, seed: int) -> None:
    soak(found[0], _sqlite, seconds, seed)
    print(found[0].line(), flush=True)
    if postgres_server.find_programs() is None and "POPIN_TEST_POSTGRES" not in os.environ:
        print("SKIPPED: Postgres is not installed (package postgresql), POPIN_TEST_POSTGRES is not set")
        return
    with postgres.server_for_tests() as address:
        soak(found[1], _postgres(address), seconds, seed)
    print(found[1].line(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
