"""The ASGI application: the three endpoints in plain ASGI, since benchmarks run against them; all else by starlette."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_popin.sandbox.fault_replies import (
    HTML,
    LOGIN_PAGE,
    Reply,
    Struck,
    fault_reply,
    json_reply,
)
from airflow_provider_popin.sandbox.faults import Fault, FaultPlan, Stage
from airflow_provider_popin.sandbox.oracle import Oracle, RequestRecord, Stats
from airflow_provider_popin.sandbox.popin import Popin, Result, test_lead
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.transport import Connections

logger = logging.getLogger(__name__)

BASE = "/api/v1/external/"
METHODS = {"capture": "POST", "slots": "GET", "schedule": "POST"}
ROUTES = {BASE + endpoint: endpoint for endpoint in METHODS}
MAX_BODY_BYTES = 1024 * 1024
DRIPS = 10

NO_BODY = object()


class World:
    """
    One life of the sandbox, from start or reset to the next reset. A handler keeps the world it started in, so that a
    request from before a reset can not change what came after it.

    :param settings: how the sandbox behaves.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.oracle = Oracle(keep_requests=settings.keep_requests)
        self.popin = Popin(settings=settings, oracle=self.oracle)
        self.plan = FaultPlan(specs=settings.faults, seed=settings.seed)
        self.key = settings.api_key.encode()
        self.token = settings.token.encode()
        self.latency = settings.latency_ms / 1000

    def set_faults(self, specs: Sequence[str], *, seed: int | None = None) -> None:
        """
        Replace all faults, and count requests for them from 1 again.

        :param specs: specifications.
        :param seed: seed of the probabilities, None for the one of the settings.
        :raises FaultError: a specification cannot be used; then the old faults stay.
        """
        self.plan = FaultPlan(specs=specs, seed=self.settings.seed if seed is None else seed)

    def stats(self) -> Stats:
        """What the oracle counted."""
        return self.oracle.stats(
            customers=len(self.popin.customers),
            free_seats=self.popin.free_seats(),
            bookings_per_slot_max=self.popin.bookings_per_slot_max(),
        )


