"""Who holds which leads: a run's lease, and what is cleared up after runs that are gone.

Functions that change a lead hand events to :meth:`.ledger.Ledger.apply`; nothing here decides about a state.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import record_sql, schema
from airflow_provider_popin.sync.ledger.events import BookingState, CaptureState, Expired, Released
from airflow_provider_popin.sync.ledger.ledger import Ledger, chunks, clock, insert_ignoring

_leads = schema.leads.c


def live_owners(connection: Connection) -> frozenset[str]:
    """Owners whose lease has not run out, by the database's clock."""
    now = schema.database_clock(connection).text
    with record_sql.driver_cursor(connection) as cursor:  # asked with every chunk of rows
        cursor.execute(f"SELECT owner FROM {schema.owners.name} WHERE deadline > {now}")  # noqa: S608
        return frozenset(owner for (owner,) in cursor.fetchall())


def renew_lease(connection: Connection, owner: str, run: str, seconds: float, *, try_number: int = 1) -> None:
    """Take or renew the lease of a run.

    :param owner: a fresh UUID for every run of the engine
    :param run: the Dag run, the same for all of its tries
    :param seconds: how long it holds from now
    :param try_number: which try of the Dag run this is
    """
    deadline = clock(connection) + seconds
    connection.execute(
        insert_ignoring(connection, schema.owners),
        {"owner": owner, "deadline": deadline, "run": run, "try_number": try_number},
    )
    connection.execute(schema.owners.update().where(schema.owners.c.owner == owner).values(deadline=deadline))


def end_leases_of_earlier_tries(connection: Connection, run: str, try_number: int) -> None:
    """Take over from a try that was killed, without waiting for its lease to run out.

    Should it live after all, it loses nothing but its turn: an intent needs the claim and the attempt number.

    :param run: the Dag run
    :param try_number: of the try that takes over
    """
    owners = schema.owners.c
    connection.execute(schema.owners.delete().where(owners.run == run, owners.try_number < try_number))


def end_lease(connection: Connection, ledger: Ledger, account: str, owner: str, run: str) -> None:
    """Give back what a run planned and did not book, and its claims with its lease."""
    planned = (
        sa.select(_leads.id)
        .where(_leads.claim_owner == owner, _leads.booking_state == BookingState.PLANNED.value)
        .order_by(_leads.id)
    )
    ids = [row[0] for row in connection.execute(planned)]
    for chunk in chunks(ids):
        ledger.apply(connection, account, [Released(i, owner, BookingState.WAITING, run) for i in chunk])
    connection.execute(schema.owners.delete().where(schema.owners.c.owner == owner))


def expire(connection: Connection, ledger: Ledger, account: str) -> int:
    """Turn attempts whose deadline has passed into doubts, whoever made them.

    :return: how many
    """
    sending = sa.or_(
        _leads.capture_state == CaptureState.SENDING.value, _leads.booking_state == BookingState.SENDING.value
    )
    query = (
        sa.select(_leads.id)
        .where(_leads.account == account, sending, _leads.deadline <= clock(connection))
        .order_by(_leads.id)
        # Whoever holds one of them will see it too; to wait here could be to wait for each other.
        .with_for_update(skip_locked=True)
    )
    ids = [row[0] for row in connection.execute(query)]
    return sum(sum(ledger.apply(connection, account, [Expired(i) for i in chunk])) for chunk in chunks(ids))


def reclaim_planned(connection: Connection, ledger: Ledger, account: str, run: str) -> int:
    """Free the seats that runs planned which are gone.

    :return: how many
    """
    live = live_owners(connection)
    query = (
        sa.select(_leads.id, _leads.claim_owner)
        .where(
            _leads.account == account,
            _leads.booking_state == BookingState.PLANNED.value,
            sa.func.coalesce(_leads.claim_owner, "").notin_(sorted(live)),
        )
        .order_by(_leads.id)
        .with_for_update(skip_locked=True)  # as in `expire`
    )
    abandoned = connection.execute(query).fetchall()
    events = [Released(i, owner, BookingState.WAITING, run) for i, owner in abandoned]
    return sum(sum(ledger.apply(connection, account, chunk)) for chunk in chunks(events))
