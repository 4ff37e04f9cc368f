"""The thread of an API server process that processes deliveries and emits asset events.

It looks at once after a delivery, and every :data:`POLL_SECONDS` whether anything waits: a delivery that was
answered just before the process died, an asset event that Airflow's database did not take, what another
process left behind. Several processes may do this at once; leases in the ledger keep them apart.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from airflow_provider_popin.plugins.connections import (
    ConnectionsUnavailableError,
    WebhookConnection,
    list_webhook_connections,
)
from airflow_provider_popin.plugins.ledgers import Ledgers
from airflow_provider_popin.plugins.outbox import EmissionError, emit_waiting
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.webhooks.processing import process_waiting

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# How often connections are listed: one that was added by hand is found, at the latest, after this time.
LIST_SECONDS = 60.0
# A burst gathers, and is processed in few transactions.
GATHER_SECONDS = 0.1
# Receipts need the same databases, and somebody waits for them: short transactions, and a pause after each.
EVENTS_AT_A_TIME = 25
PAUSE_SECONDS = 0.05
STOP_SECONDS = 5.0
THREAD_NAME = "popin-webhooks"

Listing = Callable[[], Sequence[WebhookConnection]]


class Background:
    """Processes what was delivered. Start it once, in the process that serves.

    :param ledgers: shared with the receiver.
    :param listed: told which connections there are, whenever they are listed; in this thread.
    :param list_connections: lists connections, blocking.
    """

    def __init__(
        self,
        ledgers: Ledgers,
        *,
        listed: Callable[[Sequence[WebhookConnection]], None] = lambda connections: None,
        list_connections: Listing = list_webhook_connections,
    ) -> None:
        self._ledgers = ledgers
        self._listed = listed
        self._list = list_connections
        self._ledger_ids: set[str] = set()
        self._list_at = 0.0
        self._in_trouble: set[str] = set()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        # A daemon: an API server that is told to end must not wait for a database.
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def wake(self, ledger_conn_id: str) -> None:
        """Say that something was delivered; returns at once. Any thread.

        :param ledger_conn_id: id of the ledger's connection.
        """
        self._ledger_ids.add(ledger_conn_id)
        self._woken.set()

    def stop(self) -> None:
        """End the thread after the transaction that it is in; wait for that, but not for ever."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def run_once(self) -> bool:
        """Process what waits in every known ledger.

        :return: whether more is waiting already.
        """
        if time.monotonic() >= self._list_at:
            self._list_at = time.monotonic() + LIST_SECONDS
            if not self._attempt("connections", self._list_connections):
                self._list_at = time.monotonic() + POLL_SECONDS
        # Each ledger gets its turn, whatever became of those before it.
        more = [self._attempt(known, partial(self._work, known)) for known in sorted(self._ledger_ids)]
        return any(more)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            if self.run_once():
                self._stopping.wait(PAUSE_SECONDS)
            elif self._woken.wait(POLL_SECONDS):
                self._stopping.wait(GATHER_SECONDS)

    def _attempt(self, what: str, work: Callable[[], bool]) -> bool:
        """Return what ``work`` returns; False where it failed, for now."""
        try:
            answer = work()
        except (LedgerError, EmissionError, ConnectionsUnavailableError) as error:
            self._trouble(what, str(error) or "Airflow's connections cannot be read")
        except Exception as error:  # noqa: BLE001  the thread, and the other ledgers, outlive the unforeseen
            # No text and no traceback: they may quote a delivery.
            self._trouble(what, f"unforeseen {type(error).__name__}")
        else:
            self._in_trouble.discard(what)
            return answer
        return False

    def _list_connections(self) -> bool:
        connections = self._list()
        self._ledger_ids.update(one.ledger_conn_id for one in connections if one.ledger_conn_id)
        self._listed(connections)
        return True

    def _work(self, ledger_conn_id: str) -> bool:
        """Process and emit a little of what waits in one ledger; True where there is more."""
        ledger = self._ledgers.find(ledger_conn_id)
        if ledger is None:
            return False
        more = process_waiting(ledger, limit=EVENTS_AT_A_TIME).still_waiting
        return emit_waiting(ledger) or more

    def _trouble(self, what: str, why: str) -> None:
        """Say it once, and again only after it was well in between."""
        if what not in self._in_trouble:
            log.warning("Webhooks wait to be processed (%s): %s", what, why)
        self._in_trouble.add(what)
