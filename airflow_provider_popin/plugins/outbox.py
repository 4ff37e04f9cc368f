"""Asset events, from the ledger's outbox to Airflow: at least once, and later what cannot be emitted now.

An event is registered in a transaction of Airflow's database and then marked in the ledger's: two databases,
so a process that dies in between emits it twice. A Dag that must know takes ``event_id`` from its ``extra``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from airflow_provider_popin.plugins import asset_events
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks import outbox
from airflow_provider_popin.webhooks.outbox import AssetEvent

log = logging.getLogger(__name__)

# Events of one transaction of Airflow's database: SQLite lets nobody else write meanwhile.
BATCH = 25

Registrar = Callable[[Sequence[AssetEvent]], None]


class EmissionError(Exception):
    """Asset events were not registered.

    :param cause: class name of what Airflow raised; its text may hold values.
    :param database_away: the same would happen to every other event now.
    """

    def __init__(self, cause: str, *, database_away: bool) -> None:
        super().__init__(f"Airflow did not register asset events: {cause}")
        self.database_away = database_away


def emit_waiting(ledger: Ledger, *, register: Registrar | None = None) -> bool:
    """Emit the next asset events of a ledger.

    :param ledger: with the outbox.
    :param register: registers events, all or none; None does it in Airflow's database.
    :return: whether more are waiting.
    :raises LedgerError: the ledger's database did not answer; what was emitted may be emitted again.
    :raises EmissionError: Airflow's database did not take them; they wait for the next call.
    """
    waiting = outbox.next_asset_events(ledger, limit=BATCH)
    if not waiting:
        return False
    register = register or register_all
    try:
        register(waiting)
    except EmissionError as error:
        if error.database_away:
            outbox.release(ledger, [event.id for event in waiting])
            raise
        # One of them cannot be registered: the others must not wait for it.
        waiting = _one_by_one(waiting, register)
    outbox.mark_emitted(ledger, [event.id for event in waiting])
    return len(waiting) == BATCH


def register_all(events: Sequence[AssetEvent]) -> None:
    """Register events in one transaction of Airflow's database.

    :param events: with their URIs.
    :raises EmissionError: none was registered.
    """
    from airflow.utils.session import create_session
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session() as session:
            for uri in dict.fromkeys(event.uri for event in events):
                extras = [event.extra for event in events if event.uri == uri]
                asset_events.register(uri, extras, session=session)
    except SQLAlchemyError as error:
        raise EmissionError(type(error).__name__, database_away=_is_away(error)) from None
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        # Airflow's inside, in a version that nobody has seen yet.
        raise EmissionError(type(error).__name__, database_away=False) from None


def _is_away(error: Exception) -> bool:
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, TimeoutError

    gone = isinstance(error, DBAPIError) and error.connection_invalidated
    return gone or isinstance(error, OperationalError | InterfaceError | TimeoutError)


def _one_by_one(events: Sequence[AssetEvent], register: Registrar) -> list[AssetEvent]:
    """Register each alone; what fails stays leased, and is tried again when the lease is over."""
    emitted = []
    for event in events:
        try:
            register([event])
        except EmissionError as error:
            log.error("Asset event %s of %s waits: %s", event.id, event.uri, error)
        else:
            emitted.append(event)
    return emitted
