"""Values of a watermark column: which are comparable, how they are kept, bound, and set back by an overlap.

The Python type of ``watermark_start`` says what the column holds::

    aware datetime   timestamp with time zone
    naive datetime   timestamp without time zone
    date             date
    int              integer, or a numeric column of whole numbers
    str              ISO 8601 text, every value written like ``watermark_start``; how SQLite keeps times

A *mark* is a value in the form that is kept and compared: an int, or text that sorts as the values do.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from numbers import Integral

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.scalars import is_missing, whole_number
from airflow_provider_popin.sync.source.cells import plain_cell

Mark = int | str
Overlap = timedelta | int

# Transactions become visible after the time that they stamp on their rows, and clocks differ.
DEFAULT_OVERLAP = timedelta(hours=1)
DEFAULT_INTEGER_OVERLAP = 1000

# No clock on Earth is further ahead of UTC.
_FURTHEST_AHEAD = timedelta(hours=14)
# What a BIGINT holds.
_MOST = 2**63 - 1
_ISO_TEXT = re.compile(
    r"\d{4}-\d\d-\d\d(?:(?P<separator>[ T])\d\d:\d\d(?P<seconds>:\d\d(?P<fraction>\.\d{1,9})?)?"
    r"(?P<offset>Z|[+-]\d\d:?\d\d)?)?"
)


class Kind(ABC):
    """One kind of values."""

    name: str

    @abstractmethod
    def mark(self, value: object) -> Mark | None:
        """The mark of a cell; None for one that is missing or of another kind."""

    @abstractmethod
    def bind(self, mark: Mark) -> object:
        """The value to compare the column with."""

    @abstractmethod
    def back(self, mark: Mark, overlap: Overlap) -> Mark:
        """The mark that is ``overlap`` before another, or a little more."""

    def load(self, text: str) -> Mark:
        """The mark that was kept as text."""
        return text

    def ceiling(self, now: datetime) -> Mark | None:
        """The latest mark that can be true, so that a mistyped year does not hide the rows of this one.

        :param now: aware
        :return: None where nothing can be said
        """
        return None


class _Integers(Kind):
    name = "a whole number"

    def mark(self, value: object) -> Mark | None:
        number = whole_number(value) if isinstance(value, Integral | Decimal) else None
        return number if number is not None and -_MOST <= number <= _MOST else None

    def bind(self, mark: Mark) -> object:
        return mark

    def back(self, mark: Mark, overlap: Overlap) -> Mark:
        assert isinstance(mark, int)
        assert isinstance(overlap, int)
        return mark - overlap

    def load(self, text: str) -> Mark:
        return int(text)


class _Times(Kind):
    """Kinds that are times; a mark is a naive datetime in some notation."""

    def back(self, mark: Mark, overlap: Overlap) -> Mark:
        assert isinstance(overlap, timedelta)
        time = self._read(mark)
        return self._write(time - min(overlap, time - datetime.min))  # noqa: DTZ901  (a limit, no time)

    def ceiling(self, now: datetime) -> Mark | None:
        return self._write(now.astimezone(UTC).replace(tzinfo=None) + _FURTHEST_AHEAD)

    def _read(self, mark: Mark) -> datetime:
        return datetime.fromisoformat(str(mark))

    def _write(self, time: datetime) -> Mark:
        return time.isoformat(timespec="microseconds")


class _LocalTimes(_Times):
    name = "a timestamp without time zone"

    def mark(self, value: object) -> Mark | None:
        if not isinstance(value, datetime) or value.utcoffset() is not None:
            return None
        return self._write(_plain(value))

    def bind(self, mark: Mark) -> object:
        return self._read(mark)


class _Instants(_Times):
    name = "a timestamp with time zone"

    def mark(self, value: object) -> Mark | None:
        if not isinstance(value, datetime) or value.utcoffset() is None:
            return None
        try:
            return self._write(_plain(value.astimezone(UTC)))
        except OverflowError:
            return None

    def bind(self, mark: Mark) -> object:
        return self._read(mark).replace(tzinfo=UTC)

    def ceiling(self, now: datetime) -> Mark | None:
        return self.mark(now)


class _Dates(_Times):
    name = "a date"

    def mark(self, value: object) -> Mark | None:
        return value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else None

    def bind(self, mark: Mark) -> object:
        return self._read(mark).date()

    def _write(self, time: datetime) -> Mark:
        # Of an overlap, a part of a day is a whole one: the time of day is cut off, which only reads more.
        return time.date().isoformat()


class _Texts(_Times):
    """Text is compared as text, by the database and here: that is the order of time only in one notation."""

    def __init__(self, start: str) -> None:
        self._form = form_of(start)
        self.name = f"text of the form {self._form}"
        found = _ISO_TEXT.fullmatch(start)
        assert found is not None
        self._separator, self._offset = found["separator"], found["offset"] or ""
        self._has_seconds = found["seconds"] is not None

    def mark(self, value: object) -> Mark | None:
        return value if isinstance(value, str) and form_of(value) == self._form else None

    def bind(self, mark: Mark) -> object:
        return mark

    def back(self, mark: Mark, overlap: Overlap) -> Mark:
        assert isinstance(overlap, timedelta)
        # Within a second, "10:00:00Z" sorts behind "10:00:00.5Z".
        second = timedelta(seconds=1)
        return super().back(mark, min(overlap, timedelta.max - second) + second)

    def ceiling(self, now: datetime) -> Mark | None:
        if not self._offset:
            return super().ceiling(now)
        offset = datetime.fromisoformat(f"2000-01-01T00:00{self._offset}").tzinfo or UTC
        return self._write(now.astimezone(offset).replace(tzinfo=None))

    def _read(self, mark: Mark) -> datetime:
        return datetime.fromisoformat(str(mark)).replace(tzinfo=None)

    def _write(self, time: datetime) -> Mark:
        if self._separator is None:
            return time.date().isoformat()
        timespec = "seconds" if self._has_seconds else "minutes"
        return time.isoformat(self._separator, timespec) + self._offset


def kind_of(start: object) -> Kind:
    """The kind of values that ``watermark_start`` stands for.

    :param start: a datetime, date, whole number or ISO 8601 text
    :raises PopinInputError: anything else
    """
    if isinstance(start, datetime):
        return _LocalTimes() if start.utcoffset() is None else _Instants()
    if isinstance(start, date):
        return _Dates()
    if isinstance(start, int) and not isinstance(start, bool):
        return _Integers()
    if isinstance(start, str) and form_of(start) is not None:
        return _Texts(start)
    raise PopinInputError(
        "must be a datetime, a date, a whole number, or text such as '2020-01-01 00:00:00': the first value "
        "that is read, of the type that the column has",
        code="setting_invalid",
        field="watermark_start",
    )


def form_of(text: str) -> str | None:
    """How a time is written: ``9999-99-99 99:99:99``. The offset stays as it is; fractions do not count.

    :param text: any text
    :return: None for text that is no time
    """
    found = _ISO_TEXT.fullmatch(text)
    if found is None:
        return None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    whole = text.replace(found["fraction"], "", 1) if found["fraction"] else text
    offset = found["offset"] or ""
    return re.sub(r"\d", "9", whole.removesuffix(offset)) + offset


def describe(value: object) -> str:
    """What kind of value a cell holds, without its content.

    :param value: any cell
    """
    value = plain_cell(value)
    if is_missing(value):
        return "nothing"
    try:
        return kind_of(value).name
    except PopinInputError:
        return "text that is no time" if isinstance(value, str) else f"a value of type {type(value).__name__}"


def _plain(time: datetime) -> datetime:
    """Put together anew: subclasses have ways of their own."""
    return datetime(*time.timetuple()[:6], time.microsecond)  # noqa: DTZ001  (marks are naive)
