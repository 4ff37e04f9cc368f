"""What Popin tells of calls, through the real inbox and processing into the ledger of the examples."""

from __future__ import annotations

import base64
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_popin.hooks.ledger import open_ledger
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.webhooks.envelopes import parse_event
from airflow_provider_popin.webhooks.inbox import Inbox
from airflow_provider_popin.webhooks.processing import process_waiting
from scripts.crm import make_sample_crm
from scripts.feeder import add_lead, new_lead

NAMES = {"missed": "popin_call_missed", "successful": "popin_call_successful"}


def make_small_crm(database: Path, leads: int) -> None:
    """Make the table of the examples, with a few leads who can all be called."""
    make_sample_crm(database)
    crm = sqlite3.connect(database)
    crm.execute("DELETE FROM leads")
    crm.commit()
    crm.close()
    for number in range(1, leads + 1):
        add_lead(database, new_lead(number, now=datetime.now(UTC)))


def tell_of(row: sqlite3.Row, kind: str, *, process: bool = True) -> None:
    """Deliver what became of the call of a row of the CRM, with Popin's answers in it."""
    start = datetime.fromisoformat(row["popin_call_time"])
    tell(row["popin_customer_id"], start, kind, process=process)


def tell(customer_id: str, start: datetime, kind: str, *, process: bool = True) -> None:
    """Deliver what became of a call, ten minutes after its start.

    :param kind: a key of :data:`NAMES`
    :param process: also process it
    """
    body = json.dumps(
        {
            "event": NAMES[kind],
            "user_id": base64.b64decode(customer_id).decode(),
            "email": "somebody@example.com",
            "timestamp": (start + timedelta(minutes=10)).isoformat(),
            "properties": {},
        }
    ).encode()
    ledger = open_ledger("popin_ledger")
    inbox = Inbox(ledger)
    account = PopinHook().config.account_key
    inbox.submit(conn_id="popin_default", account=account, body=body, event=parse_event(body), key=b"key")
    inbox.close()
    if process:
        process_waiting(ledger)
    ledger.engine.dispose()
