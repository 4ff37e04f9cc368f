"""What a run tells: counts per result set, what needs a person, the ledger's position. Nothing personal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_popin.sync.admission import ResultSet
from airflow_provider_popin.sync.ledger.ledger_queries import Troubles
from airflow_provider_popin.sync.settings import SyncSettings

# A ratio of a handful of rows says nothing.
LEAST_ATTEMPTED = 20
NAMED_LEADS = 10

_ATTEMPTED = (
    ResultSet.BOOKED,
    ResultSet.CAPTURED,
    ResultSet.REJECTED,
    ResultSet.UNASSIGNED,
    ResultSet.IN_DOUBT,
    ResultSet.PLANNED,
)


@dataclass(slots=True, kw_only=True)
class Report:
    """One run of the lead sync. Counts are per Dag run, over all of its tries.

    :param results: rows by result set, every set present
    :param reasons: rows by reason, within a result set
    :param in_doubt_open: bookings of this source that are in doubt, from whatever run
    :param in_doubt_this_run: those that became so in this Dag run
    :param unfinished_absent: captured, unbooked leads that the read did not contain
    :param shared_phones: phone numbers that stand on more than one lead id
    :param leads: up to ten lead ids by what is wrong with them
    :param watermark: its column, where the next run reads from, and how many rows are unfinished
    """

    source: str
    dag_run: str
    try_number: int
    dry_run: bool
    rows: int = 0
    results: dict[str, int] = field(default_factory=lambda: {str(name): 0 for name in ResultSet})
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    in_doubt_open: int = 0
    in_doubt_this_run: int = 0
    unfinished_absent: int = 0
    carried_over: int = 0
    shared_phones: int = 0
    time_mismatch: int = 0
    reply_incomplete: int = 0
    alarms: int = 0
    written_back: int = 0
    write_back_failed: int = 0
    seconds: float = 0.0
    results_path: str | None = None
    ledger_id: str | None = None
    ledger_sequence: int | None = None
    ledger_time: float | None = None
    leads: dict[str, list[str]] = field(default_factory=dict)
    watermark: dict[str, object] | None = None

    def count(self, result: ResultSet, reason: str | None) -> None:
        """Count one row.

        :param result: where it ended
        :param reason: why
        """
        self.rows += 1
        self.results[result] += 1
        if reason:
            # A Popin text may follow the code; counting by code keeps the report small.
            by_reason = self.reasons.setdefault(str(result), {})
            code = reason.partition(":")[0][:80]
            by_reason[code] = by_reason.get(code, 0) + 1

    def name_lead(self, problem: str, lead_id: str) -> None:
        """Remember a lead by name, up to ten per problem.

        :param problem: ``rejected`` or ``write_back``; :meth:`tell` names the others
        """
        named = self.leads.setdefault(problem, [])
        if len(named) < NAMED_LEADS:
            named.append(lead_id)

    def tell(self, troubles: Troubles) -> None:
        """Take over what the ledger says of this Dag run; not all of its leads stand in every read.

        :param troubles: of this Dag run
        """
        self.in_doubt_this_run, self.leads["in_doubt"] = troubles.in_doubt
        self.time_mismatch, self.leads["time_mismatch"] = troubles.time_mismatch
        self.alarms, self.leads["alarm"] = troubles.alarm
        self.reply_incomplete = troubles.reply_incomplete
        self.leads = {problem: named for problem, named in self.leads.items() if named}

    def to_xcom(self) -> dict[str, object]:
        """The report as JSON values: the return value of the task."""
        return {name: getattr(self, name) for name in self.__slots__}

    def problems(self, settings: SyncSettings) -> list[str]:
        """Why this run must not be green; empty if it may.

        :param settings: with the thresholds
        """
        found = [self._too_many_rejected(settings), self._too_many_in_doubt(settings)]
        if self.time_mismatch:
            found.append(
                f"{self.time_mismatch} bookings were confirmed for another time than was asked for"
                f"{self._named('time_mismatch')}: look them up in Popin's dashboard"
            )
        if self.alarms:
            found.append(
                f"{self.alarms} leads may have two calls: an attempt that was given up succeeded after all"
                f"{self._named('alarm')}: look them up in Popin's dashboard"
            )
        if self.write_back_failed:
            found.append(
                f"{self.write_back_failed} leads could not be written back{self._named('write_back')}: mend "
                "the statement or its connection; the next run writes them again"
            )
        return [problem for problem in found if problem]

    def _too_many_rejected(self, settings: SyncSettings) -> str | None:
        attempted = sum(self.results[name] for name in _ATTEMPTED)
        rejected = self.results[ResultSet.REJECTED]
        if attempted < LEAST_ATTEMPTED or rejected <= settings.max_rejected_ratio * attempted:
            return None
        reasons = Counter(self.reasons.get(ResultSet.REJECTED, {})).most_common(3)
        told = ", ".join(f"{reason} {count}" for reason, count in reasons)
        return (
            f"{rejected} of {attempted} rows were rejected, more than max_rejected_ratio="
            f"{settings.max_rejected_ratio:g} allows ({told}){self._named('rejected')}: correct the rows in "
            "the source, or the Dag; what changes is tried again by the next run"
        )

    def _too_many_in_doubt(self, settings: SyncSettings) -> str | None:
        if self.in_doubt_this_run <= settings.max_in_doubt:
            return None
        return (
            f"{self.in_doubt_this_run} bookings are in doubt (max_in_doubt={settings.max_in_doubt})"
            f"{self._named('in_doubt')}: find out in Popin's dashboard whether each call exists, then say so "
            "with `python -m airflow_provider_popin in-doubt resolve "
            f"--source {shlex.quote(settings.source)} --lead LEAD_ID --outcome booked|not-booked --why TEXT`"
        )

    def _named(self, problem: str) -> str:
        named = self.leads.get(problem, [])
        return f"; leads: {', '.join(named)}" if named else ""


def summary_line(report: Report) -> str:
    """One line for the log.

    :param report: finished
    """
    counts: Mapping[str, int] = {name: count for name, count in report.results.items() if count}
    told = ", ".join(f"{name} {count}" for name, count in counts.items()) or "no rows"
    return f"{report.rows} rows from {report.source}: {told} ({report.seconds:.1f} s)"
