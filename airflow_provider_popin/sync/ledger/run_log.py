"""Runs and their reports, and the ledger's sequence number, by which a lost ledger is noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.ledger import clock

# A report's time is read just before the end of its run is noted; the clock may be set in between.
_CLOCK_STEP_SECONDS = 60.0
# Two stores of the same number may round it differently.
_SAME_SECONDS = 0.001


def start_run(connection: Connection, source: str, run: str, try_number: int) -> int:
    """Note the start of a run and move the ledger's sequence number on.

    :return: id of the run's row
    """
    next_sequence(connection)
    inserted = connection.execute(
        schema.runs.insert(),
        {"source": source, "run": run, "try_number": try_number, "started_at": clock(connection)},
    )
    key: Sequence[int] = inserted.inserted_primary_key or ()
    return key[0]


def end_run(connection: Connection, row: int, report: Mapping[str, Any]) -> None:
    """Keep the report of a run.

    :param row: from :func:`start_run`
    :param report: JSON values, nothing personal
    """
    connection.execute(
        schema.runs.update()
        .where(schema.runs.c.id == row)
        .values(ended_at=clock(connection), report=json.dumps(report, sort_keys=True))
    )


def report_of_earlier_try(
    connection: Connection, source: str, run: str, try_number: int
) -> dict[str, Any] | None:
    """The newest report of an earlier try of a Dag run; its counts go over all tries before it as well.

    :param run: the Dag run
    :param try_number: of the try that asks
    """
    runs = schema.runs.c
    query = (
        sa.select(runs.report)
        .where(runs.source == source, runs.run == run, runs.try_number < try_number)
        .where(runs.report.is_not(None))
        .order_by(runs.id.desc())
        .limit(1)
    )
    report = connection.execute(query).scalar()
    return None if report is None else dict(json.loads(report))


def knows_report(connection: Connection, told_sequence: int, told_time: float) -> bool:
    """Whether a run of this ledger, of whatever source, ended with these numbers.

    :param told_sequence: the report's ``ledger_sequence``
    :param told_time: its ``ledger_time``
    """
    runs = schema.runs.c
    about_then = runs.ended_at.between(told_time - _CLOCK_STEP_SECONDS, told_time + _CLOCK_STEP_SECONDS)
    query = sa.select(runs.report).where(about_then, runs.report.is_not(None))
    reports = (json.loads(report) for (report,) in connection.execute(query))
    return any(
        report.get("ledger_sequence") == told_sequence
        and abs(report.get("ledger_time", 0.0) - told_time) < _SAME_SECONDS
        for report in reports
    )


def next_sequence(connection: Connection) -> int:
    """Move the ledger's sequence number on.

    :return: the new number
    """
    connection.execute(schema.ledger.update().values(sequence=schema.ledger.c.sequence + 1))
    return sequence(connection)


def sequence(connection: Connection) -> int:
    """The ledger's sequence number: higher with every run."""
    return int(connection.execute(sa.select(schema.ledger.c.sequence)).scalar_one())
