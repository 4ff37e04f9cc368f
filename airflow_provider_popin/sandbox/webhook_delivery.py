"""Deliveries under way: waiting for their time, in line, on the wire. Nothing here waits for a receiver.

Endpoints hand a delivery over and go on. A few lanes, each with one connection, send them; those to one
customer share a lane, so that without faults they arrive in the order in which things happened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from airflow_provider_popin.sandbox.rows import WebhookRow
from airflow_provider_popin.sandbox.times import iso
from airflow_provider_popin.sandbox.webhook_settings import WebhookSettings

# More of an answer is not read.
ANSWER_BYTES = 64 * 1024

WAITING, SENDING = "waiting", "sending"
ANSWERED, FAILED, DROPPED, LOST = "answered", "failed", "dropped", "lost"


@dataclass(slots=True, eq=False, kw_only=True)
class Delivery:
    """
    One event on its way to the receiver; `WebhookRow` says what the fields mean. Times are in epoch seconds.

    :param number: the customer's; those of one customer are delivered in order.
    :param render: makes the body when its time has come; until then it needs no memory.
    """

    n: int
    event: str
    customer_id: str
    lead: str | None
    request_n: int | None
    occurred: float
    number: int
    render: Callable[[], bytes]
    faults: tuple[str, ...] = ()
    state: str = WAITING
    status: int | None = None
    error: str | None = None
    sent: float | None = None
    answered: float | None = None

    def row(self) -> WebhookRow:
        """The delivery as JSON-ready mapping."""
        return {
            "n": self.n,
            "event": self.event,
            "customer_id": self.customer_id,
            "lead": self.lead,
            "request_n": self.request_n,
            "occurred": iso(self.occurred),
            "faults": list(self.faults),
            "state": self.state,
            "status": self.status,
            "error": self.error,
            "sent": None if self.sent is None else iso(self.sent),
            "answered": None if self.answered is None else iso(self.answered),
        }


class Deliverer:
    """
    The lanes of one life of the sandbox. All methods belong to the server's event loop.

    :param settings: where to, how many at a time.
    :param ended: called with a delivery when its state is final.
    """

    def __init__(self, *, settings: WebhookSettings, ended: Callable[[Delivery], None]) -> None:
        self._settings = settings
        self._ended = ended
        self._lanes: list[asyncio.Queue[Delivery]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._held: dict[int, Delivery] = {}
        self._task: asyncio.Task[None] | None = None
        self._open: set[Delivery] = set()
        self._closed = False

    def put(self, delivery: Delivery, *, seconds: float) -> None:
        """
        Have something delivered.

        :param delivery: with its faults; those of `drop` and `reorder` are acted on here.
        :param seconds: how long it waits first; 0: it is put in line at once.
        """
        if self._closed or self.open >= self._settings.max_waiting:
            self._end(delivery, LOST)
            return
        if "drop" in delivery.faults:
            self._end(delivery, DROPPED)
            return
        self._open.add(delivery)
        if seconds <= 0:
            self._line_up(delivery)
        else:
            self._later(seconds, lambda: self._line_up(delivery))

    @property
    def open(self) -> int:
        """Deliveries that wait, or are on the wire."""
        return len(self._open)

    async def close(self) -> None:
        """End, and be ready for another loop; what waited is `lost`."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._task, self._closed = None, False

    def stop(self) -> None:
        """End for good, without waiting for connections to be closed; what waited is `lost`."""
        self._closed = True
        self._held.clear()
        for delivery in list(self._open):
            self._end(delivery, LOST)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._task is not None:
            self._task.cancel()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            action()

        timer = asyncio.get_running_loop().call_later(seconds, ring)
        self._timers.add(timer)

    def _line_up(self, delivery: Delivery) -> None:
        before = self._held.pop(delivery.number, None)
        if before is None and "reorder" in delivery.faults:
            self._held[delivery.number] = delivery
            self._later(self._settings.delay_seconds, lambda: self._let_go(delivery))
            return
        self._lane(delivery).put_nowait(delivery)
        if before is not None:
            self._lane(before).put_nowait(before)

    def _let_go(self, delivery: Delivery) -> None:
        """Nothing else came for the customer meanwhile: the delivery is only late."""
        if self._held.get(delivery.number) is delivery:
            del self._held[delivery.number]
            self._lane(delivery).put_nowait(delivery)

    def _lane(self, delivery: Delivery) -> asyncio.Queue[Delivery]:
        if self._task is None:
            self._lanes = [asyncio.Queue() for _ in range(self._settings.connections)]
            self._task = asyncio.get_running_loop().create_task(self._run())
        return self._lanes[delivery.number % len(self._lanes)]

    async def _run(self) -> None:
        limits = aiohttp.ClientTimeout(total=self._settings.timeout_seconds)
        # No proxy from the environment, no cookies: what is sent goes to the URL and nowhere else.
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=limits,
                trust_env=False,
            ) as session,
            asyncio.TaskGroup() as lanes,
        ):
            for lane in self._lanes:
                lanes.create_task(self._serve(session, lane))

    async def _serve(self, session: aiohttp.ClientSession, lane: asyncio.Queue[Delivery]) -> None:
        while True:
            delivery = await lane.get()
            delivery.state, delivery.sent = SENDING, time.time()
            try:
                delivery.status = await self._post(session, delivery.render())
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                delivery.error = type(error).__name__
            delivery.answered = time.time()
            self._end(delivery, FAILED if delivery.status is None else ANSWERED)

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> int:
        settings = self._settings
        headers = {"Content-Type": "application/json"}
        if settings.key:
            headers["X-API-KEY"] = settings.key
        async with session.post(settings.url, data=body, headers=headers, allow_redirects=False) as answer:
            await answer.content.read(ANSWER_BYTES)
            return answer.status

    def _end(self, delivery: Delivery, state: str) -> None:
        delivery.state = state
        self._open.discard(delivery)
        self._ended(delivery)
