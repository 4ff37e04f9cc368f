"""The ASGI application: the three endpoints in plain ASGI, for speed; everything else by starlette."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from starlette.types import Receive, Scope, Send

from airflow_provider_popin.sandbox import control, wire
from airflow_provider_popin.sandbox.customers import DEFAULT_COUNTRY
from airflow_provider_popin.sandbox.fault_kinds import Stage
from airflow_provider_popin.sandbox.fault_replies import Struck, fault_reply
from airflow_provider_popin.sandbox.faults import Fault, FaultPlan
from airflow_provider_popin.sandbox.oracle import Oracle, RequestRecord
from airflow_provider_popin.sandbox.popin import Popin, Result, lead_mark
from airflow_provider_popin.sandbox.rows import Stats, WebhookRow
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.transport import Connections
from airflow_provider_popin.sandbox.wire import Reply

logger = logging.getLogger(__name__)

ROUTES = {f"/api/v1/external/{endpoint}": endpoint for endpoint in wire.METHODS}


class World:
    """
    One life of the sandbox, from start or reset to the next reset. A handler keeps the world it started in,
    so that a request from before a reset cannot change what comes after it.

    :param settings: how the sandbox behaves.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.oracle = Oracle(keep_requests=settings.keep_requests)
        self.popin = Popin(settings=settings, oracle=self.oracle)
        self.plan = FaultPlan(specs=settings.faults, seed=settings.seed)
        self.key = settings.api_key.encode()
        self.token = settings.token.encode()
        self.latency_seconds = settings.latency_ms / 1000

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
            free_seats=self.popin.seats.free(),
            bookings_per_slot_max=self.popin.seats.taken_per_slot_max(),
            webhooks=self.popin.webhooks.counts(),
        )

    def send_webhook(self, event: str, customer_id: str, *, participant: str | None = None) -> WebhookRow:
        """
        Send one webhook on demand, about the customer's newest booking if there is one.

        :param event: name.
        :param customer_id: of a captured customer.
        :param participant: see `Webhooks.send`.
        :return: the delivery.
        :raises ValueError: it cannot be sent.
        """
        customer = self.popin.customers.get(customer_id)
        if customer is None:
            raise ValueError("customer_id: nobody was captured under it")
        booking = self.oracle.last_booking(customer_id)
        return self.popin.webhooks.send(event, customer, booking, participant=participant)


