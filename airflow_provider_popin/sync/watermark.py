"""The watermark: a sync reads only what is new or changed since the last run, and everything unfinished.

The ledger keeps two marks for each task that reads a source: the highest that was read, and the oldest of
the rows that are not finished. The next run reads from the lower of ``highest - overlap`` and ``oldest
unfinished``, and never from before ``watermark_start``. So nothing has to be known about single rows: what
is unfinished is read again in every run, and is judged again.

*Finished* is a row of which no later run would do anything as long as it stays as it is: booked (captured,
where nothing is booked), rejected, skipped. Unassigned, in doubt and pending rows are not. A row whose mark
is missing or of another kind counts as older than all others: while it is unfinished, nothing moves.

Marks move only when the whole source was read and nothing stopped the run. They move by compare-and-set:
of two runs at once the second to end moves nothing, nor does one during which a person reset the watermark.
A retry, or a clear of the newest Dag run, reads from where that Dag run began. What decides about rows (the
statement, the field map, ...) is kept as a digest; when it changes, everything is read again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.scalars import is_missing
from airflow_provider_popin.sync.ledger import watermark_store
from airflow_provider_popin.sync.ledger.watermark_store import NOWHERE, Kept, Position
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from airflow_provider_popin.sync.source.cells import plain_cell
from airflow_provider_popin.sync.source.fingerprints import Fingerprinter
from airflow_provider_popin.sync.source.watermark_settings import WatermarkSettings
from airflow_provider_popin.sync.source.watermark_values import Mark, describe, kind_of

log = logging.getLogger(__name__)


class Watermark:
    """The watermark of one run.

    :param settings: of the run, with a watermark
    :param config: its API key keys the digest of what decides about rows
    """

    def __init__(self, settings: SyncSettings, config: ClientConfig) -> None:
        assert settings.watermark is not None
        self._settings = settings.watermark
        self._kind = kind_of(self._settings.start)
        start = self._kind.mark(self._settings.start)
        assert start is not None
        self._start: Mark = start
        self._reader = _digest(settings, self._settings, config)
        self._ceiling = self._kind.ceiling(datetime.now(UTC))
        self._kept: Kept | None = None
        self._from: Mark = self._start
        self._began = NOWHERE
        self._run = ""
        self._fits = False
        self._high: Mark | None = None
        self._held: Mark | None = None
        self._unfinished = self._unusable = 0
        self._moved = False

    @property
    def read_from(self) -> object:
        """The value that the column is compared with, once :meth:`open` was called."""
        return self._kind.bind(self._from)

    def open(
        self, connection: Connection, *, account: str, source: str, run: RunIdentity, write: bool
    ) -> None:
        """Find out where this run reads from.

        :param connection: in a write transaction, if ``write``
        :param run: whose task this is the watermark of
        :param write: False for a dry run, which keeps nothing
        """
        kept = watermark_store.load(connection, account=account, source=source, task=run.task, write=write)
        self._kept, self._run = kept, run.dag_run
        if kept is None or kept.now == NOWHERE:
            return
        if kept.reader != self._reader:
            log.warning(
                "The watermark of %s was kept for another column, statement, parameters, field map or "
                "setting: everything from watermark_start on is read once more.",
                source,
            )
            return
        self._began = kept.before if kept.run == run.dag_run else kept.now
        self._from = self._lowest(self._began)

    def check(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Refuse a column that is absent or of another type, before any POST.

        :param rows: the next ones; those after the first value are not looked at
        :raises PopinInputError: it cannot be this column, or not this ``watermark_start``
        """
        column = self._settings.column
        for row in rows if not self._fits else ():
            if not row:
                continue
            if column not in row:
                raise PopinInputError(
                    f"the source has no column {column!r}", code="column_missing", field="watermark_column"
                )
            value = plain_cell(row[column])
            if is_missing(value):
                continue
            if self._kind.mark(value) is None:
                raise PopinInputError(
                    f"is {self._kind.name}, but {column!r} holds {describe(value)}: write it as the column "
                    "holds it",
                    code="watermark_type",
                    field="watermark_start",
                )
            self._fits = True
            return

    def mark(self, row: Mapping[str, object]) -> Mark | None:
        """The mark of a row; None if it has no usable one.

        :param row: column to cell
        """
        return self._kind.mark(plain_cell(row.get(self._settings.column)))

    def note(self, mark: Mark | None, *, finished: bool) -> None:
        """Take one row of the run into account.

        :param mark: from :meth:`mark`
        :param finished: see the module's docstring
        """
        if not finished:
            self._unfinished += 1
            self._unusable += mark is None
            self._held = _lower(self._held, mark)
        if mark is not None and not (self._ceiling is not None and mark > self._ceiling):  # type: ignore[operator]
            self._high = _higher(self._high, mark)

    def save(self, connection: Connection) -> None:
        """Keep how far this run read, unless somebody else moved the watermark meanwhile.

        :param connection: in a write transaction
        """
        if self._unusable:
            log.warning(
                "%s unfinished rows have no usable value in %r: the watermark stays where it was.",
                self._unusable,
                self._settings.column,
            )
            return
        assert self._kept is not None
        began, _ = self._marks(self._began)
        after = Position(_text(_higher(began, self._high)), _text(self._held))
        self._moved = watermark_store.save(
            connection,
            self._kept,
            reader=self._reader,
            column=self._settings.column,
            run=self._run,
            now=after,
            before=self._began,
        )
        if not self._moved:
            log.info("Another run or a person moved the watermark meanwhile; this run leaves it there.")
            return
        self._from = self._lowest(after)

    def told(self) -> dict[str, object]:
        """For the report: the column, the value that the next run compares it with, what is unfinished."""
        next_from = self.read_from
        return {
            "column": self._settings.column,
            "next_from": next_from.isoformat() if isinstance(next_from, date) else str(next_from),
            "moved": self._moved,
            "unfinished": self._unfinished,
        }

    def _marks(self, position: Position) -> tuple[Mark | None, Mark | None]:
        high, held = (
            None if text is None else self._kind.load(text) for text in (position.high, position.held)
        )
        return high, held

    def _lowest(self, position: Position) -> Mark:
        high, held = self._marks(position)
        if high is None:
            return self._start
        lowest = _lower(self._kind.back(high, self._settings.effective_overlap), held)
        return _higher(lowest, self._start) or self._start


def _digest(settings: SyncSettings, watermark: WatermarkSettings, config: ClientConfig) -> str:
    """Of everything but a row itself that decides whether it is read, and whether it is tried again."""
    decides: list[object] = [
        watermark.column,
        str(watermark.start),
        list(watermark.reads),
        settings.field_map,
        list(settings.steps),
        settings.default_region or config.default_region,
        settings.drop_phone_extension,
    ]
    return Fingerprinter(key=config.api_key.encode(), settings=["watermark"]).fingerprint(decides)


def _text(mark: Mark | None) -> str | None:
    return None if mark is None else str(mark)


def _lower(one: Mark | None, other: Mark | None) -> Mark | None:
    marks = [mark for mark in (one, other) if mark is not None]
    return min(marks, default=None)


def _higher(one: Mark | None, other: Mark | None) -> Mark | None:
    marks = [mark for mark in (one, other) if mark is not None]
    return max(marks, default=None)
