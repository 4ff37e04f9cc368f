"""A lead is forgotten: so is what Popin told about its customer."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger import schema

_events = tables.events.c
_leads = schema.leads.c


def forget_events(connection: Connection, found: sa.sql.elements.ColumnElement[bool]) -> None:
    """Erase customer, time and payload of the events of some leads. That there was an event stays.

    :param connection: in a write transaction, before the leads' own customer_id is erased.
    :param found: which leads.
    """
    by_id = sa.select(_leads.id).where(found)
    # Not a subquery about each event: an event would cost a look at every lead, of which there may be many.
    of_their_customers = [
        sa.tuple_(_events.account, _events.customer_id).in_(sa.select(_leads.account, held).where(found))
        for held in (_leads.customer_id, _leads.second_customer)
    ]
    connection.execute(
        tables.events.update()
        .where(sa.or_(_events.lead.in_(by_id), *of_their_customers))
        .values(customer_id=None, slot_local=None, payload="{}", closed_why=None)
    )
