"""`/_sandbox/*`: ask the oracle, set faults, start over. No key needed, but only this machine may ask.

- GET `/_sandbox`: settings, faults in force, all known faults
- GET `/_sandbox/requests`: `{"requests": [...]}`, oldest first; filters `endpoint`, `lead`, `limit` (the
  newest)
- GET `/_sandbox/bookings`: `{"bookings": [...]}`, oldest first; filter `lead`
- GET `/_sandbox/customers`: `{"customers": [...]}` with the fields as received; filter `lead`
- GET `/_sandbox/webhooks`: `{"webhooks": [...]}`, what was sent and how it was answered; filters `event`,
  `lead`, `state`, `limit`
- POST `/_sandbox/webhooks`: `{"event": "popin_outgoing_call_initiated", "customer_id": "MTAwMQ=="}` sends one
  now, about the customer's newest booking; `participant` for `popin_outgoing_call_network_failure`
- GET `/_sandbox/stats`: the counts
- GET `/_sandbox/faults`: the faults in force
- POST `/_sandbox/faults`: `{"faults": ["schedule:500_after_commit@1"], "seed": 0}` replaces all
- POST `/_sandbox/reset`: everything as at the start; a body may hold settings that differ until the next
  reset
- POST `/_sandbox/outage`: `{"seconds": 0.5}`, all connections reset and the port closed for so long

Rows and counts are those of `rows`. What cannot be done is answered with 400 and a `message`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict
from datetime import datetime, time
from itertools import islice
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from airflow_provider_popin.sandbox.fault_kinds import ALIASES, KINDS
from airflow_provider_popin.sandbox.loopback import is_loopback
from airflow_provider_popin.sandbox.oracle import ENDPOINTS
from airflow_provider_popin.sandbox.rows import RequestRow, WebhookRow

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.app import SandboxApp

PREFIX = "/_sandbox"
ROWS_PER_CHUNK = 1000

Handler = Callable[[Request], Awaitable[Response]]


def make_control(app: SandboxApp) -> Starlette:
    """
    The application for everything but the three endpoints.

    :param app: the sandbox.
    :return: its control application; unknown paths answer 404 as JSON.
    """
    control = _Control(app)
    handlers: list[tuple[str, str, Handler]] = [
        ("GET", "", control.overview),
        ("GET", "/requests", control.requests),
        ("GET", "/bookings", control.bookings),
        ("GET", "/customers", control.customers),
        ("GET", "/webhooks", control.webhooks),
        ("POST", "/webhooks", control.send_webhook),
        ("GET", "/stats", control.stats),
        ("GET", "/faults", control.faults),
        ("POST", "/faults", control.set_faults),
        ("POST", "/reset", control.reset),
        ("POST", "/outage", control.outage),
    ]
    routes = [
        Route(PREFIX + path, _local_only(handler), methods=[method]) for method, path, handler in handlers
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: control.failed})


class _Control:
    """The handlers; all run in the server's event loop, so none sees a half-made change."""

    def __init__(self, app: SandboxApp) -> None:
        self.app = app

    async def overview(self, request: Request) -> Response:
        world = self.app.world
        settings = {
            name: _plain(value) for name, value in asdict(world.settings).items() if name != "api_key"
        }
        known = {name: kind.meaning for name, kind in KINDS.items()}
        return JSONResponse(
            {
                "settings": settings,
                "faults": list(world.plan.specs),
                "known_faults": known,
                "aliases": ALIASES,
            }
        )

    async def requests(self, request: Request) -> Response:
        query = request.query_params
        endpoint = query.get("endpoint")
        if endpoint is not None and endpoint not in ENDPOINTS:
            raise HTTPException(400, "endpoint: one of {}".format(", ".join(ENDPOINTS)))
        rows = self.app.world.oracle.rows(endpoint=endpoint, lead=query.get("lead"), limit=_limit(request))
        return _streamed("requests", rows)

    async def bookings(self, request: Request) -> Response:
        return JSONResponse(
            {"bookings": self.app.world.oracle.booking_rows(lead=request.query_params.get("lead"))}
        )

    async def customers(self, request: Request) -> Response:
        return JSONResponse(
            {"customers": self.app.world.popin.customer_rows(lead=request.query_params.get("lead"))}
        )

    async def webhooks(self, request: Request) -> Response:
        query = request.query_params
        rows = self.app.world.popin.webhooks.rows(
            event=query.get("event"),
            lead=query.get("lead"),
            state=query.get("state"),
            limit=_limit(request),
        )
        return _streamed("webhooks", rows)

    async def send_webhook(self, request: Request) -> Response:
        body = await _json_object(request)
        event, customer_id = body.pop("event", ""), body.pop("customer_id", "")
        participant = body.pop("participant", None)
        if body or not isinstance(event, str) or not isinstance(customer_id, str):
            raise HTTPException(400, "event and customer_id: text; participant: text")
        if not isinstance(participant, str | None):
            raise HTTPException(400, "participant: text")
        try:
            return JSONResponse(self.app.world.send_webhook(event, customer_id, participant=participant))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    async def stats(self, request: Request) -> Response:
        return JSONResponse(self.app.world.stats())

    async def faults(self, request: Request) -> Response:
        return JSONResponse({"faults": list(self.app.world.plan.specs)})

    async def set_faults(self, request: Request) -> Response:
        body = await _json_object(request)
        specs, seed = body.pop("faults", []), body.pop("seed", None)
        if body or not isinstance(specs, list) or not all(isinstance(spec, str) for spec in specs):
            raise HTTPException(400, "faults: a list of text; seed: an integer")
        if isinstance(seed, bool) or not isinstance(seed, int | None):
            raise HTTPException(400, "seed: an integer")
        try:
            self.app.world.set_faults(specs, seed=seed)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return await self.faults(request)

    async def reset(self, request: Request) -> Response:
        body = await _json_object(request)
        try:
            self.app.reset(body)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return await self.overview(request)

    async def outage(self, request: Request) -> Response:
        seconds = (await _json_object(request)).get("seconds", 0.5)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 600:
            raise HTTPException(400, "seconds: from 0 to 600")
        self.app.outage(float(seconds))
        return JSONResponse({"seconds": seconds})

    async def failed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code in (404, 405):
            self.app.world.oracle.other_paths += 1
        return JSONResponse({"message": error.detail}, error.status_code, error.headers)