class SandboxApp:
    """
    The sandbox as ASGI application.

    :param settings: how it behaves.
    :param connections: registry of the server's connections.
    :param outage: called with seconds to close the port for that long.
    :param access_log: whether to log method, path and status of each request to the endpoints; never a body.
    """

    def __init__(
        self,
        *,
        settings: SandboxSettings,
        connections: Connections,
        outage: Callable[[float], None],
        access_log: bool = False,
    ) -> None:
        from airflow_provider_popin.sandbox.control import make_control

        self.world = World(settings)
        self._settings = settings
        self.outage = outage
        self._connections = connections
        self._access_log = access_log
        self._control: ASGIApp = make_control(self)

    def reset(self, changes: Mapping[str, object]) -> None:
        """
        Begin a new life, as at the start.

        :param changes: settings that differ from those of the start, until the next reset; see
            `SandboxSettings.changed`.
        :raises ValueError: a change cannot be made; then nothing happens.
        """
        self.world = World(self._settings.changed(changes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serve one request.

        :param scope: ASGI scope.
        :param receive: ASGI receive.
        :param send: ASGI send.
        """
        endpoint = ROUTES.get(scope["path"])
        if endpoint is None:
            await self._control(scope, receive, send)
            return
        world = self.world
        record = world.oracle.arrived(endpoint, scope["method"])
        try:
            await self._serve(world, record, scope, receive, send)
        except asyncio.CancelledError:
            # Only the end of the server cancels handlers; uvicorn would log the exception with a traceback.
            self._connections.reset(scope["client"])
        finally:
            world.oracle.left(record)
        if self._access_log:
            logger.info(
                "%s %s %s %s", record.method, scope["path"], record.status, "+".join(record.faults) or "-"
            )

    async def _serve(
        self, world: World, record: RequestRecord, scope: Scope, receive: Receive, send: Send
    ) -> None:
        reply: Reply | None = _header_refusal(world, record, scope)
        if reply is not None:
            world.oracle.refused_headers += 1
            await _send(record, reply, send)
            return
        faults = world.plan.pick(record.endpoint)
        if faults:
            await self._serve_struck(world, record, faults, scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        if world.latency:
            await asyncio.sleep(world.latency)
        await _send(record, _answer(world, record, _parse(record.endpoint, body)), send)

    async def _serve_struck(
        self,
        world: World,
        record: RequestRecord,
        faults: dict[Stage, Fault],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        world.oracle.struck(record, [fault.kind.name for fault in faults.values()])
        if Stage.CONNECTION in faults:
            await self._refuse(faults[Stage.CONNECTION], scope, receive)
            return
        body = await _read(receive)
        if body is None:
            return
        if Stage.STATE in faults:
            world.popin.set_timezone(faults[Stage.STATE].value)
        await asyncio.sleep(world.latency + _seconds(faults.get(Stage.DELAY_BEFORE)))
        reply = _struck_reply(world, record, faults, _parse(record.endpoint, body))
        await asyncio.sleep(_seconds(faults.get(Stage.DELAY_AFTER)))
        if reply is None:
            self._connections.reset(scope["client"])
            await _until_gone(receive)
            return
        delivery = faults.get(Stage.DELIVERY)
        if delivery is None:
            await _send(record, reply, send)
        elif delivery.kind.name == "slow_body":
            await _drip(record, reply, float(delivery.value), send)
        else:
            await self._cut(record, reply, scope, receive, send)

    async def _refuse(self, fault: Fault, scope: Scope, receive: Receive) -> None:
        self._connections.reset(scope["client"])
        if fault.kind.name == "outage":
            self.outage(float(fault.value))
        await _until_gone(receive)

    async def _cut(
        self, record: RequestRecord, reply: Reply, scope: Scope, receive: Receive, send: Send
    ) -> None:
        await _start(record, reply, send)
        await send(
            {"type": "http.response.body", "body": reply.body[: len(reply.body) // 2], "more_body": True}
        )
        self._connections.close(scope["client"])
        await _until_gone(receive)


def _header_refusal(world: World, record: RequestRecord, scope: Scope) -> Reply | None:
    """The answer to a request that is wrong before its body is looked at; None when it is in order."""
    method = METHODS[record.endpoint]
    if scope["method"] != method:
        message = "The {} method is not supported for this route. Supported methods: {}.".format(
            scope["method"],
            method,
        )
        return json_reply(405, {"message": message}, ((b"allow", method.encode()),))
    accept = key = token = content_type = b""
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            key = value
        elif name == b"x-token":
            token = value
        elif name == b"accept":
            accept = value
        elif name == b"content-type":
            content_type = value
    if b"application/json" not in accept:
        return Reply(200, LOGIN_PAGE, HTML)  # I: a browser gets the login page
    if key != world.key or token != world.token:
        return json_reply(401, {"message": "Unauthenticated."})
    if method == "POST" and content_type.partition(b";")[0].strip().lower() != b"application/json":
        return json_reply(415, {"message": "Unsupported Media Type"})
    return None


def _parse(endpoint: str, body: bytes) -> object:
    """The JSON value of a body; a `Reply` where there must not be one like this."""
    if endpoint == "slots":
        return json_reply(400, {"message": "A GET request has no body."}) if body else NO_BODY
    if len(body) > MAX_BODY_BYTES:
        return json_reply(413, {"message": "Payload Too Large"})
    try:
        return json.loads(body)
    except ValueError:
        return json_reply(400, {"message": "The body is not JSON."})


def _answer(world: World, record: RequestRecord, body: object) -> Reply:
    if isinstance(body, Reply):
        return body
    if record.endpoint == "slots":
        return Reply(200, world.popin.availability())
    result = _commit(world, record, body)
    return json_reply(result.status, result.payload)


def _commit(world: World, record: RequestRecord, body: object) -> Result:
    if record.endpoint == "capture":
        return world.popin.capture(body, record)
    return world.popin.schedule(body, record)


def _struck_reply(
    world: World, record: RequestRecord, faults: dict[Stage, Fault], body: object
) -> Reply | None:
    """The answer under faults, None for a reset; commits unless a fault answers instead."""
    if isinstance(body, Reply):
        return body
    fields = body if isinstance(body, dict) else {}
    person = _identify(world, record, fields)
    if Stage.INSTEAD in faults:
        return fault_reply(
            faults[Stage.INSTEAD], Struck(endpoint=record.endpoint, result=None, person=person)
        )
    if record.endpoint == "slots":
        result = Result(200, json.loads(world.popin.availability()))
    else:
        result = _commit(world, record, body)
    if Stage.AFTER in faults:
        return fault_reply(
            faults[Stage.AFTER], Struck(endpoint=record.endpoint, result=result, person=person)
        )
    return json_reply(result.status, result.payload)


def _identify(world: World, record: RequestRecord, fields: dict[str, object]) -> dict[str, str]:
    """Note whose request this is, although it may not be committed; returns what an echo repeats."""
    if record.endpoint == "capture":
        record.lead = test_lead(fields)
        source = fields
    else:
        customer = world.popin.customer_of(fields)
        if customer is None:
            return {}
        record.lead, record.customer_id = customer.lead, customer.customer_id
        source = dict(customer.fields)
    person = {name: str(source[name]) for name in ("name", "mobile", "email") if source.get(name)}
    return {**person, "phone": "+{}{}".format(source.get("country") or "", source.get("mobile") or "")}


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when the client went away before its end."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        if not message.get("more_body", False) and not parts:
            return bytes(part)
        size += len(part)
        if size <= MAX_BODY_BYTES + 1:
            parts.append(part)
        else:
            parts.append(part[:1])  # only the fact counts that it is too large
        if not message.get("more_body", False):
            return b"".join(parts)


async def _start(record: RequestRecord, reply: Reply, send: Send) -> None:
    record.status = reply.status
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _send(record: RequestRecord, reply: Reply, send: Send) -> None:
    await _start(record, reply, send)
    await send({"type": "http.response.body", "body": reply.body})


async def _drip(record: RequestRecord, reply: Reply, seconds: float, send: Send) -> None:
    await _start(record, reply, send)
    step = max(1, -(-len(reply.body) // DRIPS))
    for first in range(0, len(reply.body), step):
        await asyncio.sleep(seconds / DRIPS)
        await send(
            {"type": "http.response.body", "body": reply.body[first : first + step], "more_body": True}
        )
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _seconds(fault: Fault | None) -> float:
    return 0.0 if fault is None else float(fault.value)
