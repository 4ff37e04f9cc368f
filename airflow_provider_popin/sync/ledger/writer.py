"""Who writes to the ledger in a run, and the group commit.

Workers hand in events from the engine's loop and await the answer. Whatever has gathered while the last
transaction was being committed shares the next one: the busier the run, the cheaper a commit. An answer is
given only after the commit, so an accepted intent is durable before its POST.

Transactions that admit and plan leads take several round trips to a server; no answer has to wait for them,
so on Postgres they have a thread and a connection of their own. SQLite lets one transaction write at a time:
there a second writer would only wait for the first.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import suppress
from functools import partial
from typing import TypeVar

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger.database import encoding_error
from airflow_provider_popin.sync.ledger.events import Event, Record
from airflow_provider_popin.sync.ledger.known_records import KnownRecords
from airflow_provider_popin.sync.ledger.ledger import Ledger, locked
from airflow_provider_popin.sync.ledger.ledger_thread import LedgerThread

# More would keep the first of them waiting: who is told soon sends while the rest is being written.
MOST_EVENTS = 64
# Those of four workers. Told all at once, the workers would connect, send and be answered side by side: the
# loop would idle for a latency, then have everything to do at once (at 50 ms: a seventh fewer leads).
ANSWERS_AT_ONCE = 8
# An outcome, and the intent of the same worker.
ANSWERS_OF_ONE_WORKER = 2

T = TypeVar("T")
Applied = tuple[bool, float]
_Waiting = tuple[Event, "asyncio.Future[Applied]"]


class Writer:
    """Owns the run's writing connections. Used from one event loop.

    :param ledger: where to write.
    :param account: the account whose leads are written.
    """

    def __init__(self, ledger: Ledger, account: str) -> None:
        self._ledger = ledger
        self._account = account
        self._events = LedgerThread(ledger, "popin-ledger-events")
        self._calls = self._events if ledger.has_one_writer else LedgerThread(ledger, "popin-ledger-calls")
        self._waiting: deque[_Waiting] = deque()
        self._scheduled = False
        self._closing = False
        self._known = KnownRecords(ledger)

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
            self._events.submit(partial(self._write_waiting, loop))
        return answer

    def remember(self, records: Iterable[Record]) -> None:
        """Spare the writer reading these again when they are sent.

        :param records: as :meth:`call` has just committed them; the writer changes them when their next event
            is applied, and whoever calls leaves them alone from then on
        """
        self._known.remember(records)

    async def call(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a write transaction of its own; returns when it is durable.

        Calls are made in order; events that were handed in before and not awaited may be applied after it.

        :param work: given the connection; runs in a thread of the writer, and again where the database rolled
            it back.
        :raises LedgerError: not written, as far as the database says.
        """
        return await asyncio.wrap_future(self._calls.submit(partial(self._calls.transact, work)))

    def close(self) -> None:
        """Write what was handed in, close the connections and end the threads."""
        self._closing = True
        if self._calls is not self._events:
            self._calls.close()
        self._events.submit(self._finish)
        self._events.close()

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        # Before taking the batch: an event that comes later schedules a write of its own.
        self._scheduled = False
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < MOST_EVENTS:
            batch.append(self._waiting.popleft())
        results: Sequence[Applied | BaseException]
        try:
            results = self._write(batch)
        except BaseException as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            results = [error] * len(batch)
        with suppress(RuntimeError):  # the loop is closed: what is left is written all the same
            _tell(loop, batch, results, self._waiting)
        if self._waiting and not self._scheduled and not self._closing:
            # Behind whatever else waits for this thread.
            self._scheduled = True
            self._events.submit(partial(self._write_waiting, loop))

    def _finish(self) -> None:
        while self._waiting:
            _, answer = self._waiting[0]
            self._write_waiting(answer.get_loop())

    def _write(self, batch: Sequence[_Waiting]) -> list[Applied | LedgerError]:
        started = boot_seconds()
        events = [event for event, _ in batch]
        try:
            written = self._apply_to_known(events)
        except LedgerUnreachableError as error:
            return [error] * len(batch)
        others = [event for event, ok in zip(events, written, strict=True) if not ok]
        rest = iter(self._write_under_lock(others) if others else [])
        self._known.forget_settled(events)
        accepted = True, started
        return [accepted if ok else next(rest) for ok in written]

    def _apply_to_known(self, events: Sequence[Event]) -> list[bool]:
        if not all(event.id in self._known for event in events):
            return [False] * len(events)
        try:
            return self._events.transact(
                lambda connection: self._known.apply(connection, events), statements=True
            )
        except LedgerUnreachableError:
            self._known.forget(event.id for event in events)
            raise
        except (LedgerError, ValueError):
            # Something here cannot be stored: under the lock it is found out which event it is.
            self._known.forget(event.id for event in events)
            return [False] * len(events)

    def _write_under_lock(self, events: Sequence[Event]) -> list[Applied | LedgerError]:
        started = boot_seconds()
        try:
            accepted, records = self._events.transact(partial(self._apply_under_lock, events=events))
        except LedgerUnreachableError as error:
            return [error] * len(events)
        except (LedgerError, ValueError) as error:
            if len(events) == 1:
                return [encoding_error(error) if isinstance(error, ValueError) else error]
            # One event that the database cannot store must not take its neighbours' outcomes with it.
            return [told for event in events for told in self._write_under_lock([event])]
        self._known.remember(records.values())
        return [(ok, started) for ok in accepted]

    def _apply_under_lock(
        self, connection: Connection, events: Sequence[Event]
    ) -> tuple[list[bool], dict[int, Record]]:
        records = locked(connection, [event.id for event in events])
        return self._ledger.apply(connection, self._account, events, records), records


def _tell(
    loop: asyncio.AbstractEventLoop,
    batch: Sequence[_Waiting],
    results: Sequence[Applied | BaseException],
    waiting: Sized,
) -> None:
    """Let the loop answer the workers one by one, each sending before the next is told.

    Workers that are told together send together, are answered together, and wait for each other again.

    :param waiting: what is to be written next; for its sake, the rest is told at once
    """
    told, step = 0, ANSWERS_OF_ONE_WORKER
    while len(batch) - told > step and not waiting:
        loop.call_soon_threadsafe(_deliver, loop, batch[told : told + step], results[told : told + step])
        told += step
        time.sleep(0)  # lets go of the interpreter's lock
    loop.call_soon_threadsafe(_deliver, loop, batch[told:], results[told:])


def _deliver(
    loop: asyncio.AbstractEventLoop, batch: Sequence[_Waiting], results: Sequence[Applied | BaseException]
) -> None:
    """Give the answers in order, a few in each turn of the loop."""
    for (_, answer), result in zip(batch[:ANSWERS_AT_ONCE], results, strict=False):
        if answer.done():  # its worker was cancelled meanwhile
            continue
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)
    if len(batch) > ANSWERS_AT_ONCE:
        loop.call_soon(_deliver, loop, batch[ANSWERS_AT_ONCE:], results[ANSWERS_AT_ONCE:])
