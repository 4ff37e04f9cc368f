"""Where every row of the source ended, in read order: lines of the results file, counts of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import starmap

from airflow_provider_popin.client.slots import shown_timezone
from airflow_provider_popin.sync.admission import ResultSet, Situation, final_result
from airflow_provider_popin.sync.ledger import ledger_queries
from airflow_provider_popin.sync.ledger.events import Ending, Record
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.report import Report
from airflow_provider_popin.sync.spool import Spool, SpooledRow
from airflow_provider_popin.sync.watermark import Watermark

Line = Mapping[str, object]
# Rows of which a later run may do something though they do not change.
UNFINISHED = (ResultSet.UNASSIGNED, ResultSet.IN_DOUBT, ResultSet.PENDING)
# Writes all lines or nothing, and returns the path.
ResultsWriter = Callable[[Iterable[Line]], str]
_End = tuple[SpooledRow, Ending | None, ResultSet, str | None]


def write_results(
    spool: Spool,
    *,
    ledger: Ledger | None,
    situation: Situation,
    report: Report,
    writer: ResultsWriter | None,
    unfinished_reason: str | None,
    watermark: Watermark | None = None,
) -> None:
    """Fill the report's counts, and write the lines if somebody wants them.

    :param spool: all rows of the run
    :param ledger: None where a dry run found none
    :param unfinished_reason: why rows are pending that the run did not get to
    :param watermark: told of every row
    """
    ends = _ends(spool, ledger, situation, report, unfinished_reason, watermark)
    try:
        if writer is not None:
            report.results_path = writer(starmap(_line, ends))
    finally:
        for _ in ends:  # a writer that gave up early must not leave rows uncounted
            pass


def call_time(record: Record | Ending) -> str | None:
    """The start of a lead's call: ISO 8601 with the offset of the seller's timezone, or of UTC where this
    machine does not know that.

    :param record: with or without a slot
    """
    if record.slot_start is None:
        return None
    return _told_time(record.slot_start, record.slot_timezone)


@lru_cache(maxsize=1024)
def _told_time(slot_start: int, timezone: str | None) -> str:
    return datetime.fromtimestamp(slot_start, shown_timezone(timezone)).isoformat()


def _ends(
    spool: Spool,
    ledger: Ledger | None,
    situation: Situation,
    report: Report,
    unfinished_reason: str | None,
    watermark: Watermark | None,
) -> Iterator[_End]:
    """Where each row ended, once it is counted."""
    for rows in spool.rows():
        known: dict[int, Ending] = {}
        ids = [row.record for row in rows if row.record is not None]
        if ids and ledger is not None:
            with ledger.read() as connection:
                known = ledger_queries.endings(connection, ids)
        for row in rows:
            record = known.get(row.record) if row.record is not None else None
            result, reason = _ended(row, record, situation, unfinished_reason)
            report.count(result, reason)
            if watermark is not None:
                watermark.note(row.mark, finished=result not in UNFINISHED)
            if result is ResultSet.REJECTED and row.lead_id is not None:
                report.name_lead(result, row.lead_id)
            yield row, record, result, reason


def _ended(
    row: SpooledRow, record: Ending | None, situation: Situation, unfinished_reason: str | None
) -> tuple[ResultSet, str | None]:
    if row.result is not None:
        return ResultSet(row.result), row.reason
    if record is None:
        return ResultSet.PENDING, unfinished_reason
    result, reason = final_result(record, situation)
    if result is ResultSet.PENDING:
        return result, reason or unfinished_reason
    return result, reason


def _line(row: SpooledRow, record: Ending | None, result: ResultSet, reason: str | None) -> Line:
    line: dict[str, object] = {
        "row": row.row,
        "lead_id": row.lead_id,
        "generation": row.generation,
        "result": str(result),
        "reason": reason,
    }
    if row.phone_column is not None:
        line["phone_column"] = row.phone_column
    if row.slot is not None:
        line["slot"] = row.slot
    if record is not None and result in (ResultSet.BOOKED, ResultSet.IN_DOUBT):
        line["call_time"] = call_time(record)
        line["slot"] = record.slot_time
    return line
