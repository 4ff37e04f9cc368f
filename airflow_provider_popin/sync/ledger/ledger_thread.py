"""A thread that writes to the ledger, on connections of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.errors import LedgerError, LedgerRolledBackError
from airflow_provider_popin.sync.ledger.ledger import Ledger

# Whoever was rolled back once, to end a deadlock or a conflict, rarely is again.
ROLLBACKS_FORGIVEN = 3

T = TypeVar("T")


class LedgerThread:
    """Does what it is given, in order.

    :param ledger: where to write
    :param name: of the thread
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._transactions: Connection | None = None
        self._statements: Connection | None = None

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Do something behind what was submitted before; from any thread.

        :param work: runs in this thread
        """
        return self._thread.submit(work)

    def transact(self, work: Callable[[Connection], T], *, statements: bool = False) -> T:
        """Run ``work`` in a write transaction; returns when it is durable. To be called in this thread.

        :param work: given the connection; called again where the database rolled it back
        :param statements: on a connection that may commit each statement
        :raises LedgerError: not written, as far as the database says
        """
        for _ in range(ROLLBACKS_FORGIVEN):
            with suppress(LedgerRolledBackError):
                return self._transact(work, statements)
        return self._transact(work, statements)

    def close(self) -> None:
        """Do what was submitted, close the connections and end the thread."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=True)

    def _transact(self, work: Callable[[Connection], T], statements: bool) -> T:
        try:
            if statements and self._statements is None:
                self._statements = self._ledger.connect_for_statements()
            if not statements and self._transactions is None:
                self._transactions = self._ledger.connect()
            with self._ledger.write(self._statements if statements else self._transactions) as connection:
                return work(connection)
        except LedgerError:
            # A connection may be the cause; the next transaction gets a fresh one.
            for kept in (self._transactions, self._statements):
                if kept is not None:
                    kept.invalidate()
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        for connection in (self._transactions, self._statements):
            if connection is not None:
                connection.close()
        self._transactions = self._statements = None
