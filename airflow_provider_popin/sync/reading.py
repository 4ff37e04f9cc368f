"""Reading the source: rows are numbered, validated, freed of duplicates, handed on in chunks, remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.sync.admission import ResultSet
from airflow_provider_popin.sync.intake import Admitted, Row
from airflow_provider_popin.sync.job_queue import MANY_JOBS
from airflow_provider_popin.sync.progress import Progress
from airflow_provider_popin.sync.settings import SyncSettings
from airflow_provider_popin.sync.source.rows import BadRow, LeadRow, RowReader
from airflow_provider_popin.sync.source.unreadable import UnreadableRow
from airflow_provider_popin.sync.spool import Spool, SpooledRow
from airflow_provider_popin.sync.stop_switch import StopSwitch
from airflow_provider_popin.sync.watermark import Watermark

CHUNK_ROWS = 200
# Of the first chunk, so many are handed on before the rest is validated: the first POST need not wait for it.
FIRST_ROWS = MANY_JOBS

RawRow = Mapping[str, object]
# Admits a chunk of numbered rows with usable identities, each lead and generation once.
Take = Callable[[Sequence[tuple[int, Row]]], Sequence[Admitted]]


def row_reader(settings: SyncSettings, config: ClientConfig) -> RowReader:
    """The reader of rows for one run.

    :param settings: what to do
    :param config: its API key keys the fingerprints of rejected rows
    """
    return RowReader(
        field_map=settings.field_map,
        steps=settings.steps,
        default_region=settings.default_region or config.default_region,
        drop_phone_extension=settings.drop_phone_extension,
        fingerprint_key=config.api_key.encode(),
        earliest=settings.earliest,
        latest=settings.latest,
        hours=settings.hours,
    )


def lead_id_column(settings: SyncSettings) -> str:
    """The column that the lead ids come from: part of what makes a source the same source.

    :param settings: with the field map
    """
    column = (settings.field_map or {}).get("lead_id", "lead_id")
    return column if isinstance(column, str) else ",".join(column)


class SourceReader:
    """Reads a source once.

    :param reader: turns a row into a lead or a rejection
    :param spool: remembers every row
    :param progress: counts
    :param watermark: what the source is read by, if by anything
    :param is_ahead: whether those who work on what was taken have enough to do; then they go first
    """

    def __init__(
        self,
        reader: RowReader,
        spool: Spool,
        progress: Progress,
        watermark: Watermark | None = None,
        is_ahead: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reader = reader
        self._spool = spool
        self._progress = progress
        self._watermark = watermark
        self._is_ahead = is_ahead
        self._columns_checked = False

    def read(
        self,
        rows: Iterable[RawRow],
        take: Take,
        switch: StopSwitch | None = None,
    ) -> None:
        """Read to the end, even after a stop: every row ends in a result set.

        :param rows: closed at the end if it can be closed
        :param take: admits a chunk of rows with usable identities
        :param switch: once stopped, rows are pending and nobody is asked to take them
        :raises PopinInputError: a mapped column is absent
        """
        numbered = enumerate(rows, start=1)
        try:
            while chunk := list(islice(numbered, CHUNK_ROWS)):
                self._check_columns(chunk)
                first = len(chunk) if self._progress.read else FIRST_ROWS
                for part in filter(None, (chunk[:first], chunk[first:])):
                    self._progress.read += len(part)
                    stopped = switch is not None and switch.stopped
                    self._read_chunk(part, None if stopped else take)
        finally:
            close = getattr(rows, "close", None)
            if callable(close):
                close()

    def _check_columns(self, chunk: Sequence[tuple[int, RawRow]]) -> None:
        # Of the whole chunk: an object of a jsonl file leaves out what it has no value for.
        columns = set() if self._columns_checked else {column for _, raw in chunk for column in raw}
        if columns:
            self._reader.check_columns(columns)
            self._columns_checked = True
        if self._watermark is not None:
            self._watermark.check([raw for _, raw in chunk])

    def _read_chunk(self, chunk: Sequence[tuple[int, RawRow]], take: Take | None) -> None:
        read = [(number, self._row(raw)) for number, raw in chunk]
        identified = [(n, row) for n, row in read if not isinstance(row, str) and row.lead_id is not None]
        seen = self._spool.seen([row.lead_id or "" for _, row in identified])
        first: list[tuple[int, Row]] = []
        spooled: list[SpooledRow] = []
        for number, row in read:
            if isinstance(row, str):
                spooled.append(SpooledRow(number, None, None, None, ResultSet.REJECTED, row))
                continue
            if row.lead_id is None or row.generation is None:
                # No identity of its own, so nothing that the ledger could remember about it.
                assert isinstance(row, BadRow)
                spooled.append(SpooledRow(number, row.lead_id, None, None, ResultSet.REJECTED, row.reason))
                continue
            identity = (row.lead_id, row.generation)
            if identity in seen:
                spooled.append(SpooledRow(number, *identity, None, ResultSet.SKIPPED, "duplicate_lead_id"))
                continue
            seen.add(identity)
            first.append((number, row))
        if take is None:
            spooled.extend(_pending(number, row) for number, row in first)
        elif first:
            admitted = take(first)
            spooled.extend(
                self._spooled(number, one) for (number, _), one in zip(first, admitted, strict=True)
            )
        self._spool.add(self._marked(chunk, spooled))

    def _marked(
        self, chunk: Sequence[tuple[int, RawRow]], spooled: Sequence[SpooledRow]
    ) -> Iterable[SpooledRow]:
        watermark = self._watermark
        if watermark is None:
            return spooled
        marks = {number: watermark.mark(raw) for number, raw in chunk}
        return [row._replace(mark=marks[row.row]) for row in spooled]

    def _row(self, raw: RawRow) -> Row | str:
        if self._is_ahead():
            # Lets go of the interpreter's lock. Validating a chunk in one go would hold up every answer that
            # arrives meanwhile: by up to 5 ms each, and from then on they would be worked on all at once.
            time.sleep(0)
        if isinstance(raw, UnreadableRow):
            return str(raw.reason)
        return self._reader.read(raw)

    def _spooled(self, number: int, one: Admitted) -> SpooledRow:
        row, decision = one.row, one.decision
        lead = row.lead if isinstance(row, LeadRow) else None
        return SpooledRow(
            number,
            row.lead_id,
            row.generation or 1,
            one.record.id if one.record is not None else None,
            decision.result,
            decision.reason,
            self._spool.phone_digest(lead.e164) if lead is not None else None,
            row.phone_column if isinstance(row, LeadRow) else None,
        )


def _pending(number: int, row: Row) -> SpooledRow:
    return SpooledRow(number, row.lead_id, row.generation or 1, None, ResultSet.PENDING, "stopped")
