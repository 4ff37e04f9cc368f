"""Durable receipt of webhooks: many deliveries share a transaction, an identical body is one event."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger.database import encoding_error
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.deliveries import Delivery, Receipt, body_key, store
from airflow_provider_popin.webhooks.events import CallEvent

# More than this waiting for the database means that it does not keep up.
MAX_WAITING = 2_000
_MAX_BATCH = 200

_Waiting = tuple[Delivery, "Future[Receipt]"]


class InboxFullError(LedgerError):
    """The database does not keep up, or the inbox is closed: nothing was taken, deliver again later."""


class Inbox:
    """Takes deliveries for one ledger. Thread-safe; its thread starts with the first delivery.

    :param ledger: where events are kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._connection: Connection | None = None

    def submit(
        self, *, conn_id: str, account: str, body: bytes, event: CallEvent, key: bytes
    ) -> Future[Receipt]:
        """Hand in one delivery; what is handed in together shares a transaction.

        :param conn_id: the Popin connection that it was delivered to.
        :param account: ``ClientConfig.account_key`` of that connection.
        :param body: as received; only its HMAC is stored.
        :param event: what :func:`.envelopes.parse_event` made of it.
        :param key: secret, for the HMAC; with another key the same body is another event.
        :return: done when the event is durable, or a
            :class:`~airflow_provider_popin.sync.errors.LedgerError`. An event loop may
            ``await asyncio.wrap_future(...)``.
        :raises InboxFullError: too much is waiting already, or the inbox is closed.
        """
        delivery = Delivery(conn_id=conn_id, account=account, body_key=body_key(body, key), event=event)
        receipt: Future[Receipt] = Future()
        with self._changed:
            if self._closed:
                raise InboxFullError("the inbox is closed")
            if len(self._waiting) >= MAX_WAITING:
                raise InboxFullError(f"{MAX_WAITING} deliveries wait for the ledger's database already")
            self._waiting.append((delivery, receipt))
            if self._thread is None:
                # A daemon: a process that ends is not kept by deliveries that nobody was promised.
                self._thread = threading.Thread(target=self._write, name="popin-inbox", daemon=True)
                self._thread.start()
            self._changed.notify()
        return receipt

    def close(self) -> None:
        """Write what was handed in, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _write(self) -> None:
        try:
            while batch := self._next_batch():
                self._deliver(batch)
        finally:
            self._disconnect()
            with self._changed:
                # Ended by an unforeseen error, it is replaced with the next delivery.
                self._thread = None

    def _next_batch(self) -> list[_Waiting]:
        """Wait for deliveries; none when the inbox is closed."""
        if not self._waiting:
            # Hours may pass, and the server may end the session: the pool looks whether it is still there.
            self._disconnect()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]

    def _deliver(self, batch: Sequence[_Waiting]) -> None:
        try:
            receipts = self._store([delivery for delivery, _ in batch])
        except (LedgerError, ValueError) as error:
            # One delivery that the database refuses must not take its neighbours with it.
            if len(batch) > 1 and not isinstance(error, LedgerUnreachableError):
                for waiting in batch:
                    self._deliver([waiting])
                return
            for _, receipt in batch:
                _fail(receipt, error)
        except BaseException as error:
            # Whoever waits must not wait for a thread that is gone.
            for _, receipt in batch:
                _fail(receipt, error)
            raise
        else:
            for (_, receipt), told in zip(batch, receipts, strict=True):
                if receipt.set_running_or_notify_cancel():
                    receipt.set_result(told)

    def _store(self, batch: Sequence[Delivery]) -> list[Receipt]:
        if self._connection is None:
            self._connection = self._ledger.connect()
        try:
            with self._ledger.write(self._connection) as connection:
                return store(connection, batch)
        except BaseException:
            # The connection may be the cause; the next transaction gets a fresh one.
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _fail(receipt: Future[Receipt], error: BaseException) -> None:
    if receipt.set_running_or_notify_cancel():
        receipt.set_exception(encoding_error(error) if isinstance(error, ValueError) else error)
