"""What a Dag's author says about the watermark. Imports no database: it is read when the Dag is parsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync.source.watermark_values import (
    DEFAULT_INTEGER_OVERLAP,
    DEFAULT_OVERLAP,
    Overlap,
    kind_of,
)

Start = datetime | date | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkSettings:
    """What to read by.

    :param column: column of the source that grows with every change of a row
    :param start: the first run reads from here, and no run from before; its type is the column's
    :param overlap: how much is read again for rows that appear late: a timedelta, for a column of whole
        numbers a whole number; None: one hour, or 1000
    :param reads: what is read, such as the statement and its parameters: when it changes, all is read again
    :raises PopinInputError: a value is of the wrong type or out of range
    """

    column: str
    start: Start
    overlap: Overlap | None = None
    reads: Sequence[object] = ()

    def __post_init__(self) -> None:
        column: object = self.column
        _check(isinstance(column, str) and bool(column), "watermark_column", "must be the name of a column")
        usable = kind_of(self.start).mark(self.start) is not None
        _check(usable, "watermark_start", "is out of range: no database has such a value")
        if self.overlap is None:
            return
        if isinstance(self.start, int):
            fits = isinstance(self.overlap, int) and not isinstance(self.overlap, bool)
            _check(fits and self.overlap >= 0, "watermark_overlap", "must be a whole number from 0")  # type: ignore[operator]
        else:
            _check(isinstance(self.overlap, timedelta), "watermark_overlap", "must be a timedelta")
            _check(self.overlap >= timedelta(0), "watermark_overlap", "must not be negative")  # type: ignore[operator]

    @property
    def effective_overlap(self) -> Overlap:
        """The overlap, or its default."""
        if self.overlap is not None:
            return self.overlap
        return DEFAULT_INTEGER_OVERLAP if isinstance(self.start, int) else DEFAULT_OVERLAP


def _check(holds: bool, field: str, text: str) -> None:
    if not holds:
        raise PopinInputError(text, code="setting_invalid", field=field)
