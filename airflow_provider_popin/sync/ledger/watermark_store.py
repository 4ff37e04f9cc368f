"""The watermarks in the ledger: one row for each task that reads a source by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.ledger import Ledger, clock, insert_ignoring

# The reader of rows that say how far outcomes were told; the other rows say how far a source was read.
OUTCOMES = "outcomes"

_marks = schema.watermarks.c


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source was read, as text.

    :param high: the highest mark that was read; None: nothing yet
    :param held: the oldest mark of the rows that are not finished; None: there is none
    """

    high: str | None = None
    held: str | None = None


NOWHERE = Position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the ledger keeps of one watermark.

    :param version: grows with every change
    :param reader: digest of what decides about the rows
    :param run: the Dag run that moved it last
    :param before: where that Dag run began
    """

    account: str
    source: str
    task: str
    version: int
    reader: str
    run: str
    now: Position
    before: Position


def load(connection: Connection, *, account: str, source: str, task: str, write: bool) -> Kept | None:
    """What is kept for a task.

    :param connection: in a write transaction, if ``write``
    :param write: make the row if it is not there, so that two runs can tell who moves it first
    :return: None where nothing is kept and nothing was to be made
    """
    if write:
        empty = {
            "account": account,
            "source": source,
            "task": task,
            "version": 0,
            "reader": "",
            "column_name": "",
            "run": "",
            "updated_at": clock(connection),
        }
        connection.execute(insert_ignoring(connection, schema.watermarks), empty)
    query = sa.select(
        _marks.version,
        _marks.reader,
        _marks.run,
        _marks.high,
        _marks.held,
        _marks.high_before,
        _marks.held_before,
    ).where(_marks.account == account, _marks.source == source, _marks.task == task)
    row = connection.execute(query).first()
    if row is None:
        return None
    version, reader, run, high, held, high_before, held_before = row
    return Kept(
        account=account,
        source=source,
        task=task,
        version=version,
        reader=reader,
        run=run,
        now=Position(high, held),
        before=Position(high_before, held_before),
    )


def save(
    connection: Connection, kept: Kept, *, reader: str, column: str, run: str, now: Position, before: Position
) -> bool:
    """Move a watermark, if nobody else did since it was loaded.

    :param connection: in a write transaction
    :param kept: as loaded
    :param before: where this Dag run began
    :return: whether it was moved
    """
    moved = connection.execute(
        schema.watermarks.update()
        .where(
            _marks.account == kept.account,
            _marks.source == kept.source,
            _marks.task == kept.task,
            _marks.version == kept.version,
        )
        .values(
            version=kept.version + 1,
            reader=reader,
            column_name=column,
            run=run,
            high=now.high,
            held=now.held,
            high_before=before.high,
            held_before=before.held,
            updated_at=clock(connection),
        )
    )
    return bool(moved.rowcount)


def rewind(connection: Connection, source: str, task: str | None = None) -> None:
    """Let every task read all of a source once more: something was changed that only a full read finds.

    :param connection: in a write transaction
    :param task: only this one, which may also be one that tells outcomes
    """
    which = _marks.reader != OUTCOMES if task is None else _marks.task == task
    connection.execute(
        schema.watermarks.update()
        .where(_marks.source == source, which)
        .values(
            version=_marks.version + 1,
            run="",
            high=None,
            held=None,
            high_before=None,
            held_before=None,
            updated_at=clock(connection),
        )
    )


def reset(ledger: Ledger, source: str, task: str | None = None) -> None:
    """A person wants all of a source to be read once more.

    :param task: as for :func:`rewind`
    """
    with ledger.write() as connection:
        rewind(connection, source, task)


def watermarks(ledger: Ledger, source: str) -> list[Mapping[str, object]]:
    """All watermarks of a source, for people.

    :return: ``account``, ``source``, ``task``, ``column``, ``highest_read``, ``oldest_unfinished``,
        ``updated_at``
    """
    columns = (_marks.account, _marks.source, _marks.task, _marks.column_name, _marks.high, _marks.held)
    query = sa.select(*columns, _marks.updated_at).where(_marks.source == source)
    query = query.order_by(_marks.account, _marks.task)
    names = ("account", "source", "task", "column", "highest_read", "oldest_unfinished")
    with ledger.read() as connection:
        rows = connection.execute(query).fetchall()
    return [
        dict(zip(names, row, strict=False))
        | {"updated_at": datetime.fromtimestamp(row[-1], UTC).isoformat(timespec="seconds")}
        for row in rows
    ]
