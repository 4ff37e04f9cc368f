"""The ledger's tables, for SQLite and Postgres, on SQLAlchemy 1.4 and 2.x.

No table has a column for a name, a phone number or an e-mail address of a lead. Instants are seconds since
the epoch, UTC, by the database's own clock; ``slot_start`` is whole seconds, because it is part of a key.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.errors import LedgerUnusableError
from airflow_provider_popin.sync.ledger import event_tables as _event_tables  # noqa: F401 - declares its own there
from airflow_provider_popin.sync.ledger.tables import Instant, metadata, partial_index, row_id

# Raised with every change of a table; a ledger with a higher number than this code knows is refused.
SCHEMA_VERSION = 2
# Serialises creation of the tables between processes on Postgres; any constant that others do not use.
_CREATE_LOCK = 0x706F70696E

ledger = sa.Table(
    "popin_ledger",
    metadata,
    sa.Column("ledger_id", sa.String(36), primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
)

sources = sa.Table(
    "popin_sources",
    metadata,
    sa.Column("source", sa.String(255), primary_key=True),
    sa.Column("account", sa.String(255), nullable=False),
    # NULL: only single bookings so far, which have no column; the first bulk run fills it in.
    sa.Column("lead_id_column", sa.String(255)),
    sa.Column("registered_at", Instant, nullable=False),
    # Reports older than this cannot accuse the ledger of being behind: `ledger init` says that it is meant.
    sa.Column("accepted_at", Instant, nullable=False),
)

_BY_DAY = ("source", "created_at")
# A query that is to use the index of these must say so in the same words.
REJECTED = "(capture_state = 'rejected' OR booking_state = 'rejected')"

leads = sa.Table(
    "popin_leads",
    metadata,
    row_id(),
    sa.Column("lead_id", sa.String(255), nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("capture_state", sa.String(16), nullable=False),
    sa.Column("booking_state", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("deadline", Instant),
    sa.Column("capture_doubted", sa.Boolean, nullable=False),
    sa.Column("booking_doubted", sa.Boolean, nullable=False),
    sa.Column("resends", sa.Integer, nullable=False),
    sa.Column("customer_id", sa.Text),
    sa.Column("second_customer", sa.Text),
    sa.Column("join_url", sa.Text),
    sa.Column("slot_start", sa.BigInteger),
    sa.Column("slot_time", sa.String(40)),
    sa.Column("slot_timezone", sa.String(64)),
    sa.Column("seat", sa.Integer),
    sa.Column("reply_incomplete", sa.Boolean, nullable=False),
    sa.Column("time_mismatch", sa.Boolean, nullable=False),
    sa.Column("alarm", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("fingerprint", sa.String(64)),
    sa.Column("wish", sa.Text),
    sa.Column("claim_owner", sa.String(36)),
    sa.Column("run", sa.Text),
    sa.Column("doubt_run", sa.Text),
    sa.Column("change", sa.Integer, nullable=False),
    sa.Column("written", sa.Integer, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("evidence_slot", sa.BigInteger),
    sa.Column("confirmed_at", Instant),
    # Identity. Here, so that the columns above are the fields of events.Record, in order.
    sa.Column("account", sa.String(255), nullable=False),
    sa.Column("source", sa.String(255), nullable=False),
    # How the call ended, as webhooks tell: it decides nothing, and the state machine does not know it.
    sa.Column("outcome", sa.String(16)),
    sa.Column("outcome_at", Instant),
    sa.Column("outcome_told_at", Instant),
    # The default is for a run of the version before, which may still be under way during an upgrade.
    sa.Column("created_at", Instant, nullable=False, server_default=sa.text("0")),
    sa.UniqueConstraint("account", "source", "lead_id", "generation", name="popin_leads_identity"),
    sa.Index("popin_leads_by_state", "source", "booking_state"),
    sa.Index("popin_leads_by_customer", "account", "customer_id"),
    # For the page's funnel: of each stage the leads by source and day, which are then counted, not looked at.
    # An entry is made once and does not move with every change of a state. SQLite reads the condition's own
    # columns from the table if the index does not hold them.
    sa.Index("popin_leads_created", "source", "created_at"),
    partial_index("popin_leads_captured", *_BY_DAY, "capture_state", where="capture_state = 'captured'"),
    partial_index(
        "popin_leads_booked", *_BY_DAY, "outcome", "booking_state", where="booking_state = 'booked'"
    ),
    partial_index("popin_leads_rejected", *_BY_DAY, "capture_state", "booking_state", where=REJECTED),
    # What needs a person, and what Dags ask for, is a handful among many.
    partial_index("popin_leads_in_doubt", *_BY_DAY, "booking_state", where="booking_state = 'in_doubt'"),
    partial_index("popin_leads_alarm", "updated_at", where="alarm = 1", where_postgres="alarm"),
    partial_index("popin_leads_outcome", "source", "outcome_told_at", where="outcome_told_at IS NOT NULL"),
    # An id that was deleted must not come back for another lead: somebody may still hold an event for it.
    sqlite_autoincrement=True,
)
_NOT_OF_A_RECORD = ("account", "source", "outcome", "outcome_at", "outcome_told_at", "created_at")
record_columns = [column for column in leads.c if column.name not in _NOT_OF_A_RECORD]

seats = sa.Table(
    "popin_seats",
    metadata,
    sa.Column("account", sa.String(255), primary_key=True),
    sa.Column("slot_start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("lead", sa.BigInteger, nullable=False, unique=True),
)

# A lease is one row for a whole run: renewing it renews every claim of that run at once.
owners = sa.Table(
    "popin_owners",
    metadata,
    sa.Column("owner", sa.String(36), primary_key=True),
    sa.Column("deadline", Instant, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("try_number", sa.Integer, nullable=False),
)

history = sa.Table(
    "popin_history",
    metadata,
    row_id(),
    sa.Column("lead", sa.BigInteger, nullable=False, index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("who", sa.String(255)),
    sa.Column("why", sa.Text),
)

runs = sa.Table(
    "popin_runs",
    metadata,
    row_id(),
    sa.Column("source", sa.String(255), nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("try_number", sa.Integer, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("report", sa.Text),
    sa.Index("popin_runs_by_source", "source", "id"),
)

# How far a task has read a source, see `sync.watermark`; and how far one has told outcomes, see
# `webhooks.telling`.
watermarks = sa.Table(
    "popin_watermarks",
    metadata,
    sa.Column("account", sa.String(255), primary_key=True),
    sa.Column("source", sa.String(255), primary_key=True),
    sa.Column("task", sa.String(600), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("reader", sa.String(64), nullable=False),
    sa.Column("column_name", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("high", sa.Text),
    sa.Column("held", sa.Text),
    # Where the Dag run began that moved it last: its retry reads the same again.
    sa.Column("high_before", sa.Text),
    sa.Column("held_before", sa.Text),
    sa.Column("updated_at", Instant, nullable=False),
)


def database_clock(connection: Connection) -> sa.sql.elements.TextClause:
    """SQL for "now" as epoch seconds by the database's clock.

    :param connection: tells the dialect.
    """
    if connection.dialect.name == "sqlite":
        return sa.text("(julianday('now') - 2440587.5) * 86400.0")
    return sa.text("CAST(extract(epoch from clock_timestamp()) AS double precision)")


def exists(connection: Connection) -> bool:
    """Whether this database holds a ledger.

    :param connection: any open connection.
    """
    return bool(sa.inspect(connection).has_table(ledger.name))


def create_or_check(connection: Connection, now: float) -> str:
    """Create the tables on first use, upgrade older ones; refuse a ledger that is newer than this code.

    :param connection: inside a write transaction.
    :param now: the database's clock, epoch seconds.
    :return: the ledger's id.
    :raises LedgerUnusableError: the ledger's schema version is not one that this code reads.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})
    if not exists(connection):
        metadata.create_all(connection)
        connection.execute(
            ledger.insert(),
            {
                "ledger_id": str(uuid.uuid4()),
                "schema_version": SCHEMA_VERSION,
                "sequence": 0,
                "created_at": now,
            },
        )
    elif is_older(connection):
        _upgrade_from_1(connection)
    return check(connection)


