"""Leads from a csv or jsonl file on local disk or object storage, one row at a time.

A row that is damaged in itself becomes an :class:`UnreadableRow`; damage that may have swallowed other rows
is an error for the whole file. No message holds anything of the file's content.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_popin.operators._object_storage import check_place
from airflow_provider_popin.operators.templated import argument_error
from airflow_provider_popin.sync.source.unreadable import Unreadable, UnreadableRow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

# Also the longest line accepted: a file without line ends is not a file of leads.
MAX_LINE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CSV = (".csv",)
_JSON_LINES = (".jsonl", ".ndjson")


class ByteStream(Protocol):
    """What a file must be able to do."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes; none at the end of the file."""


class LeadFileError(AirflowException):
    """The file cannot be read any further, or not at all.

    :param problem: what is wrong, without content.
    :param path: the file.
    :param line: the line where reading stopped, counted from 1; None if it is about the file as a whole.
    """

    def __init__(self, problem: str, *, path: str, line: int | None = None) -> None:
        where = path if line is None else f"{path}, line {line}"
        super().__init__(f"Leads cannot be read from {where}: {problem}")
        self.path = path
        self.line = line


def check_path(path: object) -> None:
    """Refuse a path whose format or place cannot be told; touches no file.

    :param path: what the Dag author wrote, rendered; None where leads come from elsewhere.
    :raises PopinInputError: no text, unknown suffix, or see :func:`check_place`.
    """
    if path is None:
        return
    if not isinstance(path, str):
        raise argument_error("path", "must be text or a pathlib.Path")
    if not _bare_name(path).endswith((*_CSV, *_JSON_LINES)):
        raise argument_error(
            "path", f"must end in .csv, .jsonl or .ndjson, or one of them and .gz, not be {path!r}"
        )
    check_place(path, field="path", example="s3://bucket/leads.csv")


def leads_from_file(path: ObjectStoragePath) -> Generator[Mapping[str, object]]:
    """Yield the rows of a file, reading it in pieces of 1 MiB; it is closed when the iterator is.

    :param path: local or on object storage; the suffix tells the format, see :func:`check_path`.
    :raises LeadFileError: it cannot be opened, is not UTF-8, has no usable header, or is damaged.
    """
    name = str(path)
    rows = rows_from_csv if _bare_name(name).endswith(_CSV) else rows_from_json_lines
    try:
        with path.open("rb") as stream:  # type: ignore[no-untyped-call]
            yield from rows(_unzipped(stream, name), name)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise LeadFileError(
            "it is no whole gzip file: cut off, damaged, or not zipped at all", path=name
        ) from None
    except OSError as error:
        problem = getattr(error, "strerror", None) or type(error).__name__
        raise LeadFileError(
            f"{problem}. Check the path, and the connection in path_conn_id if it needs one.", path=name
        ) from None


def rows_from_csv(stream: ByteStream, name: str) -> Iterator[Mapping[str, object]]:
    """Yield one mapping per row, every value text; the first line is the header.

    A byte order mark and empty lines are skipped, columns without a name left out. A row with more or fewer
    fields than the header is unreadable: nobody can tell which of its values moved.

    :param stream: UTF-8, fields separated by commas, quoted with ``"``.
    :param name: the file's name, for errors.
    :raises LeadFileError: no header, a column name twice, not UTF-8, or a quote that swallows whole lines.
    """
    # A limit of the whole process, far below that of a line; a field may have many lines.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    lines = _Remembered(_text_lines(stream, name))
    # strict: else a quote that is never closed turns the rest of the file into one field, without an error.
    reader = csv.reader(lines, strict=True)
    header = _header(reader, name)
    while True:
        first_line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error:
            # What follows an open quote is no row, whatever it looks like; at the end nothing does.
            if reader.line_num > first_line or (_leaves_a_quote_open(lines.last) and next(lines, None)):
                raise LeadFileError(
                    f"the quotes of the row that begins there do not match, up to line {reader.line_num}",
                    path=name,
                    line=first_line,
                ) from None
            yield UnreadableRow(Unreadable.CSV_MALFORMED)
            continue
        if fields is None:
            return
        if fields:
            yield _csv_row(header, fields)


def rows_from_json_lines(stream: ByteStream, name: str) -> Iterator[Mapping[str, object]]:
    """Yield one mapping per line; empty lines are skipped.

    A line that is no JSON object, or has a key twice, is unreadable.

    :param stream: UTF-8, one JSON object per line.
    :param name: the file's name, for errors.
    :raises LeadFileError: not UTF-8, a line over 16 MiB, or one that holds several objects.
    """
    for number, line in enumerate(_text_lines(stream, name), start=1):
        if text := line.strip():
            row = _json_row(text)
            if isinstance(row, UnreadableRow) and _holds_several(text):
                raise LeadFileError("several JSON objects; write one per line", path=name, line=number)
            yield row


