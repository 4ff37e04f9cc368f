"""Which processor core a process runs on, and how much of it it uses."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[int, int]:
    """Return the numbers of two cores that this process may use: one for servers, one for clients.

    With a single core both are the same, and the figures are worth little.
    """
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def pinned(command: Sequence[str], core: int) -> list[str]:
    """Return a command that runs on one core.

    :param command: program and arguments
    :param core: number of the core
    """
    return ["taskset", "--cpu-list", str(core), *command]


def cpu_seconds_of(pid: int) -> float:
    """Return the processor time that a running process has used so far, without its children.

    :param pid: of the process
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def children_cpu_seconds() -> float:
    """Return the processor time of all children of this process that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
