"""What people do with the ledger: look, export, forget, end doubts. The command line is its shell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.client.redaction import redact_text
from airflow_provider_popin.sync.errors import SyncError
from airflow_provider_popin.sync.ledger import guards, leases, run_log, schema, watermark_store
from airflow_provider_popin.sync.ledger.events import BookingState, CaptureState, Record, Resolved
from airflow_provider_popin.sync.ledger.forgetting import forget_events
from airflow_provider_popin.sync.ledger.ledger import CHUNK, Ledger, clock, locked
from airflow_provider_popin.sync.results import call_time

OUTCOMES = {"booked": True, "not-booked": False}

_leads = schema.leads.c


class NoSuchLeadError(SyncError):
    """The ledger knows no such lead, or it is not in the state that the command is for."""


def summary(ledger: Ledger, source: str | None = None) -> list[dict[str, object]]:
    """Leads by source and state.

    :param source: only this source
    :return: ``account``, ``source``, ``capture``, ``booking`` and ``leads`` (a count)
    """
    query = sa.select(
        _leads.account, _leads.source, _leads.capture_state, _leads.booking_state, sa.func.count()
    ).group_by(_leads.account, _leads.source, _leads.capture_state, _leads.booking_state)
    if source is not None:
        query = query.where(_leads.source == source)
    names = ("account", "source", "capture", "booking", "leads")
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(_leads.account, _leads.source)).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def export(ledger: Ledger, source: str | None = None) -> Iterator[dict[str, object]]:
    """Every lead of the ledger, in order of its first appearance. Instants are ISO 8601 in UTC.

    :param source: only this source
    """
    after = 0
    while True:
        query = _with_identity().where(_leads.id > after).order_by(_leads.id).limit(CHUNK)
        if source is not None:
            query = query.where(_leads.source == source)
        with ledger.read() as connection:
            rows = connection.execute(query).fetchall()
        if not rows:
            return
        for row in rows:
            after = row[0]
            yield _told(Record(*row[:-2]), account=row[-2], source=row[-1])


def list_in_doubt(ledger: Ledger, source: str | None = None) -> list[dict[str, object]]:
    """Bookings in doubt, the oldest first, with what is known about each.

    :param source: only this source
    """
    _expire(ledger)
    query = _with_identity().where(_leads.booking_state == BookingState.IN_DOUBT.value)
    if source is not None:
        query = query.where(_leads.source == source)
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(_leads.updated_at)).fetchall()
        return [
            _told(Record(*row[:-2]), account=row[-2], source=row[-1])
            | {"history": _history(connection, row[0])}
            for row in rows
        ]


def resolve(
    ledger: Ledger,
    *,
    source: str,
    lead_id: str,
    generation: int | None,
    outcome: str,
    who: str,
    why: str,
    account: str | None = None,
    seen: str | None = None,
) -> dict[str, object]:
    """End the doubt about a booking.

    :param generation: None for the only one in doubt
    :param outcome: ``booked`` or ``not-booked``; not booked gives the seat back, and the next run books the
        lead
    :param who: recorded as given
    :param why: recorded with personal data replaced
    :param account: of the lead, where the source was another account's once; None for the only one in doubt
    :param seen: ``version`` of the record that the person was shown; None if they were shown none
    :return: the lead as it is now
    :raises NoSuchLeadError: no such booking in doubt, or several, or it changed since it was seen
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}")
    _expire(ledger)
    with ledger.write() as connection:
        query = _with_identity().where(
            _leads.source == source,
            _leads.lead_id == lead_id,
            _leads.booking_state == BookingState.IN_DOUBT.value,
        )
        if generation is not None:
            query = query.where(_leads.generation == generation)
        if account is not None:
            query = query.where(_leads.account == account)
        rows = connection.execute(query).fetchall()
        if len(rows) != 1:
            raise NoSuchLeadError(_not_one(len(rows), source, lead_id))
        row = rows[0]
        records = locked_as_seen(connection, row[0], seen)
        event = Resolved(row[0], OUTCOMES[outcome], who[:255], redact_text(why))
        if not all(ledger.apply(connection, row[-2], [event], records)):
            raise NoSuchLeadError(_not_one(0, source, lead_id))
        if not OUTCOMES[outcome]:
            # The lead is to be booked again, and its row may lie behind the watermark.
            watermark_store.rewind(connection, source)
        return _told(locked(connection, [row[0]])[row[0]], account=row[-2], source=source)


def _expire(ledger: Ledger) -> None:
    """Turn what a killed task left into doubts: until the next run nobody else would."""
    with ledger.read() as connection:
        left = _leads.booking_state == BookingState.SENDING.value, _leads.deadline <= clock(connection)
        accounts = [row[0] for row in connection.execute(sa.select(_leads.account).where(*left).distinct())]
    for account in accounts:
        with ledger.write() as connection:
            leases.expire(connection, ledger, account)


def locked_as_seen(connection: Connection, key: int, seen: str | None) -> dict[int, Record]:
    """Lock a record that a person decides about.

    :param connection: from :meth:`~airflow_provider_popin.sync.ledger.ledger.Ledger.write`
    :param key: id of the record
    :param seen: ``version`` of the record that the person was shown; None takes any
    :return: the record by its id; empty if it is gone
    :raises NoSuchLeadError: it changed since: there may be another call, or one more, to decide about
    """
    records = locked(connection, [key])
    for record in records.values():
        if seen not in (None, record.version):
            raise NoSuchLeadError(f"lead {record.lead_id!r} has changed since it was shown: look again")
    return records