def _csv_row(header: Sequence[str], fields: Sequence[str]) -> Mapping[str, object]:
    if len(fields) < len(header):
        return UnreadableRow(Unreadable.ROW_TOO_SHORT)
    if len(fields) > len(header):
        return UnreadableRow(Unreadable.ROW_TOO_LONG)
    if any("\0" in field for field in fields):
        return UnreadableRow(Unreadable.NUL_BYTE)
    return {column: value for column, value in zip(header, fields, strict=True) if column}


def _header(reader: Iterator[list[str]], name: str) -> list[str]:
    """Read the first line that is not empty; names of nothing but white space become empty."""
    try:
        header = next((fields for fields in reader if fields), None)
    except csv.Error:
        raise LeadFileError(
            "the header is no csv: its quotes do not match, its fields are separated by something else than"
            " commas, or its lines end in something else than line feeds",
            path=name,
            line=1,
        ) from None
    if header is None:
        raise LeadFileError("it is empty, not even a header is there", path=name)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        raise LeadFileError("its fields are separated by something else than commas", path=name, line=1)
    header = [column if column.strip() else "" for column in header]
    if any("\0" in column for column in header):
        raise LeadFileError("the header is not UTF-8 text", path=name, line=1)
    doubled = [at for at, column in enumerate(header, start=1) if column and header.count(column) > 1]
    if doubled:
        # By number: a file without a header has a lead there, and often the same phone number twice.
        alike = ", ".join(map(str, doubled))
        raise LeadFileError(f"a name stands twice in the header (columns {alike})", path=name, line=1)
    return header


def _leaves_a_quote_open(line: str) -> bool:
    """Whether a field goes on in the next line, as whoever is not strict reads this one."""
    reader = csv.reader([line, "\n"])
    try:
        next(reader)
    except csv.Error:
        return False
    return reader.line_num > 1


class _Remembered(Iterator[str]):
    """Lines, of which the last one can be looked at."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.last = ""

    def __next__(self) -> str:
        self.last = next(self._lines)
        return self.last


class _DoubledKeyError(ValueError):
    """A JSON object has a key twice."""


def _json_row(text: str) -> Mapping[str, object]:
    try:
        row = json.loads(text, object_pairs_hook=_unique_keys)
    except _DoubledKeyError:
        return UnreadableRow(Unreadable.JSON_DUPLICATE_KEY)
    except (ValueError, RecursionError):
        return UnreadableRow(Unreadable.JSON_MALFORMED)
    return row if isinstance(row, dict) else UnreadableRow(Unreadable.JSON_NOT_OBJECT)


def _holds_several(text: str) -> bool:
    """Whether other rows stand in this line: in an array, also one that only begins there, or behind it."""
    if text.startswith("["):
        return text[1:].lstrip()[:1] in ("", "{")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip(", \t\r").startswith("{")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _DoubledKeyError
    return found


def _text_lines(stream: ByteStream, name: str) -> Iterator[str]:
    """Decode line by line, so that the line of a decoding error is known."""
    for number, line in enumerate(_byte_lines(stream, name), start=1):
        if number == 1:
            if line.startswith(_UTF16_MARKS):
                raise LeadFileError("it is UTF-16; save it as UTF-8", path=name, line=1)
            line = line.removeprefix(_UTF8_MARK)
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            raise LeadFileError("it is not UTF-8; save it as UTF-8", path=name, line=number) from None


def _byte_lines(stream: ByteStream, name: str) -> Iterator[bytes]:
    """Split into lines, with their ends. Faster than the readline of most object stores, and bounded."""
    pending = bytearray()
    done = 0
    while chunk := stream.read(_CHUNK_BYTES):
        pending += chunk
        # A stream may give a few bytes at a time: a long line is looked through once, not at each of them.
        if b"\n" in chunk:
            *lines, pending = pending.split(b"\n")
            done += len(lines)
            for line in lines:
                yield bytes(line) + b"\n"
        if len(pending) > MAX_LINE_BYTES:
            raise LeadFileError(f"a line over {MAX_LINE_BYTES >> 20} MiB", path=name, line=done + 1)
    if pending:
        yield bytes(pending)


def _unzipped(stream: ByteStream, name: str) -> ByteStream:
    if not name.lower().endswith(".gz"):
        return stream
    return gzip.GzipFile(fileobj=stream)  # type: ignore[call-overload, no-any-return]


def _bare_name(path: str) -> str:
    return path.lower().removesuffix(".gz")
