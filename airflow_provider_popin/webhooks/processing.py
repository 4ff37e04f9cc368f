"""Received events move the ledger: evidence, alarms, outcomes; what Dags may run on goes to the outbox."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import Ledger

# Events of one transaction: short enough not to keep a sync from writing.
BATCH = 100


@dataclass(frozen=True, slots=True)
class Processed:
    """What one call did.

    :param count: events looked at.
    :param still_waiting: more are due at this moment.
    """

    count: int
    still_waiting: bool


def process_waiting(ledger: Ledger, *, limit: int = 500) -> Processed:
    """Process events that were received. Idempotent, resumable after a crash, safe from several processes.

    An event of a customer whom the ledger does not know (yet) is looked at again for some minutes.

    :param ledger: with the events.
    :param limit: at most so many, in transactions of :data:`BATCH`.
    :raises LedgerError: the database did not answer; what was committed stays.
    """
    raise NotImplementedError


def process_batch(connection: Connection, ledger: Ledger, *, limit: int = BATCH) -> Processed:
    """Process events inside the caller's transaction.

    :param connection: from :meth:`~airflow_provider_popin.sync.ledger.Ledger.write`.
    :param ledger: the same ledger.
    :param limit: at most so many.
    """
    raise NotImplementedError