def is_older(connection: Connection) -> bool:
    """Whether the tables are of an earlier version, which :func:`create_or_check` upgrades in place.

    :param connection: any open connection.
    """
    version = connection.execute(sa.select(ledger.c.schema_version)).scalar()
    return version is not None and 1 <= version < SCHEMA_VERSION


def _upgrade_from_1(connection: Connection) -> None:
    """Version 2 adds columns and tables; a run of version 1 that is under way goes on undisturbed."""
    known = {column["name"] for column in sa.inspect(connection).get_columns(leads.name)}
    for column in leads.c:
        if column.name not in known:
            definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE {leads.name} ADD COLUMN {definition}"))
    # Nobody noted when a lead came first; its last change is the nearest known.
    connection.execute(leads.update().values(created_at=leads.c.updated_at))
    for table in (leads, runs):
        indexes = {index["name"] for index in sa.inspect(connection).get_indexes(table.name)}
        for index in sorted(table.indexes, key=lambda one: str(one.name)):
            if index.name not in indexes:
                index.create(connection)
    metadata.create_all(connection)
    connection.execute(ledger.update().values(schema_version=SCHEMA_VERSION))


def check(connection: Connection) -> str:
    """Read the ledger's id, refusing what this code cannot read.

    :param connection: any open connection.
    :return: the ledger's id.
    :raises LedgerUnusableError: unreadable or of another schema version.
    """
    rows = connection.execute(sa.select(ledger.c.ledger_id, ledger.c.schema_version)).fetchall()
    if len(rows) != 1:
        raise LedgerUnusableError(
            f"the table popin_ledger must hold one row, it holds {len(rows)}: this is not a usable ledger"
        )
    ledger_id, version = rows[0]
    if version != SCHEMA_VERSION:
        raise LedgerUnusableError(
            f"the ledger has schema version {version}, this airflow-provider-popin reads version "
            f"{SCHEMA_VERSION}: install the provider version that wrote it, or a newer one"
        )
    return str(ledger_id)
