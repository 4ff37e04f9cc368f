"""Who may deliver: the key of a connection, compared; connections read now and then; guesses kept cheap.

Runs in the event loop of one API server process. A connection is read from Airflow at most every
:data:`FRESH_SECONDS`, in a thread. Whether an id exists cannot be learned here: a wrong key, an unknown id
and a connection without a key get the same answer, and all of them use up the same few guesses per second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from airflow_provider_popin.plugins.connections import (
    ConnectionsUnavailableError,
    WebhookConnection,
    read_webhook_connection,
)

log = logging.getLogger(__name__)

# A changed key counts after this time at the latest.
FRESH_SECONDS = 30.0
# How long a known connection counts while Airflow's database does not answer.
STALE_SECONDS = 900.0
MAX_REMEMBERED = 256
GUESSES_PER_SECOND = 20
# Longer than a slow database takes: whether Popin delivers again what was not taken, nobody knows.
_LOOKUP_SECONDS = 15.0
# With an older version of the connection at hand, nobody waits long for a newer one.
_REFRESH_SECONDS = 1.0
_UNREADABLE = "connections cannot be read from Airflow (its database or secrets backend does not answer)"


class RefusedError(Exception):
    """Wrong key, no key, unknown connection: all the same to the caller."""


class BusyError(Exception):
    """No answer can be given now: too many guesses, or connections cannot be read. The caller may return.

    Its text says which of the two, for the log; nothing of the delivery is in it.
    """


@dataclass(slots=True)
class _Known:
    connection: WebhookConnection
    read_at: float
    fresh_until: float


class Doorkeeper:
    """Admits deliveries.

    :param read: reads a connection, blocking; see ``connections``.
    :param clock: seconds that only grow.
    """

    def __init__(
        self,
        read: Callable[[str], WebhookConnection | None] = read_webhook_connection,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        # Two memories, so that guesses never push out a connection that is in use.
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._reading: dict[str, asyncio.Task[WebhookConnection | None]] = {}
        self._guesses: deque[float] = deque()
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="popin-connections")

    async def admit(self, conn_id: str, presented: bytes | None) -> WebhookConnection:
        """Return the connection if this is its key.

        :param conn_id: from the address.
        :param presented: from the header; None if it was absent.
        :raises RefusedError: not admitted.
        :raises BusyError: not known now.
        """
        known = self._known.get(conn_id)
        guessed = False
        if known is None:
            # Paid before the look, which must not be had for free; a look that is under way costs nothing.
            if guessed := conn_id not in self._reading:
                self._take_guess()
            connection = await self._look_up(conn_id)
        else:
            if known.fresh_until <= self._clock():
                await self._refresh(conn_id, known)
                known = self._known.get(conn_id)
            connection = None if known is None else known.connection
        if connection is None or not connection.accepts(presented):
            if not guessed:
                self._take_guess()
            raise RefusedError
        return connection

    def expect(self, connections: Iterable[WebhookConnection]) -> None:
        """Learn connections that were read elsewhere, so that the first delivery need not wait.

        :param connections: read just now.
        """
        for connection in connections:
            self._remember(connection.conn_id, connection)

    def close(self) -> None:
        """End the threads, as soon as what they read has come."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _take_guess(self) -> None:
        now = self._clock()
        while self._guesses and self._guesses[0] <= now - 1.0:
            self._guesses.popleft()
        if len(self._guesses) >= GUESSES_PER_SECOND:
            raise BusyError(f"more than {GUESSES_PER_SECOND} unknown addresses or wrong keys in a second")
        self._guesses.append(now)

    async def _look_up(self, conn_id: str) -> WebhookConnection | None:
        if self._unknown.get(conn_id, 0.0) > self._clock():
            return None
        reading = self._start_reading(conn_id)
        await asyncio.wait({reading}, timeout=_LOOKUP_SECONDS)
        if not reading.done():
            raise BusyError(f"a connection could not be read from Airflow within {_LOOKUP_SECONDS:g} s")
        if reading.exception() is not None:
            raise BusyError(_UNREADABLE)
        return reading.result()

    async def _refresh(self, conn_id: str, known: _Known) -> None:
        reading = self._start_reading(conn_id)
        await asyncio.wait({reading}, timeout=_REFRESH_SECONDS)
        if reading.done() and reading.exception() is None:
            return
        if self._clock() - known.read_at > STALE_SECONDS:
            raise BusyError(_UNREADABLE)
        # Not at every delivery again.
        known.fresh_until = self._clock() + _REFRESH_SECONDS

    def _start_reading(self, conn_id: str) -> asyncio.Task[WebhookConnection | None]:
        """One reading of a connection at a time, whoever waits for it."""
        reading = self._reading.get(conn_id)
        if reading is None or reading.done():
            reading = asyncio.ensure_future(self._read_and_remember(conn_id))
            self._reading[conn_id] = reading
            reading.add_done_callback(lambda done: self._forget_reading(conn_id, done))
        return reading

    async def _read_and_remember(self, conn_id: str) -> WebhookConnection | None:
        connection = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, conn_id)
        self._remember(conn_id, connection)
        return connection

    def _forget_reading(self, conn_id: str, done: asyncio.Task[WebhookConnection | None]) -> None:
        if self._reading.get(conn_id) is done:
            del self._reading[conn_id]
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, ConnectionsUnavailableError):
            log.error("Reading a connection failed: %s", type(error).__name__)

    def _remember(self, conn_id: str, connection: WebhookConnection | None) -> None:
        now = self._clock()
        if connection is None or connection.key_digest is None:
            self._known.pop(conn_id, None)
            self._unknown[conn_id] = now + FRESH_SECONDS
            _shorten(self._unknown)
            return
        self._unknown.pop(conn_id, None)
        self._known[conn_id] = _Known(connection, now, now + FRESH_SECONDS)
        _shorten(self._known)


def _shorten(memory: OrderedDict[str, _Known] | OrderedDict[str, float]) -> None:
    while len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)
