"""The tables of what Popin tells, in the ledger's database. ``schema`` creates and upgrades them.

No column holds a name, a phone number or an e-mail address; ``payload`` went through
``webhooks.payloads`` first.
"""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from airflow_provider_popin.sync.ledger.tables import Instant, metadata, partial_index, row_id


class EventStatus(StrEnum):
    """What became of an event."""

    WAITING = "waiting"
    MATCHED = "matched"
    NOTED = "noted"
    UNMATCHED = "unmatched"
    DISMISSED = "dismissed"


events = sa.Table(
    "popin_events",
    metadata,
    row_id(),
    sa.Column("conn_id", sa.String(250), nullable=False),
    sa.Column("account", sa.String(255), nullable=False),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("customer_id", sa.Text),
    sa.Column("occurred_at", Instant),
    # ISO 8601 without offset: no event names the seller's timezone.
    sa.Column("slot_local", sa.String(19)),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    # Not looked at before; NULL once it is done.
    sa.Column("due_at", Instant),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(32)),
    # Of popin_leads. No foreign key: a lead may be deleted, what was told stays.
    sa.Column("lead", sa.BigInteger),
    sa.Column("closed_by", sa.String(255)),
    sa.Column("closed_why", sa.Text),
    sa.Column("closed_at", Instant),
    sa.Index("popin_events_by_customer", "account", "customer_id"),
    sa.Index("popin_events_by_lead", "lead"),
    sa.Index("popin_events_by_status", "status", "reason", "id"),
    partial_index("popin_events_due", "due_at", where="due_at IS NOT NULL"),
    sqlite_autoincrement=True,
)

# Which bodies came lately. The key is unique, so of two that come at once one is the duplicate.
deliveries = sa.Table(
    "popin_deliveries",
    metadata,
    sa.Column("conn_id", sa.String(250), primary_key=True),
    sa.Column("body_key", sa.String(64), primary_key=True),
    # Whose insert it was, told by reading back: the one thing that every database and driver can do.
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("event", sa.BigInteger),
    sa.Column("received_at", Instant, nullable=False, index=True),
)

# Asset events that were not emitted yet.
outbox = sa.Table(
    "popin_outbox",
    metadata,
    sa.Column("event", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("extra", sa.Text, nullable=False),
    sa.Column("leased_until", Instant),
)
