"""What the tests of the client share."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import pytest
import uvloop

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.exchange import Exchange, Request
from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.models import Lead
from airflow_provider_popin.client.protocol import build_capture, build_schedule, build_slots
from airflow_provider_popin.client.requests_sender import RequestsSender
from tests.client.raw_server import Peer
from tests.waiting import PATIENCE_SECONDS

NOW = datetime(2025, 9, 17, 6, 0, tzinfo=UTC)
SLOT_TIME = "Thu, 25 Sep 2025 03:15 PM"
SLOTS_BODY = (
    b'{"availability":[{"date":"Wed, 24 Sep 2025","slots":["01:00 PM","01:15 PM"]}],'
    b'"slotDiff":15,"timezone":"Asia/Kolkata"}'
)
CAPTURE_BODY = b'{"status":1,"customer_id":"MzE1","url":"https://live.popin.to/8131-a157","message":"ok"}'
SCHEDULE_BODY = (
    b'{"status":1,"schedule":{"data":{"name":"Asha Example","time":"Thu, Sep 25 | 03:15 PM",'
    b'"timezone":"Asia/Kolkata"}},"data":"+919876500001"}'
)


def a_lead() -> Lead:
    return make_lead(name="Asha Example", mobile="+919876500001", email="asha@example.com", pincode="560001")


def a_capture() -> Request:
    return build_capture(a_lead())


def a_schedule() -> Request:
    return build_schedule("MzE1", SLOT_TIME)


def a_config(
    base_url: str,
    *,
    timeout_seconds: float = 30.0,
    proxy: str | None = None,
    verify: bool | str = True,
    seller_token: str = "tok",
) -> ClientConfig:
    return ClientConfig(
        base_url=base_url,
        seller_token=seller_token,
        api_key="key-of-tests",
        timeout_seconds=timeout_seconds,
        requests_per_second=0,
        proxy=proxy,
        verify=verify,
    )


class Certificate(NamedTuple):
    """A server's certificate.

    :param path: file that a client can trust
    :param context: what the server speaks TLS with
    """

    path: str
    context: ssl.SSLContext


class Send(Protocol):
    """Sends requests one after the other over one sender. An event among them is waited for."""

    def __call__(
        self, config: ClientConfig, *steps: Request | threading.Event, not_after: float | None = None
    ) -> list[Exchange]: ...


def send_with_requests(
    config: ClientConfig, *steps: Request | threading.Event, not_after: float | None = None
) -> list[Exchange]:
    exchanges = []
    with RequestsSender(config) as sender:
        for step in steps:
            if isinstance(step, Request):
                exchanges.append(sender.send(step, not_after=not_after))
            else:
                assert step.wait(PATIENCE_SECONDS)
    return exchanges


async def _send_all(
    config: ClientConfig, steps: tuple[Request | threading.Event, ...], not_after: float | None
) -> list[Exchange]:
    exchanges = []
    async with AsyncSender(config) as sender:
        for step in steps:
            if isinstance(step, Request):
                exchanges.append(await sender.send(step, not_after=not_after))
            else:
                assert await asyncio.to_thread(step.wait, PATIENCE_SECONDS)
    return exchanges


def send_with_async(
    config: ClientConfig, *steps: Request | threading.Event, not_after: float | None = None
) -> list[Exchange]:
    return asyncio.run(_send_all(config, steps, not_after), debug=True)


def send_with_async_on_uvloop(
    config: ClientConfig, *steps: Request | threading.Event, not_after: float | None = None
) -> list[Exchange]:
    """As the lead sync does."""
    with asyncio.Runner(debug=True, loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send_all(config, steps, not_after))


def send_with_async_in_thread(
    config: ClientConfig, *steps: Request | threading.Event, not_after: float | None = None
) -> list[Exchange]:
    return in_thread(lambda: send_with_async(config, *steps, not_after=not_after))


def in_thread(call: Callable[[], list[Exchange]]) -> list[Exchange]:
    results: list[list[Exchange]] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join(20)
    return results[0]


SENDERS = {
    "requests": send_with_requests,
    "async": send_with_async,
    "async-in-thread": send_with_async_in_thread,
    "async-on-uvloop": send_with_async_on_uvloop,
}
SLOTS = build_slots()


def serving(peer: Peer) -> None:
    """Answers whatever is asked with the slots."""
    while True:
        peer.read_request()
        peer.reply(SLOTS_BODY)


on_both_loops = pytest.mark.parametrize("send", [send_with_async, send_with_async_on_uvloop])
