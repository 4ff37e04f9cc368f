"""Everything that one run of the benchmark found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks import bars
from benchmarks.bars import Verdict
from benchmarks.cells import Result, Subject
from benchmarks.imports import Import


@dataclass(slots=True, kw_only=True)
class Findings:
    """Filled in as the run goes on.

    :param environment: where it ran
    :param quick: whether it was a short run, whose figures prove nothing
    :param matrix: groups of results at one latency and concurrency
    :param others: the other ways to do the job, and drt-core
    :param captures: the lead sync on the capture step alone, beside drt-core
    :param growth: pairs of a small and a large run
    :param planner: leads, seats of a slot, and seconds
    :param imports: what, and milliseconds
    :param missing: what could not be measured, and why
    :param seconds: that the whole run took
    """

    environment: dict[str, str]
    quick: bool
    matrix: list[list[Result]] = field(default_factory=list)
    others: list[Result] = field(default_factory=list)
    captures: list[Result] = field(default_factory=list)
    growth: list[tuple[Result, Result]] = field(default_factory=list)
    planner: list[tuple[int, int, float]] = field(default_factory=list)
    imports: list[tuple[Import, float]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def verdicts(self) -> list[Verdict]:
        """All bars, in the order of the document."""
        found = [
            bars.of_cell(result, of_subject(group, bars.FLOOR))
            for group in self.matrix
            for result in group
            if result.cell.subject in bars.SYNCS
        ]
        found += self._beside_others()
        found += [verdict for few, many in self.growth for verdict in bars.of_growth(few, many)]
        found += [
            bars.of_most(
                f"planner: {leads:,} leads on 2,000 slots with {seats} seats",
                seconds,
                bars.PLANNER_SECONDS,
                "s",
            )
            for leads, seats, seconds in self.planner
        ]
        found += [
            bars.of_most(f"import: {what.what}", took, what.target_ms, "ms")
            for what, took in self.imports
            if what.target_ms is not None
        ]
        return found

    def _beside_others(self) -> list[Verdict]:
        found = []
        mapped = [result for result in self.others if result.cell.subject is Subject.HTTP_OPERATOR]
        ours = [
            result
            for group in self.matrix
            for result in group
            if result.cell.subject in bars.SYNCS and not result.cell.latency_ms
        ]
        for subject in bars.SYNCS:
            fastest = max((r for r in ours if r.cell.subject is subject), key=lambda r: r.rate, default=None)
            if fastest is not None and mapped:
                what = f"{subject} beside the mapped HttpOperator"
                found.append(bars.of_times(what, fastest, mapped[0], bars.TIMES_THE_HTTP_OPERATOR))
        for theirs in self.others:
            if theirs.cell.subject in (Subject.DRT, Subject.DRT_THREADS):
                found += self._beside_drt(theirs)
        return found

    def _beside_drt(self, theirs: Result) -> Sequence[Verdict]:
        return [
            bars.of_times(f"captures: {_named(ours)}, beside {theirs.cell.subject}", ours, theirs, 1)
            for ours in self.captures
            if ours.cell.latency_ms == theirs.cell.latency_ms
        ]


def of_subject(group: Sequence[Result], subject: Subject) -> Result:
    """The result of one subject among those of a group.

    :param group: of one latency and concurrency
    :param subject: that is in it
    """
    return next(result for result in group if result.cell.subject is subject)


def _named(result: Result) -> str:
    cell = result.cell
    return f"{cell.subject} at {cell.latency_ms} ms, {cell.concurrency} at once"
