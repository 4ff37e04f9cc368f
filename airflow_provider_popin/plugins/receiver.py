"""``POST /popin/webhooks/<connection id>``: a delivery is answered with 200 when it is durable, not before.

=====  ==============================================================================
200    stored in the ledger of this connection, or known from the last 24 hours
400    no JSON object with a text ``event``
401    not the key of this connection; no such connection; no key configured (closed)
405    another method than POST
408    the body did not come in time
413    the body is larger than 64 KB
415    another type than JSON, or an encoded body
503    not stored: come again after ``Retry-After`` seconds
=====  ==============================================================================

The key is looked at before the body. No answer and no log line holds anything of a delivery or a key.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import TypeVar

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_popin.plugins.admission import BusyError, Doorkeeper, RefusedError
from airflow_provider_popin.plugins.background import Background
from airflow_provider_popin.plugins.bodies import (
    READ_SECONDS,
    BodyTooLargeError,
    BodyTooSlowError,
    discard_body,
    read_body,
)
from airflow_provider_popin.plugins.connections import WebhookConnection
from airflow_provider_popin.plugins.ledgers import Ledgers
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.webhooks.deliveries import Receipt
from airflow_provider_popin.webhooks.envelopes import WebhookBodyError, parse_event
from airflow_provider_popin.webhooks.inbox import Inbox

log = logging.getLogger(__name__)

T = TypeVar("T")

# Deliveries under way in one process; each holds 64 KB at most.
MAX_UNDER_WAY = 512
MAX_DISCARDING = 256
DISCARD_SECONDS = 0.5
# Refusals take their time, all alike: it tells nothing, and slows down who guesses.
REFUSAL_SECONDS = 0.1
STORE_SECONDS = 20.0
CLOSE_SECONDS = 10.0
SWITCH_SECONDS = 0.0005
RETRY_AFTER_SECONDS = 2
COMPLAIN_SECONDS = 60.0
# Popin's bodies take 0.1 ms, less than the way to another thread and back.
PARSED_AT_ONCE_BYTES = 4096
_KEY_HEADER = b"x-api-key"
# What may stand in the host part of an asset's URI, too. Airflow allows more characters in ids.
_CONN_ID = re.compile(r"[A-Za-z0-9_.-]{1,200}")


class _Parts:
    """What one serving process has open: threads, ledgers, connections. Made after any fork."""

    def __init__(self) -> None:
        self.doorkeeper = Doorkeeper()
        self.ledgers = Ledgers()
        # Parses large bodies, and opens ledgers.
        self.threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="popin-receiver")
        self.background: Background | None = None
        self._opening: dict[str, asyncio.Future[Inbox]] = {}

    async def inbox(self, ledger_conn_id: str) -> Inbox:
        """The inbox of a ledger. However many wait for it, one thread does: a database that hangs keeps its
        own deliveries waiting, and none of another ledger.
        """
        if (ready := self.ledgers.ready(ledger_conn_id)) is not None:
            return ready
        opening = self._opening.get(ledger_conn_id)
        if opening is None:
            loop = asyncio.get_running_loop()
            opening = loop.run_in_executor(self.threads, self.ledgers.inbox, ledger_conn_id)
            self._opening[ledger_conn_id] = opening
            opening.add_done_callback(lambda _: self._opening.pop(ledger_conn_id))
        return await _outlived(opening)

    def start_background(self, loop: asyncio.AbstractEventLoop) -> None:
        def listed(connections: Sequence[WebhookConnection]) -> None:
            if any(connection.key_digest is not None for connection in connections):
                _prepare_process()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.doorkeeper.expect, connections)

        self.background = Background(self.ledgers, listed=listed)
        self.background.start()

    def close(self) -> None:
        if self.background is not None:
            self.background.stop()
        self.doorkeeper.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
        # A database that hangs must not keep the API server from ending.
        closer = threading.Thread(target=self.ledgers.close, daemon=True)
        closer.start()
        closer.join(CLOSE_SECONDS)


class Receiver:
    """Takes deliveries, in one API server process at a time."""

    def __init__(self) -> None:
        self._parts: _Parts | None = None
        self._under_way = 0
        self._discarding = 0
        self._complained: dict[str, float] = {}

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Run the background thread while the API server serves.

        Airflow enters this in each of its server's processes, after they were forked, and nowhere else.

        :param _app: the app that is served.
        """
        parts = self._parts = _Parts()
        parts.start_background(asyncio.get_running_loop())
        try:
            yield
        finally:
            self._parts = None
            await asyncio.to_thread(parts.close)

    async def receive(self, request: Request) -> Response:
        """Answer one delivery.

        :param request: with ``conn_id`` in its path.
        """
        started = time.monotonic()
        # A server that enters no lifespan has no background; the next lead sync processes what it takes.
        parts = self._parts = self._parts or _Parts()
        conn_id = request.path_params["conn_id"]
        try:
            if _CONN_ID.fullmatch(conn_id) is None:
                raise RefusedError
            connection = await parts.doorkeeper.admit(conn_id, _presented(request))
        except RefusedError:
            return await self._refuse(request, started)
        except BusyError as error:
            return await self._put_off(request, str(error))
        if self._under_way >= MAX_UNDER_WAY:
            return await self._put_off(request, f"{MAX_UNDER_WAY} deliveries are under way in this process")
        self._under_way += 1
        try:
            return await self._take(parts, connection, request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        finally:
            self._under_way -= 1

    async def _refuse(self, request: Request, started: float) -> Response:
        complete = await self._discard(request)
        await asyncio.sleep(max(0.0, started + REFUSAL_SECONDS - time.monotonic()))
        return _problem(401, "not the key of this address", close=not complete)

    async def _put_off(self, request: Request, why: str) -> Response:
        self._complain(why, about=why)
        return _busy(close=not await self._discard(request))

    async def _discard(self, request: Request) -> bool:
        """Let a body pass that nobody wants; False where the connection should be closed."""
        if self._discarding >= MAX_DISCARDING:
            return False
        self._discarding += 1
        try:
            return await discard_body(request, seconds=DISCARD_SECONDS)
        except ClientDisconnect:
            return False
        finally:
            self._discarding -= 1

    async def _take(self, parts: _Parts, connection: WebhookConnection, request: Request) -> Response:
        if not _is_json(request):
            complete = await self._discard(request)
            return _problem(415, "send application/json, not encoded", close=not complete)
        try:
            body = await read_body(request, seconds=READ_SECONDS)
        except BodyTooLargeError:
            return _problem(413, "the body is larger than 64 KB", close=True)
        except BodyTooSlowError:
            return _problem(408, "the body did not come in time", close=True)
        try:
            receipt = await asyncio.wait_for(_receipt(parts, connection, body), STORE_SECONDS)
        except WebhookBodyError as error:
            return _problem(400, f"not a webhook of Popin's: {error.reason}")
        except (LedgerError, TimeoutError) as error:
            why = str(error) or "the database did not answer in time"
            where = f"connection {connection.conn_id}, its ledger connection {connection.ledger_conn_id}"
            self._complain(f"{where}: {why}", about=connection.conn_id)
            return _busy()
        if parts.background is not None and connection.ledger_conn_id is not None:
            parts.background.wake(connection.ledger_conn_id)
        return JSONResponse({"received": True, "duplicate": receipt.duplicate})

    def _complain(self, why: str, *, about: str) -> None:
        """Log it, once a minute for what it is about: there may be hundreds of deliveries a second."""
        now = time.monotonic()
        if now - self._complained.get(about, -math.inf) >= COMPLAIN_SECONDS:
            self._complained[about] = now
            log.error("Webhooks are answered with 503: %s", why)


def make_app() -> FastAPI:
    """Make the app that Airflow mounts. Nothing runs before it is served."""
    receiver = Receiver()
    return FastAPI(
        title="Popin webhooks",
        routes=[Route(path, receiver.receive, methods=["POST"]) for path in ("/{conn_id}", "/{conn_id}/")],
        # A redirect would be built from whatever host the sender names, and before any key is looked at.
        redirect_slashes=False,
        lifespan=receiver.lifespan,
        # Strangers reach it: there is nothing to read here.
        openapi_url=None,
    )


@cache
def _prepare_process() -> None:
    """Once in a process that takes webhooks: what keeps 200 deliveries a second from stopping one another.

    An API server holds about a million objects. Under such a load, Python's collector would look through all
    of them about once a second, for a third of the time (measured); they live as long as the process.
    And a thread that comes back from the database, which it does several times for each delivery, waits for
    the interpreter for 5 ms by default, whenever the event loop is busy.
    """
    gc.freeze()
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))


