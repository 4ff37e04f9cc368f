"""What the sender for event loops decides by itself; ``test_senders`` has what both senders must do."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_provider_popin.client import async_sender
from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.connector import Connector
from airflow_provider_popin.client.exchange import Failure, Reply, Request
from airflow_provider_popin.client.http_connection import HttpConnection
from tests.client.raw_server import Peer, RawServer
from tests.client.support import (
    SLOTS,
    SLOTS_BODY,
    Send,
    a_capture,
    a_config,
    a_schedule,
    on_both_loops,
    serving,
)
from tests.waiting import PATIENCE_SECONDS


@on_both_loops
@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"garbage"])
def test_more_than_was_asked_for_is_not_the_next_reply(send: Send, more: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + more)
        peer.wait_for_end()

    with RawServer(script, serving) as server:
        first, second = send(a_config(server.url), SLOTS, SLOTS)
        assert server.accepted == 2
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.body, second.body) == (b"{}", SLOTS_BODY)


@on_both_loops
def test_server_that_keeps_no_connection(send: Send) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.reply(SLOTS_BODY, Connection="close")
        peer.wait_for_end()

    with RawServer(script) as server:
        assert all(isinstance(outcome, Reply) for outcome in send(a_config(server.url), SLOTS, SLOTS))
        assert server.accepted == 2


@on_both_loops
def test_connection_kept_for_too_long(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_sender, "_KEEP_ALIVE_SECONDS", 0.0)
    with RawServer(serving) as server:
        send(a_config(server.url), SLOTS, SLOTS)
        assert server.accepted == 2


@on_both_loops
def test_only_a_booking_says_that_it_is_the_last(send: Send) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            heads.append(peer.read_head())
            peer.read_request()
            peer.reply(SLOTS_BODY)

    with RawServer(script) as server:
        send(a_config(server.url), SLOTS, a_capture(), a_schedule())
    assert [b"\r\nConnection: close" in head for head in heads] == [False, False, True]


@pytest.mark.parametrize("request_", [a_capture(), a_schedule()])
async def test_connection_that_broke_before_the_first_byte(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Connector.connect

    async def connect(connector: Connector, deadline: float) -> HttpConnection:
        connection = await real(connector, deadline)
        connection.abort()
        return connection

    monkeypatch.setattr(Connector, "connect", connect)
    with RawServer(serving) as server:
        async with AsyncSender(a_config(server.url)) as sender:
            assert await sender.send(request_) == Failure(sent=False, reason="connection_lost")


async def test_connection_is_not_kept_by_a_closed_sender() -> None:
    """Who is still waiting when the sender is closed gets his answer, and the connection ends."""
    asked, closed, ended = threading.Event(), threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        asked.set()
        assert closed.wait(PATIENCE_SECONDS)
        peer.reply(SLOTS_BODY)
        peer.wait_for_end()
        ended.set()

    with RawServer(script) as server:
        async with AsyncSender(a_config(server.url)) as sender:
            waiting = asyncio.create_task(sender.send(SLOTS))
            assert await asyncio.to_thread(asked.wait, 5)
        closed.set()
        assert isinstance(await waiting, Reply)
        assert await asyncio.to_thread(ended.wait, 5)


@pytest.mark.parametrize(("request_", "kept"), [(SLOTS, True), (a_schedule(), False)])
async def test_cancelled_in_the_moment_of_the_reply(
    request_: Request, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked is gone; the connection is kept or ended all the same."""
    real = HttpConnection.on_message_complete
    ended = threading.Event()
    tasks: list[asyncio.Task[object]] = []

    def complete(connection: HttpConnection) -> None:
        real(connection)
        if len(tasks) == 1:
            tasks[0].cancel()

    def script(peer: Peer) -> None:
        try:
            serving(peer)
        finally:
            ended.set()

    monkeypatch.setattr(HttpConnection, "on_message_complete", complete)
    with RawServer(script) as server:
        async with AsyncSender(a_config(server.url)) as sender:
            tasks.append(asyncio.create_task(sender.send(request_)))
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert await asyncio.to_thread(ended.wait, 0.2 if kept else 5) is not kept
            tasks.append(asyncio.create_task(sender.send(SLOTS)))
            assert isinstance(await tasks[1], Reply)
            assert server.accepted == (1 if kept else 2)
