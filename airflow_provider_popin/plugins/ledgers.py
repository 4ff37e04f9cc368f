"""The ledgers that are open in this API server process. Everything here blocks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.hooks.ledger import open_ledger, sql_engine
from airflow_provider_popin.plugins.connections import ConnectionsUnavailableError, connection_digest
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.inbox import Inbox

log = logging.getLogger(__name__)

# A changed ledger connection counts after this time at the latest.
FRESH_SECONDS = 30.0
# A ledger that cannot be opened is not tried at every delivery.
RETRY_SECONDS = 2.0


@dataclass(slots=True)
class _Open:
    ledger: Ledger
    inbox: Inbox
    digest: bytes
    fresh_until: float


@dataclass(slots=True)
class _Place:
    """One ledger connection: what is open, and why nothing is."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    open: _Open | None = None
    failure: LedgerError | None = None
    retry_at: float = 0.0


class Ledgers:
    """Opens a ledger once and keeps it open. Thread-safe.

    :param clock: seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        self._closed = False

    def ready(self, ledger_conn_id: str) -> Inbox | None:
        """The inbox, if it can be had without blocking: open, and looked at a short time ago.

        :param ledger_conn_id: id of the ledger's connection.
        """
        place = self._places.get(ledger_conn_id)
        if place is None or place.open is None or place.open.fresh_until <= self._clock():
            return None
        return place.open.inbox

    def inbox(self, ledger_conn_id: str) -> Inbox:
        """The inbox of a ledger, which is opened, and made, where that is needed.

        :param ledger_conn_id: id of the ledger's connection.
        :raises LedgerError: it cannot be opened.
        """
        return self._get(ledger_conn_id).inbox

    def find(self, ledger_conn_id: str) -> Ledger | None:
        """A ledger that exists; none is made.

        :param ledger_conn_id: id of the ledger's connection.
        :return: None where nothing was ever stored.
        :raises LedgerError: it cannot be opened.
        """
        place = self._places.get(ledger_conn_id)
        if place is None or place.open is None:
            with _as_ledger_errors():
                if not _exists(ledger_conn_id):
                    return None
        return self._get(ledger_conn_id).ledger

    def close(self) -> None:
        """Write what was handed in, and close everything."""
        with self._lock:
            self._closed = True
            places, self._places = list(self._places.values()), {}
        for place in places:
            with place.lock:
                if place.open is not None:
                    _close(place.open)
                    place.open = None

    def _get(self, ledger_conn_id: str) -> _Open:
        with self._lock:
            if self._closed:
                raise LedgerError("the API server is ending")
            place = self._places.setdefault(ledger_conn_id, _Place())
        with place.lock:
            now = self._clock()
            if place.open is not None and place.open.fresh_until <= now:
                self._look_again(place, ledger_conn_id)
            if place.open is not None:
                return place.open
            if place.failure is not None and now < place.retry_at:
                # Without the frames of those who were told before, and what they hold.
                raise place.failure.with_traceback(None)
            try:
                place.open = self._opened(ledger_conn_id)
            except LedgerError as error:
                # From now on: the attempt itself may have taken longer than the pause.
                place.failure, place.retry_at = error, self._clock() + RETRY_SECONDS
                raise
            place.failure = None
            return place.open

    def _opened(self, ledger_conn_id: str) -> _Open:
        with _as_ledger_errors():
            digest = connection_digest(ledger_conn_id)
            ledger = open_ledger(ledger_conn_id)
        return _Open(ledger, Inbox(ledger), digest, self._clock() + FRESH_SECONDS)

    def _look_again(self, place: _Place, ledger_conn_id: str) -> None:
        """Close the ledger if its connection was changed meanwhile."""
        assert place.open is not None
        place.open.fresh_until = self._clock() + FRESH_SECONDS
        try:
            changed = connection_digest(ledger_conn_id) != place.open.digest
        except ConnectionsUnavailableError:
            return  # Airflow's database is away; the ledger's need not be
        if changed:
            log.info("The connection %s was changed: its ledger is opened anew", ledger_conn_id)
            # Not waited for: a server that does not answer any more is why people change connections.
            threading.Thread(target=_close, args=(place.open,), name="popin-closing", daemon=True).start()
            place.open = None


@contextmanager
def _as_ledger_errors() -> Iterator[None]:
    """Whatever keeps a ledger from being opened, as one kind of error. No value of a connection is in it."""
    try:
        yield
    except PopinConfigError as error:
        raise LedgerError(str(error)) from None
    except (ConnectionsUnavailableError, AirflowNotFoundException):
        raise LedgerError("is not defined, or cannot be read now") from None
    except (AirflowException, ImportError, ValueError) as error:
        # ValueError: what drivers say of a URL that they cannot read, which may hold a password.
        raise LedgerError(f"the ledger's connection cannot be used: {type(error).__name__}") from None


def _exists(ledger_conn_id: str) -> bool:
    engine = sql_engine(ledger_conn_id)
    try:
        return Ledger.find(engine) is not None
    finally:
        engine.dispose()


def _close(opened: _Open) -> None:
    opened.inbox.close()
    opened.ledger.engine.dispose()