def _presented(request: Request) -> bytes | None:
    """The key that came, as bytes; None if none came, or several."""
    keys = [value for name, value in request.headers.raw if name == _KEY_HEADER]
    return keys[0] if len(keys) == 1 else None


def _is_json(request: Request) -> bool:
    """Whether the body may be JSON; a sender that names no type may have meant it."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    suits = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    return suits and request.headers.get("content-encoding", "identity").strip().lower() == "identity"


async def _receipt(parts: _Parts, connection: WebhookConnection, body: bytes) -> Receipt:
    """Return when the delivery is durable."""
    if connection.ledger_conn_id is None:
        raise LedgerError("the field ledger_conn_id is empty")
    if len(body) <= PARSED_AT_ONCE_BYTES:
        event = parse_event(body)
    else:
        loop = asyncio.get_running_loop()
        event = await loop.run_in_executor(parts.threads, parse_event, body)
    inbox = await parts.inbox(connection.ledger_conn_id)
    stored = inbox.submit(
        conn_id=connection.conn_id,
        account=connection.account,
        body=body,
        event=event,
        key=connection.secret,
    )
    return await _outlived(asyncio.wrap_future(stored))


async def _outlived(work: asyncio.Future[T]) -> T:
    """Wait for work that goes on when nobody waits any more: nothing is taken out of a transaction."""
    # Else asyncio logs each failure that nobody waited for, with its traceback.
    work.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    await asyncio.wait({work})
    return work.result()


def _busy(*, close: bool = False) -> Response:
    answer = _problem(503, "not stored; deliver it again", close=close)
    answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return answer


def _problem(status: int, detail: str, *, close: bool = False) -> Response:
    # What is left of a body would be read from this connection for nothing.
    headers = {"Connection": "close"} if close else None
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)
