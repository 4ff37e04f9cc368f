"""What the run remembers about each row it read, on disk: memory stays flat however long the source is.

Rows are kept in read order with the set they ended in, or with the ledger's record that will tell. A
temporary SQLite file of its own; it holds lead ids and digests, never a phone number, and is gone when the
run ends.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from typing import NamedTuple

from airflow_provider_popin.sync.errors import SyncError

_CHUNK = 500


class SpooledRow(NamedTuple):
    """One row of the source. Field order is column order of the table.

    :param row: its number, from 1
    :param lead_id: None where the row has no usable identity
    :param generation: None likewise
    :param record: the ledger's record that tells the result, None where ``result`` does
    :param result: the set it ended in, decided while reading
    :param reason: why
    :param phone: digest of the phone number, under a key that only this run knows
    :param phone_column: which of several columns the phone number was taken from
    :param slot: in a dry run, the planned slot as it would be sent
    :param mark: its value in the watermark column, as it is compared
    """

    row: int
    lead_id: str | None
    generation: int | None
    record: int | None
    result: str | None
    reason: str | None
    phone: bytes | None = None
    phone_column: str | None = None
    slot: str | None = None
    mark: int | str | None = None


class Spool:
    """The rows of one run.

    Used from one thread at a time. Use as a context manager; the file is removed at its end.
    """

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="popin-lead-sync-", suffix=".spool")  # noqa: SIM115
        self._db = sqlite3.connect(self._file.name, isolation_level=None, check_same_thread=False)
        self._phone_key = secrets.token_bytes(16)
        for statement in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            'CREATE TABLE rows ("row" INTEGER PRIMARY KEY, lead_id TEXT, generation INTEGER, record INTEGER,'
            " result TEXT, reason TEXT, phone BLOB, phone_column TEXT, slot TEXT, mark)",
            "CREATE INDEX by_lead ON rows (lead_id)",
            "CREATE INDEX by_record ON rows (record)",
        ):
            self._db.execute(statement)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._file.close()

    def phone_digest(self, e164: str) -> bytes:
        """A digest that is equal for equal numbers within this run only.

        :param e164: a phone number
        """
        return hashlib.blake2b(e164.encode(), digest_size=12, key=self._phone_key).digest()

    def add(self, rows: Iterable[SpooledRow]) -> None:
        """Append rows.

        :param rows: in read order
        :raises SyncError: the disk with the temporary files takes no more
        """
        self._write("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def decide(self, decided: Iterable[tuple[int, str, str | None, str | None]]) -> None:
        """Set where rows end that were open (a dry run plans after reading).

        :param decided: row number, result, reason and slot
        :raises SyncError: the disk with the temporary files takes no more
        """
        self._write(
            'UPDATE rows SET result = ?, reason = ?, slot = ? WHERE "row" = ?',
            ((result, reason, slot, row) for row, result, reason, slot in decided),
        )

    def seen(self, lead_ids: Sequence[str]) -> set[tuple[str, int]]:
        """Which of these leads were read before.

        :param lead_ids: of one chunk of rows
        :return: pairs of lead id and generation
        """
        found: set[tuple[str, int]] = set()
        for start in range(0, len(lead_ids), _CHUNK):
            chunk = lead_ids[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT lead_id, generation FROM rows WHERE lead_id IN ({marks})"  # noqa: S608 - marks only
            found.update(self._db.execute(query, chunk).fetchall())
        return found

    def known_records(self, records: Sequence[int]) -> set[int]:
        """Which of these ledger records a row of this run stands for.

        :param records: record ids, at most 500
        """
        marks = ",".join("?" * len(records))
        query = f"SELECT record FROM rows WHERE record IN ({marks})"  # noqa: S608 - marks only
        return {row[0] for row in self._db.execute(query, records)}

    def leads_without_record(self, lead_ids: Sequence[str]) -> set[tuple[str, int | None]]:
        """Which of these leads have a row in this run that nothing could be done with.

        :param lead_ids: at most 500
        :return: pairs of lead id and generation, None where the row has no usable one
        """
        marks = ",".join("?" * len(lead_ids))
        query = f"SELECT lead_id, generation FROM rows WHERE lead_id IN ({marks}) AND record IS NULL"  # noqa: S608 - marks only
        return set(self._db.execute(query, lead_ids).fetchall())

    def rows(self) -> Iterator[list[SpooledRow]]:
        """All rows in read order, in chunks."""
        last = -1
        while True:
            found = self._db.execute(
                'SELECT * FROM rows WHERE "row" > ? ORDER BY "row" LIMIT ?', (last, _CHUNK)
            ).fetchall()
            if not found:
                return
            last = found[-1][0]
            yield list(starmap(SpooledRow, found))

    def shared_phones(self) -> int:
        """How many phone numbers stand on more than one lead id."""
        query = (
            "SELECT count(*) FROM (SELECT phone FROM rows WHERE phone IS NOT NULL"
            " GROUP BY phone HAVING count(DISTINCT lead_id) > 1)"
        )
        return int(self._db.execute(query).fetchone()[0])

    def _write(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        try:
            self._db.execute("BEGIN")
            self._db.executemany(statement, rows)
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            # SQLite's own words would be taken for those of the ledger.
            raise SyncError(
                f"{error}: the rows of this run are kept in {self._file.name} until it ends. Free space"
                " there, or set TMPDIR to another folder"
            ) from error