def forget(ledger: Ledger, *, source: str, lead_id: str | None = None, rejected: bool = False) -> int:
    """Erase what the ledger knows about a lead, or let the rejected leads of a source be tried again.

    A lead keeps its identity and state, so that a booked one is never booked again; only rows that are
    rejected or unassigned, with no doubt about them, are deleted.

    :param lead_id: this lead, all generations: customer_id, link, slot and reason are erased
    :param rejected: all rejected leads of the source
    :return: how many leads were deleted or erased
    :raises NoSuchLeadError: the ledger does not know the lead
    """
    if (lead_id is None) == (not rejected):
        raise ValueError("give a lead id or rejected=True, not both")
    with ledger.write() as connection:
        # A row that did not change lies behind the watermark.
        watermark_store.rewind(connection, source)
        if rejected:
            return _delete(connection, _leads.source == source, _is_rejected())
        found = sa.and_(_leads.source == source, _leads.lead_id == lead_id)
        count = connection.execute(sa.select(sa.func.count()).where(found)).scalar_one()
        if not count:
            raise NoSuchLeadError(f"the ledger knows no lead {lead_id!r} of {source!r}")
        unassigned = _leads.booking_state == BookingState.UNASSIGNED.value
        _delete(connection, found, sa.or_(_is_rejected(), unassigned))
        _erase(connection, found)
        return int(count)


def init_source(
    ledger: Ledger, *, account: str, source: str, lead_id_column: str | None = None
) -> dict[str, object]:
    """Say that this ledger is meant for a source: the guards against a lost ledger let it pass from now on.

    :param account: the account's name in the ledger
    :param lead_id_column: the column that the lead ids come from; None leaves it open
    """
    with ledger.write() as connection:
        guards.register(connection, account=account, source=source, lead_id_column=lead_id_column)
        watermark_store.rewind(connection, source)
        return {
            "ledger_id": ledger.ledger_id,
            "ledger_sequence": run_log.sequence(connection),
            "account": account,
            "source": source,
            "lead_id_column": lead_id_column,
        }


def _with_identity() -> sa.sql.Select:  # type: ignore[type-arg]
    return sa.select(*schema.record_columns, _leads.account, _leads.source)


def _told(record: Record, *, account: str, source: str) -> dict[str, object]:
    return {
        "account": account,
        "source": source,
        "lead_id": record.lead_id,
        "generation": record.generation,
        "capture": record.capture_state,
        "booking": record.booking_state,
        "customer_id": record.customer_id,
        "second_customer": record.second_customer,
        "join_url": record.join_url,
        "call_time": call_time(record),
        "slot": record.slot_time,
        "attempt": record.attempt,
        "alarm": record.alarm,
        "time_mismatch": record.time_mismatch,
        "reply_incomplete": record.reply_incomplete,
        "reason": record.reason,
        "run": record.run,
        "updated_at": _iso(record.updated_at),
    }


def _history(connection: Connection, lead: int) -> list[Mapping[str, object]]:
    table = schema.history.c
    query = (
        sa.select(table.at, table.attempt, table.kind, table.who, table.why)
        .where(table.lead == lead)
        .order_by(table.id)
    )
    return [
        {"at": _iso(at), "attempt": attempt, "kind": kind, "who": who, "why": why}
        for at, attempt, kind, who, why in connection.execute(query)
    ]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _is_rejected() -> sa.sql.elements.ColumnElement[bool]:
    return sa.or_(
        _leads.capture_state == CaptureState.REJECTED.value,
        _leads.booking_state == BookingState.REJECTED.value,
    )


def _delete(connection: Connection, *conditions: sa.sql.elements.ColumnElement[bool]) -> int:
    # Nobody about whom anything is in doubt.
    conditions = (*conditions, ~_leads.booking_doubted, ~_leads.alarm)
    doomed = sa.select(_leads.id).where(*conditions)
    forget_events(connection, sa.and_(*conditions))
    connection.execute(schema.history.delete().where(schema.history.c.lead.in_(doomed)))
    return int(connection.execute(schema.leads.delete().where(*conditions)).rowcount)


def _erase(connection: Connection, found: sa.sql.elements.ColumnElement[bool]) -> None:
    forget_events(connection, found)
    ids = sa.select(_leads.id).where(found)
    now = clock(connection)
    # Larger in any case, as with every change: a run that knows the lead must see that it does no more.
    changed_at = sa.case((_leads.updated_at >= now, _leads.updated_at + 0.001), else_=now)
    connection.execute(schema.history.update().where(schema.history.c.lead.in_(ids)).values(why=None))
    connection.execute(
        schema.leads.update()
        .where(found)
        .values(
            customer_id=None,
            second_customer=None,
            join_url=None,
            slot_start=None,
            slot_time=None,
            slot_timezone=None,
            evidence_slot=None,
            reason=None,
            fingerprint=None,
            wish=None,
            updated_at=changed_at,
        )
    )


def _not_one(count: int, source: str, lead_id: str) -> str:
    if count:
        several = f"{count} bookings in doubt: name the generation or the account"
        return f"lead {lead_id!r} of {source!r} has {several}"
    return f"lead {lead_id!r} of {source!r} has no booking in doubt"
