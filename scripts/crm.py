"""The CRM of the demo: a SQLite table of leads, filled with the sample or with a file of one's own."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

SAMPLE = Path(__file__).with_name("sample_leads.csv")
TABLE = "leads"
ANSWERS = ("popin_state", "popin_reason", "popin_customer_id", "popin_join_url", "popin_call_time")
# What the Dags about calls that took place, or did not, write there.
OUTCOMES = ("popin_outcome", "popin_outcome_at")
GENERATION = "popin_generation"
# As the sample writes times, so that it does not grow old: "+2d", "-90m".
_FROM_NOW = re.compile(r"([+-]\d+)([dm])")
_TIMES = ("call_after", "call_before", "created_at")


class LeadsFileError(Exception):
    """A file of leads cannot be put into a table; the text says why."""


def make_sample_crm(database: Path, *, now: datetime | None = None) -> int:
    """Create the table that ``example_dags/popin_crm_sync.py`` reads, with the sample of 200 messy leads.

    :param database: a file that does not exist yet.
    :param now: what the sample's times count from; default: this moment.
    :return: number of rows.
    """
    start = (now or datetime.now(UTC)).replace(second=0, microsecond=0)
    header, rows = read_csv(SAMPLE)
    resolved = ([_resolve(name, cell, start) for name, cell in zip(header, row, strict=True)] for row in rows)
    return _fill(database, header, resolved)


def make_own_crm(database: Path, file: Path, *, id_column: str) -> int:
    """Create a table with the columns of a CSV file, all text, and those for Popin's answers.

    :param database: a file that does not exist yet.
    :param file: UTF-8, with a header.
    :param id_column: the leads' ids, by which their answers are written back.
    :return: number of rows.
    :raises LeadsFileError: it is no such file.
    """
    header, rows = read_csv(file)
    taken = sorted(set(header) & {*ANSWERS, *OUTCOMES, GENERATION})
    if taken:
        raise LeadsFileError(f"{file} has columns that the demo adds itself: {', '.join(taken)}")
    count = _fill(database, header, rows)
    with closing(sqlite3.connect(database)) as connection:
        # Or every answer looks through the whole table.
        connection.execute(f"CREATE INDEX {TABLE}_by_id ON {TABLE} (TRIM({quoted(id_column)}))")
    return count


def read_csv(file: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a CSV file.

    :param file: UTF-8, with a header that names every column once; separated by commas, semicolons or tabs,
        whichever the header has most of.
    :raises LeadsFileError: it is no such file.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else 'it is not UTF-8; save it as "CSV UTF-8"'
        raise LeadsFileError(f"{file} cannot be read: {reason}") from None
    if not text.strip():
        raise LeadsFileError(f"{file} is empty")
    if text.lstrip()[0] in "{[":
        # Not a header, but somebody's data: it must not be shown as the names of columns.
        raise LeadsFileError(f"{file} is JSON; the demo takes a CSV file")
    # As a stream, for a field may hold line ends of its own.
    reader = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        header = next(reader, [])
        if not header or len({name.lower() for name in header}) < len(header) or not all(header):
            raise LeadsFileError(f"{file}: the first line must name every column, each once")
        rows = []
        for row in filter(None, reader):
            if len(row) != len(header):
                fields = f"{len(row)} fields, the header {len(header)}"
                raise LeadsFileError(f"{file}: the row that ends in line {reader.line_num} has {fields}")
            rows.append(row)
    except csv.Error as error:
        raise LeadsFileError(f"{file}, line {reader.line_num}: {error}") from None
    if not rows:
        raise LeadsFileError(f"{file} has no rows below its header")
    return header, rows


def count_rows(database: Path) -> int:
    """Return the number of leads in the table.

    :param database: the CRM.
    """
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()[0])  # noqa: S608


def count_states(database: Path) -> dict[str, int]:
    """Return what the table says: ``popin_state`` to number of rows; rows without one under an empty text.

    :param database: the CRM.
    """
    query = f"SELECT COALESCE(popin_state, ''), count(*) FROM {TABLE} GROUP BY 1 ORDER BY 2 DESC"  # noqa: S608
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute(query).fetchall())


def quoted(name: str) -> str:
    """Return a column's name as SQL wants it.

    :param name: any text.
    """
    return '"' + name.replace('"', '""') + '"'


def _delimiter(text: str) -> str:
    header = next(iter(text.splitlines()), "")
    return max(",;\t", key=header.count)


def _fill(database: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    columns = ", ".join(f"{quoted(name)} TEXT" for name in (*header, *ANSWERS, *OUTCOMES))
    columns += f", {GENERATION} INTEGER NOT NULL DEFAULT 1"
    names, marks = ", ".join(map(quoted, header)), ", ".join("?" for _ in header)
    insert = f"INSERT INTO {TABLE} ({names}) VALUES ({marks})"  # noqa: S608
    with closing(sqlite3.connect(database)) as connection, connection:
        try:
            connection.execute(f"CREATE TABLE {TABLE} ({columns})")
            return connection.executemany(insert, rows).rowcount
        except sqlite3.Error as error:
            raise LeadsFileError(f"the file does not fit into a SQLite table: {error}") from None


def _resolve(name: str, cell: str, start: datetime) -> str:
    match = _FROM_NOW.fullmatch(cell) if name in _TIMES else None
    if match is None:
        return cell
    step = timedelta(days=1) if match[2] == "d" else timedelta(minutes=1)
    return (start + int(match[1]) * step).isoformat()
