"""What a lead sync adds to Airflow's metrics: statsd, Datadog, OpenTelemetry, whatever Airflow uses.

Everything is a counter, or a duration: backends without tags add the sources up, where gauges of several
sources would overwrite each other. A report counts over all tries of its Dag run; what an earlier try has
counted is not counted again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from airflow_provider_popin.sync.ledger.ledger import Ledger
    from airflow_provider_popin.sync.report import Report

log = logging.getLogger(__name__)

PREFIX: Final = "popin.lead_sync"
COUNTED: Final = ("booked", "captured", "rejected", "unassigned", "in_doubt", "skipped", "pending")
# With the Influx format of statsd, tags are a part of the name and have its characters and length.
_UNUSABLE_IN_A_TAG: Final = re.compile(r"[^A-Za-z0-9_.\-/]")
_LONGEST_TAG: Final = 100


def count_run(report: Report, ledger: Ledger | None) -> None:
    """Add the results of one try to Airflow's metrics: ``popin.lead_sync.booked`` and so on, tag ``source``.

    :param report: of a finished try; a dry run counts nothing
    :param ledger: that holds the reports of earlier tries, still open
    """
    if report.dry_run:
        return
    try:
        _send(report, _earlier(report, ledger))
    except Exception as error:  # noqa: BLE001
        # The boundary to a backend that may be anything: everything is committed, and a task that fails for
        # its metrics would be tried again for nothing.
        log.warning("The metrics of this run could not be sent (%s)", type(error).__name__)


def _send(report: Report, earlier: Mapping[str, int]) -> None:
    from airflow.providers.common.compat.sdk import Stats

    tags = {"source": _UNUSABLE_IN_A_TAG.sub("_", report.source)[:_LONGEST_TAG]}
    for name, count in _counts(report.results, report.alarms).items():
        # A doubt that was settled between two tries would count backwards.
        Stats.incr(f"{PREFIX}.{name}", max(count - earlier.get(name, 0), 0), tags=tags)
    Stats.timing(f"{PREFIX}.duration", timedelta(seconds=report.seconds), tags=tags)


def _earlier(report: Report, ledger: Ledger | None) -> Mapping[str, int]:
    """What an earlier try of this Dag run counted: a retry, or a task that was cleared."""
    from airflow_provider_popin.sync.ledger.run_log import report_of_earlier_try

    if ledger is None or report.try_number <= 1:
        return {}
    with ledger.read() as connection:
        found = report_of_earlier_try(connection, report.source, report.dag_run, report.try_number)
    return _counts(found["results"], found["alarms"]) if found else {}


def _counts(results: Mapping[str, int], alarms: int) -> dict[str, int]:
    return {name: results.get(name, 0) for name in COUNTED} | {"alarms": alarms}
