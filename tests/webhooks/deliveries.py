"""Bodies as Popin sends them, and their way into a ledger. Written from the guide, not from our code."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger import ledger_queries, schema
from airflow_provider_popin.sync.ledger.events import Record
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.deliveries import Delivery, body_key, store
from airflow_provider_popin.webhooks.envelopes import parse_event
from airflow_provider_popin.webhooks.processing import process_waiting
from tests.sync.ledgers import ACCOUNT, OWNER, RUN, SLOT, SOURCE, TIME, ZONE, lead_in

CONN = "popin_default"
KEY = b"a webhook key"
PERSON = {
    "name": "Quorvex Zelrath",
    "email": "quorvex.zelrath@example.com",
    "mobile": "7000012345",
    "agent": "Brimwald Ostrek",
    "agent_email": "brimwald@example.com",
}


def body(name: str, user_id: object = 315, *, timestamp: object = None, **properties: object) -> bytes:
    """One delivery in the older envelope, or with a timestamp in the newer one."""
    told: dict[str, object] = {
        "event": name,
        "user_id": user_id,
        "email": PERSON["email"],
        "country_code": "91",
        "phone_number": PERSON["mobile"],
        "properties": {"customer_name": PERSON["name"], "agent_name": PERSON["agent"], **properties},
    }
    if timestamp is not None:
        told |= {"full_phone_number": f"+91{PERSON['mobile']}", "timestamp": timestamp}
    return json.dumps(told).encode()


def scheduled(start: float, user_id: object = 315, *, zone: str = ZONE, **more: Any) -> bytes:
    """``popin_scheduled_created`` for an instant."""
    local = datetime.fromtimestamp(start, ZoneInfo(zone))
    return body(
        "popin_scheduled_created",
        user_id,
        scheduled_date=local.strftime("%d-%b-%Y"),
        scheduled_time=local.strftime("%I:%M %p"),
        url="https://live.example.com/8131-a157",
        **more,
    )


def deliver(ledger: Ledger, *bodies: bytes, conn_id: str = CONN, account: str = ACCOUNT) -> list[int]:
    """Store deliveries, one transaction each; return the ids of their events."""
    ids = []
    for one in bodies:
        delivery = Delivery(
            conn_id=conn_id, account=account, body_key=body_key(one, KEY), event=parse_event(one)
        )
        with ledger.write() as connection:
            ids += [receipt.event_id for receipt in store(connection, [delivery])]
    return ids


def told(ledger: Ledger, *bodies: bytes, **options: Any) -> list[tuple[str, str | None]]:
    """Store deliveries and process them, one after the other; return status and reason of each."""
    ended = []
    for one in bodies:
        (key,) = deliver(ledger, one, **options)
        process_waiting(ledger)
        event = event_row(ledger, key)
        ended.append((event.status, event.reason))
    return ended


def event_row(ledger: Ledger, key: int) -> Any:
    """One row of the table of events."""
    with ledger.read() as connection:
        return connection.execute(sa.select(tables.events).where(tables.events.c.id == key)).one()


def lead_row(ledger: Ledger, key: int) -> Any:
    """One row of the table of leads, with what is no part of a record."""
    with ledger.read() as connection:
        return connection.execute(sa.select(schema.leads).where(schema.leads.c.id == key)).one()


def notes(ledger: Ledger, key: int) -> list[tuple[str, str | None]]:
    """What and who, of a lead's history."""
    history = schema.history.c
    with ledger.read() as connection:
        query = sa.select(history.kind, history.who).where(history.lead == key).order_by(history.id)
        return [(kind, who) for kind, who in connection.execute(query)]


def customer_lead(ledger: Ledger, state: str, lead_id: str = "L1", **options: Any) -> int:
    """A lead in a state, whose customer is number 315 at Popin."""
    key = lead_in(ledger, state, lead_id, **options)
    change(ledger, key, customer_id="MzE1")
    return key


def change(ledger: Ledger, key: int, **values: object) -> None:
    """Change a lead's row, past all rules."""
    with ledger.write() as connection:
        connection.execute(schema.leads.update().where(schema.leads.c.id == key).values(**values))


def let_pass(ledger: Ledger, seconds: float) -> None:
    """Make everything that was received, and is due, older."""
    events, deliveries = tables.events.c, tables.deliveries.c
    with ledger.write() as connection:
        connection.execute(
            tables.events.update().values(
                received_at=events.received_at - seconds, due_at=events.due_at - seconds
            )
        )
        connection.execute(tables.deliveries.update().values(received_at=deliveries.received_at - seconds))


def generations(ledger: Ledger, lead_id: str = "L1") -> list[Record]:
    """All generations of a lead."""
    with ledger.read() as connection:
        return ledger_queries.families(connection, ACCOUNT, SOURCE, [lead_id], lock=False)[lead_id]


__all__ = [
    "ACCOUNT",
    "CONN",
    "KEY",
    "OWNER",
    "PERSON",
    "RUN",
    "SLOT",
    "SOURCE",
    "TIME",
    "ZONE",
    "body",
    "change",
    "customer_lead",
    "deliver",
    "event_row",
    "generations",
    "lead_row",
    "let_pass",
    "notes",
    "scheduled",
    "told",
]