def _local_only(handler: Handler) -> Handler:
    """The oracle needs no key, so it answers this machine only, with `allow_remote` too."""

    async def guarded(request: Request) -> Response:
        if request.client is None or not is_loopback(request.client.host):
            raise HTTPException(403, "only from this machine")
        return await handler(request)

    return guarded


async def _json_object(request: Request) -> dict[str, object]:
    body = await request.body()
    try:
        value = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    if not isinstance(value, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return value


def _limit(request: Request) -> int | None:
    limit = request.query_params.get("limit")
    if limit is not None and re.fullmatch("[0-9]{1,9}", limit) is None:
        raise HTTPException(400, "limit: a number")
    return None if limit is None else int(limit)


def _streamed(name: str, rows: Iterator[RequestRow] | Iterator[WebhookRow]) -> Response:
    # Half a million rows at once would keep the endpoints waiting; chunk by chunk they do not.
    return StreamingResponse(_stream(name, rows), media_type="application/json")


async def _stream(name: str, rows: Iterator[RequestRow] | Iterator[WebhookRow]) -> AsyncIterator[str]:
    yield f'{{"{name}":['
    separator = ""
    while chunk := list(islice(rows, ROWS_PER_CHUNK)):
        yield separator + json.dumps(chunk, separators=(",", ":"))[1:-1]
        separator = ","
        await asyncio.sleep(0)  # sending alone gives nobody else a turn
    yield "]}"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name != "key"}
    return value.isoformat() if isinstance(value, datetime | time) else value
