"""A ledger in which customers have booked calls, so that webhooks find whom they are about."""

from __future__ import annotations

import sqlalchemy as sa

from airflow_provider_popin.hooks.ledger import open_ledger
from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.events import customer_id_of
from scripts.webhook_load import ACCOUNT, book_calls

__all__ = ["ACCOUNT"]


def book(ledger_conn_id: str, user_ids: range) -> Ledger:
    """Book a call for each of Popin's users, an hour ago; the lead of user 7 is ``lead-7``.

    :param ledger_conn_id: id of the ledger's connection.
    :param user_ids: decimal ids, as webhooks name them.
    """
    ledger = open_ledger(ledger_conn_id)
    book_calls(ledger, user_ids)
    return ledger


def waiting_asset_events(ledger: Ledger) -> int:
    """Return how many asset events were not emitted yet."""
    with ledger.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(tables.outbox)).scalar_one())


def statuses(ledger: Ledger) -> set[str]:
    """Return the statuses of all events."""
    with ledger.read() as connection:
        return {row[0] for row in connection.execute(sa.select(tables.events.c.status))}


def unprocessed(ledger: Ledger, user_ids: range) -> int:
    """Return how many events of some of Popin's users wait to be processed."""
    events = tables.events.c
    query = sa.select(events.customer_id).where(events.status == "waiting")
    with ledger.read() as connection:
        waiting = {row[0] for row in connection.execute(query)}
    return len(waiting & {customer_id_of(user_id) for user_id in user_ids})
