"""The one thread that writes to the ledger, and its group commit.

Workers hand in events from the engine's loop and await the answer. Whatever has gathered while the last
transaction was being committed shares the next one: the busier the run, the cheaper a commit. An answer is
given only after the commit, so an accepted intent is durable before its POST.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.events import Event
from airflow_provider_popin.sync.ledger import Ledger, LedgerUnreachableError

T = TypeVar("T")
Applied = tuple[bool, float]
_Waiting = tuple[Event, "asyncio.Future[Applied]"]


class Writer:
    """Owns the run's writing connection. Used from one event loop.

    :param ledger: where to write.
    :param account: the account whose leads are written.
    """

    def __init__(self, ledger: Ledger, account: str) -> None:
        self._ledger = ledger
        self._account = account
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="popin-ledger-writer")
        self._waiting: deque[_Waiting] = deque()
        self._scheduled = False
        self._connection: Connection | None = None

    def apply(self, event: Event) -> asyncio.Future[Applied]:
        """Hand in one event, at once: what is handed in together shares a transaction.

        :param event: see ``states``.
        :return: done when the event is durable: whether it was accepted, and ``boot_seconds()`` just before
            its transaction, the moment from which an intent's deadline counts at the earliest. Or a
            :class:`.errors.LedgerError`: not written, as far as the database says.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Applied] = loop.create_future()
        self._waiting.append((event, answer))
        if not self._scheduled:
            self._scheduled = True
            batch: list[_Waiting] = []
            written = loop.run_in_executor(self._thread, self._write_waiting, batch)
            written.add_done_callback(partial(_deliver, batch))
        return answer

    async def call(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a write transaction of its own; returns when it is durable.

        :param work: given the connection; runs in the writer's thread.
        :raises LedgerError: not written, as far as the database says.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def close(self) -> None:
        """Write what was handed in, close the connection and end the thread."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=True)

    def _write_waiting(self, batch: list[_Waiting]) -> list[Applied | LedgerError]:
        # Before taking the batch: an event that comes later schedules a write of its own.
        self._scheduled = False
        while self._waiting:
            batch.append(self._waiting.popleft())
        return self._write(batch)

    def _write(self, batch: Sequence[_Waiting]) -> list[Applied | LedgerError]:
        events = [event for event, _ in batch]
        started = boot_seconds()
        try:
            accepted = self._transact(
                lambda connection: self._ledger.apply(connection, self._account, events)
            )
        except LedgerUnreachableError as error:
            return [error] * len(batch)
        except (LedgerError, ValueError) as error:
            # ValueError: what drivers say of text that they cannot encode (NUL, half a surrogate pair).
            if len(batch) == 1:
                return [_as_ledger_error(error)]
            # One event that the database cannot store must not take its neighbours' outcomes with it.
            return [told for waiting in batch for told in self._write([waiting])]
        return [(ok, started) for ok in accepted]

    def _transact(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._ledger.connect()
        try:
            with self._ledger.write(self._connection) as connection:
                return work(connection)
        except LedgerError:
            # The connection may be the cause; the next transaction gets a fresh one.
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _as_ledger_error(error: LedgerError | ValueError) -> LedgerError:
    if isinstance(error, LedgerError):
        return error
    return LedgerError(f"the database's driver cannot encode a value: {type(error).__name__}")


def _deliver(batch: list[_Waiting], written: asyncio.Future[list[Applied | LedgerError]]) -> None:
    failure = written.exception()
    results = [failure] * len(batch) if failure is not None else written.result()
    for (_, answer), result in zip(batch, results, strict=True):
        if answer.done():  # its worker was cancelled meanwhile
            continue
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)
