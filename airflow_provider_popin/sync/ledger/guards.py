"""What must hold before the first POST. A lost ledger would book everybody again; these guards refuse it.

A source is registered with the account and the name of its lead id column. Outside the ledger, Airflow
remembers earlier tries of the task and their reports (``sync.settings.Prior``); a ledger that knows less than
they do was deleted, restored from a backup, or is the wrong one.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.errors import LedgerGuardError
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.ledger import Ledger, clock, insert_ignoring
from airflow_provider_popin.sync.ledger.run_log import knows_report, sequence
from airflow_provider_popin.sync.settings import Prior


class _Told(NamedTuple):
    """What a report tells about the ledger of its run; the newest is the largest."""

    time: float
    sequence: int
    ledger_id: object


def guard_source(
    connection: Connection,
    ledger: Ledger,
    *,
    account: str,
    source: str,
    lead_id_column: str | None,
    prior: Prior,
) -> None:
    """Register a source, or refuse it.

    :param connection: in the write transaction that precedes the first POST
    :param account: the account's name in the ledger
    :param source: the source's name
    :param lead_id_column: the column that the lead ids come from; None for a single booking, which has none
    :param prior: what Airflow remembers
    :raises LedgerGuardError: this ledger could book leads again
    """
    known = _known(connection, source)
    accepted_at = 0.0 if known is None else known.accepted_at
    if known is None and prior.earlier_try:
        raise LedgerGuardError(
            f"the ledger does not know the source {source!r}, but this task ran before: it is not the ledger "
            f"of those runs, and their leads would be booked again. {_remedy(source)}"
        )
    reports = [told for told in map(_told, prior.reports) if told is not None and told.time > accepted_at]
    if reports:
        _guard_reports(connection, ledger, source, reports)
    if known is None:
        # A first run accepts nothing: reports of another task, which this one cannot see, still count.
        _enter(connection, account=account, source=source, lead_id_column=lead_id_column, accepted_at=0.0)
        # Another run may have been first; then its account and its column count.
        known = _known(connection, source)
    _guard_registration(connection, known, account=account, lead_id_column=lead_id_column)


def register(connection: Connection, *, account: str, source: str, lead_id_column: str | None) -> None:
    """Say that this ledger is meant for a source, whatever was registered or reported before.

    :param lead_id_column: None leaves it open until the first bulk run
    """
    values = {"account": account, "lead_id_column": lead_id_column, "accepted_at": clock(connection)}
    changed = connection.execute(
        schema.sources.update().where(schema.sources.c.source == source).values(**values)
    )
    if changed.rowcount == 0:
        _enter(connection, source=source, **values)


def _enter(connection: Connection, **values: object) -> None:
    """Register a source, unless somebody has."""
    row = {"registered_at": clock(connection), **values}
    connection.execute(insert_ignoring(connection, schema.sources), row)


def _known(connection: Connection, source: str) -> Any:
    """The registration of a source, locked; None if there is none."""
    query = sa.select(schema.sources).where(schema.sources.c.source == source)
    return connection.execute(query.with_for_update()).first()


def _guard_registration(
    connection: Connection, known: Any, *, account: str, lead_id_column: str | None
) -> None:
    if known.account != account:
        raise LedgerGuardError(
            f"the ledger knows the source {known.source!r} under the Popin account {known.account!r}, the "
            f"connection is for {account!r}: its leads would be booked again. Check the connection's host "
            "and login. If it is the same account, set `account` on the connection to "
            f"{known.account!r}; if not, use another source name. If the first run had a wrong connection, "
            f"or all leads are to be booked with this account, say so: {_init_command(known.source)}"
        )
    if lead_id_column is None or known.lead_id_column == lead_id_column:
        return
    if known.lead_id_column is not None:
        raise LedgerGuardError(
            f"the ledger knows the source {known.source!r} with lead ids from column "
            f"{known.lead_id_column!r}, now they come from {lead_id_column!r}: every lead would look new. "
            "Use another source name for other ids; if the column was only renamed, say so: "
            f"{_init_command(known.source)}"
        )
    connection.execute(
        schema.sources.update()
        .where(schema.sources.c.source == known.source)
        .values(lead_id_column=lead_id_column)
    )


def _told(report: Mapping[str, object]) -> _Told | None:
    """The numbers of a report; None for one without, of a dry run for example."""
    number, moment = report.get("ledger_sequence"), report.get("ledger_time")
    if not isinstance(number, int) or not isinstance(moment, int | float):
        return None
    return _Told(time=moment, sequence=number, ledger_id=report.get("ledger_id"))


def _guard_reports(connection: Connection, ledger: Ledger, source: str, told: Sequence[_Told]) -> None:
    for report in told:
        if report.ledger_id != ledger.ledger_id:
            raise LedgerGuardError(
                f"an earlier run of this task for {source!r} used another ledger: leads that it booked would "
                f"be booked again. {_remedy(source)}"
            )
    newest = max(told)
    highest, reported = sequence(connection), max(report.sequence for report in told)
    if reported > highest:
        raise LedgerGuardError(
            f"the ledger is behind a run that was reported for {source!r} (sequence {highest}, reported "
            f"{reported}): it looks like an old backup, and what was booked since would be booked again. "
            f"{_remedy(source)}"
        )
    # Other sources' runs move the number on, also in a backup that was restored.
    if not knows_report(connection, newest.sequence, newest.time):
        raise LedgerGuardError(
            f"the ledger does not know a run that was reported for {source!r} (sequence {newest.sequence}): "
            "it looks like an old backup that was used since, and what was booked in between would be booked "
            f"again. {_remedy(source)}"
        )


def _remedy(source: str) -> str:
    return (
        "Check ledger_conn_id and restore the right database; if this ledger is meant, say so: "
        f"{_init_command(source)}"
    )


def _init_command(source: str) -> str:
    return f"`python -m airflow_provider_popin ledger init --source {shlex.quote(source)}`"
