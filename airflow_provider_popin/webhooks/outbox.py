"""Asset events that wait to be emitted: written in the transaction that matched the event, emitted later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger.events import Record
from airflow_provider_popin.sync.ledger.ledger import Ledger, chunks, clock, insert_ignoring
from airflow_provider_popin.sync.results import call_time

LEASE_SECONDS = 60.0

_outbox = tables.outbox.c


@dataclass(frozen=True, slots=True)
class AssetEvent:
    """One asset event to emit. Only events that match a lead make one.

    :param id: of the webhook event.
    :param uri: ``popin://<connection id>/calls/<kind>``.
    :param extra: ``source``, ``lead_id``, ``generation``, ``kind``, ``call_time`` (ISO 8601 with the seller's
        offset, or None), ``occurred_at`` (ISO 8601, UTC) and ``event_id``; nothing personal.
    """

    id: int
    uri: str
    extra: Mapping[str, object]


def asset_uri(conn_id: str, kind: str) -> str:
    """The URI of the asset that Dags run on.

    :param conn_id: id of the Popin connection.
    :param kind: a value of :class:`.events.EventKind`.
    """
    return f"popin://{conn_id}/calls/{kind}"


def put(connection: Connection, event: Any, record: Record, source: str) -> None:
    """Let an event that matched a lead be emitted.

    :param connection: the transaction that matched it.
    :param event: its row of ``popin_events``.
    :param record: the lead as it is now.
    :param source: of the lead.
    """
    when = event.received_at if event.occurred_at is None else event.occurred_at
    extra = {
        "source": source,
        "lead_id": record.lead_id,
        "generation": record.generation,
        "kind": event.kind,
        "call_time": call_time(record),
        "occurred_at": datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds"),
        "event_id": event.id,
    }
    row = {"event": event.id, "uri": asset_uri(event.conn_id, event.kind), "extra": json.dumps(extra)}
    connection.execute(insert_ignoring(connection, tables.outbox), row)


def next_asset_events(ledger: Ledger, *, limit: int = 100) -> list[AssetEvent]:
    """Take the oldest asset events under a lease of :data:`LEASE_SECONDS`: nobody else gets them meanwhile.

    :param ledger: with the events.
    :param limit: at most so many.
    """
    with ledger.read() as connection:
        if connection.execute(_free(clock(connection)).limit(1)).first() is None:
            return []
    with ledger.write() as connection:
        now = clock(connection)
        rows = connection.execute(
            _free(now).order_by(_outbox.event).limit(limit).with_for_update(skip_locked=True)
        ).fetchall()
        _lease(connection, [row.event for row in rows], now + LEASE_SECONDS)
    return [AssetEvent(row.event, row.uri, json.loads(row.extra)) for row in rows]


def mark_emitted(ledger: Ledger, ids: Sequence[int]) -> None:
    """Note that asset events were emitted. A crash before this emits them twice; ``event_id`` tells.

    :param ledger: with the events.
    :param ids: of :class:`AssetEvent`.
    """
    if not ids:
        return
    with ledger.write() as connection:
        for chunk in chunks(sorted(ids)):
            connection.execute(tables.outbox.delete().where(_outbox.event.in_(chunk)))


def release(ledger: Ledger, ids: Sequence[int]) -> None:
    """Give asset events back that could not be emitted: the next call gets them at once.

    :param ledger: with the events.
    :param ids: of :class:`AssetEvent`.
    """
    if not ids:
        return
    with ledger.write() as connection:
        _lease(connection, sorted(ids), None)


def _free(now: float) -> Any:
    return sa.select(tables.outbox).where(sa.or_(_outbox.leased_until.is_(None), _outbox.leased_until <= now))


def _lease(connection: Connection, ids: Sequence[int], until: float | None) -> None:
    for chunk in chunks(ids):
        connection.execute(tables.outbox.update().where(_outbox.event.in_(chunk)).values(leased_until=until))
