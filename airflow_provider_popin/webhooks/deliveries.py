"""A batch of deliveries into the ledger's database, in one transaction: each body once in 24 hours."""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger.event_tables import EventStatus
from airflow_provider_popin.sync.ledger.ledger import chunks, clock
from airflow_provider_popin.webhooks.events import CallEvent

# An identical body on the same connection within this time is the same event; counted from its receipt.
DUPLICATE_SECONDS = 24 * 3600.0

_deliveries = tables.deliveries.c
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery is durable.

    :param event_id: of the event in the ledger's database.
    :param duplicate: an identical body came on this connection within 24 hours; ``event_id`` is that event.
    """

    event_id: int
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One delivery.

    :param conn_id: the Popin connection that it was delivered to.
    :param account: ``ClientConfig.account_key`` of that connection.
    :param body_key: HMAC of the body.
    :param event: what it says.
    """

    conn_id: str
    account: str
    body_key: str
    event: CallEvent
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


def body_key(body: bytes, key: bytes) -> str:
    """What bodies are known again by. A bare hash would let phone numbers be tried out.

    :param body: as received.
    :param key: secret.
    """
    return hmac.digest(key, body, "sha256").hex()


def store(connection: Connection, batch: Sequence[Delivery]) -> list[Receipt]:
    """Store deliveries, each body once.

    :param connection: from :meth:`~airflow_provider_popin.sync.ledger.ledger.Ledger.write`.
    :param batch: in order of arrival.
    :return: one receipt for each; good when the transaction is committed.
    """
    now = clock(connection)
    first: dict[_Key, Delivery] = {}
    for delivery in batch:
        first.setdefault(_key(delivery), delivery)
    _take(connection, first, now)
    known = _known(connection, first)
    new = {key: delivery for key, delivery in first.items() if known[key][0] == delivery.token}
    ids = {key: _insert(connection, delivery, now) for key, delivery in new.items()}
    _name_events(connection, ids)
    receipts: list[Receipt] = []
    for delivery in batch:
        key = _key(delivery)
        is_first = key in ids and first[key] is delivery
        receipts.append(Receipt(ids[key] if key in ids else known[key][1], duplicate=not is_first))
    return receipts


def forget_old(connection: Connection) -> None:
    """Delete what no delivery can be a duplicate of any more.

    :param connection: in a write transaction.
    """
    horizon = clock(connection) - DUPLICATE_SECONDS
    connection.execute(tables.deliveries.delete().where(_deliveries.received_at <= horizon))


def _key(delivery: Delivery) -> _Key:
    return delivery.conn_id, delivery.body_key


def _take(connection: Connection, first: dict[_Key, Delivery], now: float) -> None:
    """Insert the keys; where one is there, its row stays as it is unless it is too old to count."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insert = dialect.insert(tables.deliveries)
    statement = insert.on_conflict_do_update(
        index_elements=["conn_id", "body_key"],
        set_={"token": insert.excluded.token, "received_at": insert.excluded.received_at},
        where=_deliveries.received_at <= now - DUPLICATE_SECONDS,
    )
    # Ordered, so that two processes never wait for each other in a circle.
    rows = [
        {"conn_id": conn_id, "body_key": key, "token": first[conn_id, key].token, "received_at": now}
        for conn_id, key in sorted(first)
    ]
    connection.execute(statement, rows)


def _known(connection: Connection, keys: dict[_Key, Delivery]) -> dict[_Key, tuple[str, int]]:
    known: dict[_Key, tuple[str, int]] = {}
    for conn_id in sorted({conn_id for conn_id, _ in keys}):
        mine = [body_key for conn, body_key in keys if conn == conn_id]
        for chunk in chunks(mine):
            query = sa.select(_deliveries.body_key, _deliveries.token, _deliveries.event).where(
                _deliveries.conn_id == conn_id, _deliveries.body_key.in_(chunk)
            )
            known.update(((conn_id, key), (token, event)) for key, token, event in connection.execute(query))
    return known


def _insert(connection: Connection, delivery: Delivery, now: float) -> int:
    event = delivery.event
    local = event.scheduled_local
    inserted = connection.execute(
        tables.events.insert(),
        {
            "conn_id": delivery.conn_id,
            "account": delivery.account,
            "received_at": now,
            "kind": event.kind.value,
            "name": event.name,
            "customer_id": event.customer_id,
            "occurred_at": event.occurred_at,
            "slot_local": None if local is None else local.isoformat(timespec="seconds"),
            # ASCII: a database refuses NUL and half surrogate pairs, not their escapes.
            "payload": json.dumps(event.payload, ensure_ascii=True, separators=(",", ":")),
            "status": EventStatus.WAITING.value,
            "due_at": now,
            "tries": 0,
        },
    )
    key: Sequence[int] = inserted.inserted_primary_key or ()
    return key[0]


def _name_events(connection: Connection, ids: dict[_Key, int]) -> None:
    if ids:
        connection.execute(
            tables.deliveries.update()
            .where(
                _deliveries.conn_id == sa.bindparam("of_conn"),
                _deliveries.body_key == sa.bindparam("of_body"),
            )
            .values(event=sa.bindparam("new_event")),
            [
                {"of_conn": conn_id, "of_body": key, "new_event": ids[conn_id, key]}
                for conn_id, key in sorted(ids)
            ],
        )
