"""What all subjects share: the job they are given, and the figures they give back."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from airflow_provider_popin.client.config import ClientConfig

# The sandbox's own defaults; they are no secrets.
API_KEY = "sandbox-api-key"
SELLER_TOKEN = "51"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One cell of the table.

    :param url: the sandbox's base URL
    :param leads: how many
    :param concurrency: requests under way at once, where the subject can do more than one
    :param steps: ``("capture", "schedule")`` or ``("capture",)``
    :param calls_per_slot: seats of one slot, enough for all leads
    :param fresh_connections: the bare loop's schedule requests get a connection each, as the provider's do
    :param uvloop: the bare loop runs on uvloop, as the provider does, and not on asyncio's own event loop
    :param ledger: SQLAlchemy URL of an empty ledger, for the lead sync
    """

    url: str
    leads: int
    concurrency: int = 1
    steps: tuple[str, ...] = ("capture", "schedule")
    calls_per_slot: int = 1
    fresh_connections: bool = False
    uvloop: bool = False
    ledger: str | None = None

    @classmethod
    def from_arguments(cls) -> Self:
        """The job that the process was started with."""
        values = json.loads(sys.argv[1])
        values["steps"] = tuple(values["steps"])
        return cls(**values)

    def to_argument(self) -> str:
        """The job as the argument of a subject's process."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a subject measured of itself.

    :param leads: done, as the subject sees it; the sandbox's oracle is asked as well
    :param seconds: from the first line of work to the last, without start of the process and imports
    :param cpu_seconds: of this process in that time
    :param peak_rss_mb: highest resident size of this process, MB of a million bytes
    """

    leads: int
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float

    @classmethod
    def of(cls, clock: Clock, *, leads: int) -> Self:
        """Figures of this process.

        :param clock: what :func:`timed` gave, after its block
        :param leads: done
        """
        return cls(
            leads=leads,
            seconds=clock.seconds,
            cpu_seconds=clock.cpu_seconds,
            peak_rss_mb=peak_rss_mb(),
        )


@dataclass(slots=True)
class Clock:
    """Time that a block took, filled in at its end."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    """Measure a block: wall clock, and processor time of the whole process."""
    clock = Clock()
    cpu, began = _cpu_seconds(), time.perf_counter()
    yield clock
    clock.seconds = time.perf_counter() - began
    clock.cpu_seconds = _cpu_seconds() - cpu


def config_for(job: Job) -> ClientConfig:
    """The connection to the sandbox, without a rate limit.

    :param job: with the URL and the concurrency
    """
    return ClientConfig(
        base_url=job.url,
        seller_token=SELLER_TOKEN,
        api_key=API_KEY,
        max_concurrency=job.concurrency,
        requests_per_second=0.0,
    )


def report(figures: Figures) -> None:
    """Give the figures back to the process that asked.

    :param figures: of this subject
    """
    print(json.dumps(asdict(figures)), flush=True)


def peak_rss_mb() -> float:
    """The process's highest resident size.

    Not ``ru_maxrss``, which a process inherits across fork and exec from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel does not tell the peak resident size")


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