class SandboxApp:
    """
    The sandbox as ASGI application.

    :param settings: how it behaves.
    :param connections: registry of the server's connections.
    :param outage: called with seconds to close the port for that long.
    :param access_log: whether to log method, path, status and faults of each request to the three endpoints.
    """

    def __init__(
        self,
        *,
        settings: SandboxSettings,
        connections: Connections,
        outage: Callable[[float], None],
        access_log: bool = False,
    ) -> None:
        self.world = World(settings)
        self.outage = outage
        self._settings = settings
        self._connections = connections
        self._access_log = access_log
        self._control = control.make_control(self)

    def reset(self, changes: Mapping[str, object]) -> None:
        """
        Begin a new life, as at the start.

        :param changes: settings that differ from those of the start, until the next reset; see
            `SandboxSettings.changed`.
        :raises ValueError: a change cannot be made; then nothing happens.
        """
        world = World(self._settings.changed(changes))
        self.world.popin.webhooks.stop()
        self.world = world

    async def close(self) -> None:
        """End what goes on in the background; requests are no longer served."""
        await self.world.popin.webhooks.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serve one request.

        :param scope: ASGI scope.
        :param receive: ASGI receive.
        :param send: ASGI send.
        """
        endpoint = ROUTES.get(scope["path"])
        try:
            if endpoint is None:
                await self._control(scope, receive, send)
            else:
                await self._serve_endpoint(endpoint, scope, receive, send)
        except asyncio.CancelledError:
            # Only the end of the server cancels handlers; uvicorn would log the exception with a traceback.
            self._connections.reset(scope["client"])
            await wire.wait_until_gone(receive)
        except RuntimeError:
            # What uvloop says of a write to a connection that has just ended; uvicorn hears of it later.
            if self._connections.has(scope["client"]):
                raise
            await wire.wait_until_gone(receive)

    async def _serve_endpoint(self, endpoint: str, scope: Scope, receive: Receive, send: Send) -> None:
        world = self.world
        record = world.oracle.arrived(endpoint, scope["method"])
        try:
            await self._serve(world, record, scope, receive, send)
        finally:
            world.oracle.left(record)
        if self._access_log:
            faults = "+".join(record.faults) or "-"
            logger.info("%s %s %s %s", record.method, scope["path"], record.status or "-", faults)

    async def _serve(
        self, world: World, record: RequestRecord, scope: Scope, receive: Receive, send: Send
    ) -> None:
        refusal = wire.header_refusal(
            record.endpoint, record.method, scope["headers"], key=world.key, token=world.token
        )
        if refusal is not None:
            world.oracle.refused_headers += 1
            await wire.send_reply(record, refusal, send)
            return
        faults = world.plan.pick(record.endpoint)
        if faults:
            await self._serve_struck(world, record, faults, scope, receive, send)
            return
        body = await wire.read_body(receive)
        if body is None:
            return
        if world.latency_seconds:
            await asyncio.sleep(world.latency_seconds)
        await wire.send_reply(record, _reply(world, record, body), send)

    async def _serve_struck(
        self,
        world: World,
        record: RequestRecord,
        faults: Mapping[Stage, Fault],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        world.oracle.struck(record, [fault.kind.name for fault in faults.values()])
        if Stage.CONNECTION in faults:
            await self._refuse(faults[Stage.CONNECTION], scope, receive)
            return
        body = await wire.read_body(receive)
        if body is None:
            return
        if Stage.STATE in faults:
            world.popin.seats.set_timezone(faults[Stage.STATE].value)
        await asyncio.sleep(world.latency_seconds + _seconds(faults.get(Stage.DELAY_BEFORE)))
        reply = _struck_reply(world, record, faults, body)
        await asyncio.sleep(_seconds(faults.get(Stage.DELAY_AFTER)))
        await self._deliver(record, reply, faults.get(Stage.DELIVERY), scope, receive, send)

    async def _refuse(self, fault: Fault, scope: Scope, receive: Receive) -> None:
        self._connections.reset(scope["client"])
        if fault.kind.name == "outage":
            self.outage(float(fault.value))
        await wire.wait_until_gone(receive)

    async def _deliver(
        self,
        record: RequestRecord,
        reply: Reply | None,
        fault: Fault | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if reply is None:
            self._connections.reset(scope["client"])
            await wire.wait_until_gone(receive)
        elif fault is None:
            await wire.send_reply(record, reply, send)
        elif fault.kind.name == "slow_body":
            await wire.drip_reply(record, reply, float(fault.value), send)
        else:
            await wire.start_reply(record, reply, send)
            half = reply.body[: len(reply.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            self._connections.close(scope["client"])
            await wire.wait_until_gone(receive)


def _reply(world: World, record: RequestRecord, body: bytes) -> Reply:
    """The answer without faults."""
    fields = wire.parse_body(record.endpoint, body)
    if isinstance(fields, Reply):
        return fields
    if record.endpoint == "slots":
        return Reply(200, world.popin.seats.availability())
    result = _commit(world, record, fields, body)
    return wire.json_reply(result.status, result.payload)


def _struck_reply(
    world: World, record: RequestRecord, faults: Mapping[Stage, Fault], body: bytes
) -> Reply | None:
    """The answer under faults, None for a reset; commits unless a fault answers instead."""
    fields = wire.parse_body(record.endpoint, body)
    if isinstance(fields, Reply):
        return fields
    person = _identify(world, record, fields)
    if Stage.INSTEAD in faults:
        struck = Struck(endpoint=record.endpoint, result=None, person=person)
        return fault_reply(faults[Stage.INSTEAD], struck)
    result = _commit(world, record, fields, body)
    if Stage.AFTER in faults:
        struck = Struck(endpoint=record.endpoint, result=result, person=person)
        return fault_reply(faults[Stage.AFTER], struck)
    return wire.json_reply(result.status, result.payload)


def _commit(world: World, record: RequestRecord, fields: dict[str, object], body: bytes) -> Result:
    if record.endpoint == "capture":
        return world.popin.capture(fields, body, record)
    if record.endpoint == "schedule":
        return world.popin.schedule(fields, record)
    return Result(200, wire.DECODER.decode(world.popin.seats.availability().decode()))


def _identify(world: World, record: RequestRecord, fields: dict[str, object]) -> dict[str, str]:
    """Note whose request this is, although it may not be committed; returns what an echo repeats."""
    if record.endpoint == "capture":
        record.lead = lead_mark(fields)
    else:
        customer = world.popin.customer_of(fields)
        if customer is None:
            return {}
        record.lead, record.customer_id = customer.lead, customer.customer_id
        fields = customer.fields()
    person = {name: str(fields[name]) for name in ("name", "mobile", "email") if fields.get(name)}
    return {**person, "phone": f"+{fields.get('country') or DEFAULT_COUNTRY}{fields.get('mobile') or ''}"}


def _seconds(fault: Fault | None) -> float:
    return 0.0 if fault is None else float(fault.value)
