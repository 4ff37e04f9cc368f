"""Telling the CRM: every lead whose state has changed since it was last told, after the ledger's commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from airflow_provider_popin.sync.errors import WriteBackError
from airflow_provider_popin.sync.ledger import ledger_queries
from airflow_provider_popin.sync.ledger.events import BookingState, CaptureState, Record
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.report import Report
from airflow_provider_popin.sync.results import call_time

log = logging.getLogger(__name__)

# Takes a batch; raises WriteBackError for the part of it that failed.
WriteBack = Callable[[Sequence[Mapping[str, object]]], None]


def write_back_changes(
    ledger: Ledger,
    *,
    account: str,
    source: str,
    write_back: WriteBack,
    report: Report,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Write back every change that was not written yet, at least once; the next run repeats what fails.

    :param write_back: the CRM's side
    :param report: counts what was written and what failed
    :param is_over: asked before each page whether the process is about to be killed: the next run goes on
    """
    after = 0
    while not is_over():
        with ledger.read() as connection:
            page = ledger_queries.unwritten(connection, account, source, after)
        if not page:
            return
        after = page[-1].id
        failed = _write(page, write_back)
        written = [record for index, record in enumerate(page) if index not in failed]
        with ledger.write() as connection:
            ledger_queries.mark_written(connection, [(record.id, record.change) for record in written])
        report.written_back += len(written)
        report.write_back_failed += len(failed)
        for index in sorted(failed):
            report.name_lead("write_back", page[index].lead_id)


def _write(page: Sequence[Record], write_back: WriteBack) -> frozenset[int]:
    try:
        write_back([_told(record) for record in page])
    except WriteBackError as error:
        log.error("Write-back failed for %s of %s leads: %s", len(error.failed), len(page), error)
        return error.failed
    return frozenset()


def _told(record: Record) -> dict[str, object]:
    return {
        "lead_id": record.lead_id,
        "customer_id": record.customer_id,
        "join_url": record.join_url,
        "call_time": call_time(record),
        "state": _state(record),
        "reason": record.reason,
    }


def _state(record: Record) -> str:
    """One word for both halves of a lead's state."""
    if record.booking_state != BookingState.WAITING:
        return str(record.booking_state)
    return str(record.capture_state) if record.capture_state != CaptureState.NEW else "pending"
