"""What has to be reached, and whether it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cells import Result, Subject

# The bare loop that the lead sync is held against sends as it does: a connection of its own for each booking.
FLOOR = Subject.BARE_FRESH
SYNCS = (Subject.SQLITE, Subject.POSTGRES)

# Of the limit that latency sets; where the bare loop itself stays below BARE_REACHES, of the bare loop.
OF_THE_LIMIT = 0.93
BARE_REACHES = 0.94
OF_THE_BARE_LOOP = 0.95
# Without latency, of the bare loop.
WITHOUT_LATENCY: Mapping[Subject, float] = {Subject.SQLITE: 0.60, Subject.POSTGRES: 0.50}
TIMES_THE_HTTP_OPERATOR = 500
MORE_MEMORY_MB = 40.0
TIME_PER_LEAD = 1.2
PLANNER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar.

    :param what: what was to be reached
    :param target: how much, for people
    :param reached: how much was, for people
    :param passed: whether that is enough
    """

    what: str
    target: str
    reached: str
    passed: bool

    @property
    def word(self) -> str:
        """``PASS`` or ``below``."""
        return "PASS" if self.passed else "below"


def rate_needed(sync: Result, floor: Result) -> float:
    """The leads per second that a cell of the lead sync has to reach.

    :param sync: the cell
    :param floor: the bare loop's in the same run
    """
    limit = sync.cell.limit
    if limit is None:
        return WITHOUT_LATENCY[sync.cell.subject] * floor.rate
    if floor.rate >= BARE_REACHES * limit:
        return OF_THE_LIMIT * limit
    return OF_THE_BARE_LOOP * floor.rate


def of_cell(sync: Result, floor: Result) -> Verdict:
    """The verdict on one cell of the matrix.

    :param sync: a cell of the lead sync
    :param floor: the bare loop's in the same run
    """
    cell, needed = sync.cell, rate_needed(sync, floor)
    return Verdict(
        f"{cell.subject} at {cell.latency_ms} ms, {cell.concurrency} at once",
        f"{needed:,.0f} leads/s",
        f"{sync.rate:,.0f} leads/s",
        sync.rate >= needed,
    )


def of_times(what: str, ours: Result, theirs: Result, times: float) -> Verdict:
    """The verdict on being so many times as fast as something else.

    :param what: for people
    :param ours: the lead sync
    :param theirs: the other
    :param times: how many times
    """
    ratio = ours.rate / theirs.rate
    return Verdict(what, f"{times:g} times", f"{ratio:,.1f} times", ratio > times)


def of_growth(few: Result, many: Result) -> Sequence[Verdict]:
    """The verdicts on a run with many leads beside one with few.

    :param few: the small run
    :param many: the large run
    """
    more = many.peak_rss_mb - few.peak_rss_mb
    times = few.rate / many.rate
    name = f"{many.cell.subject}: {many.cell.leads:,} leads beside {few.cell.leads:,}"
    return (
        Verdict(
            f"{name}, memory", f"at most {MORE_MEMORY_MB:g} MB more", f"{more:.1f} MB", more <= MORE_MEMORY_MB
        ),
        Verdict(
            f"{name}, time per lead",
            f"at most {TIME_PER_LEAD:g} times",
            f"{times:.2f} times",
            times <= TIME_PER_LEAD,
        ),
    )


def of_most(what: str, value: float, most: float, unit: str) -> Verdict:
    """The verdict on a value that must not be larger.

    :param what: for people
    :param value: measured
    :param most: allowed
    :param unit: of both
    """
    return Verdict(what, f"at most {most:g} {unit}", f"{value:,.2f} {unit}", value <= most)
