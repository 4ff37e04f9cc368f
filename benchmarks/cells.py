"""Which cells are measured, how large, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LATENCIES_MS = (0, 50, 200)
# From so many leads per second on, it is the client's core that limits rather than the latency.
_BUSY_LIMIT = 1000
CONCURRENCIES = (16, 64, 256)


class Subject(StrEnum):
    """What is measured, in the order of the tables."""

    BARE = "bare loop"
    BARE_FRESH = "bare loop, fresh connections"
    BARE_UVLOOP = "bare loop, fresh connections, uvloop"
    SQLITE = "lead sync, SQLite"
    POSTGRES = "lead sync, Postgres"
    REQUESTS = "@task with requests"
    HTTP_OPERATOR = "mapped HttpOperator"
    DRT = "drt-core, one sync"
    DRT_THREADS = "drt-core, 16 syncs in 16 threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measurement to make.

    :param subject: what
    :param latency_ms: that the server adds to every request
    :param concurrency: requests under way at once; 1 for subjects that know no other
    :param leads: how many
    :param steps: capture and schedule, or the capture only
    """

    subject: Subject
    latency_ms: int
    concurrency: int
    leads: int
    steps: tuple[str, ...] = ("capture", "schedule")

    @property
    def is_busy(self) -> bool:
        """Whether the client's core is the limit. Such cells are as noisy as the machine; others come out the
        same every time, and tell nothing about the client.
        """
        return self.limit is None or self.limit > _BUSY_LIMIT

    @property
    def limit(self) -> float | None:
        """The most leads per second that the latency permits, None without latency."""
        if not self.latency_ms:
            return None
        return self.concurrency / (len(self.steps) * self.latency_ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a cell.

    :param cell: what was measured
    :param seconds: wall clock of the subject's work, without the start of its process
    :param cpu_seconds: of the subject's process in that time
    :param server_cpu_seconds: of the sandbox in that time
    :param peak_rss_mb: of the subject's process, MB of a million bytes
    """

    cell: Cell
    seconds: float
    cpu_seconds: float = 0.0
    server_cpu_seconds: float = 0.0
    peak_rss_mb: float = 0.0

    @property
    def rate(self) -> float:
        """Leads per second."""
        return self.cell.leads / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large a run of the benchmark is.

    :param seconds_per_cell: that a cell with latency takes at its limit: what a run does once (the slots are
        read twice, the plan is made between two phases) shall not decide
    :param leads_without_latency: of cells without latency, which are limited by the processor
    :param most_leads: of any cell, whatever its latency would permit
    :param repeats: of cells that are limited by the processor; the median counts
    :param mapped_leads: of the mapped HttpOperator
    :param few: leads of the small run that memory and time per lead are compared with
    :param many: leads of the large run
    :param imports: processes per line of the import table
    """

    seconds_per_cell: float
    leads_without_latency: int
    most_leads: int
    repeats: int
    mapped_leads: int
    few: int
    many: int
    imports: int


FULL = Plan(
    seconds_per_cell=50,
    leads_without_latency=5_000,
    most_leads=16_384,
    repeats=3,
    mapped_leads=100,
    few=1_000,
    many=100_000,
    imports=7,
)
QUICK = Plan(
    seconds_per_cell=1.0,
    leads_without_latency=1_000,
    most_leads=1_000,
    repeats=1,
    mapped_leads=3,
    few=500,
    many=3_000,
    imports=1,
)


def leads_for(plan: Plan, *, latency_ms: int, concurrency: int, steps: int = 2) -> int:
    """How many leads a cell takes: whole rounds of the concurrency, so that no worker idles at the end.

    :param plan: how large the run is
    :param latency_ms: of the server
    :param concurrency: requests under way at once
    :param steps: requests per lead
    """
    if not latency_ms:
        return plan.leads_without_latency * 2 // steps
    limit = concurrency / (steps * latency_ms / 1000)
    rounds = max(1, int(min(limit * plan.seconds_per_cell, plan.most_leads) / concurrency))
    return rounds * concurrency


def matrix(plan: Plan, *, postgres: bool) -> list[list[Cell]]:
    """The cells of the large table; the cells of one inner list are to be measured one after the other.

    :param plan: how large the run is
    :param postgres: whether there is a Postgres server
    """
    subjects = [Subject.BARE, Subject.BARE_FRESH, Subject.BARE_UVLOOP, Subject.SQLITE]
    subjects += [Subject.POSTGRES] if postgres else []
    groups = [
        [
            Cell(
                subject=subject,
                latency_ms=latency,
                concurrency=concurrency,
                leads=leads_for(plan, latency_ms=latency, concurrency=concurrency),
            )
            for subject in subjects
        ]
        for latency in LATENCIES_MS
        for concurrency in CONCURRENCIES
    ]
    # Which event loop it is matters only where the client is busy.
    return [
        [cell for cell in group if cell.is_busy or cell.subject is not Subject.BARE_UVLOOP]
        for group in groups
    ]
