"""What the sender for event loops decides by itself; ``test_senders`` has what both senders must do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_popin.client import async_sender, http_connection
from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.connector import Connector
from airflow_provider_popin.client.exchange import Exchange, Failure, Reply, Request
from airflow_provider_popin.client.http_connection import HttpConnection
from tests.client.raw_server import Peer, RawServer, Script
from tests.client.support import (
    SCHEDULE_BODY,
    SLOTS,
    SLOTS_BODY,
    Send,
    a_capture,
    a_config,
    a_schedule,
    send_with_async,
    send_with_async_on_uvloop,
    send_with_requests,
)
from tests.client.test_senders_life import Certificate, certificate  # noqa: F401 - a fixture

on_both_loops = pytest.mark.parametrize("send", [send_with_async, send_with_async_on_uvloop])


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def replying(*parts: bytes) -> Script:
    """Reads one request, sends the parts and hangs up."""

    def script(peer: Peer) -> None:
        peer.read_request()
        for part in parts:
            peer.send(part)

    return script


def ask(send: Send, *parts: bytes) -> Exchange:
    with RawServer(replying(*parts)) as server:
        return send(a_config(server.url), a_schedule())[0]


# --- replies


@on_both_loops
@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
    ids=["until-the-end", "1.0", "bare-lf", "blank-after-size", "100", "103"],
)
def test_forms_of_a_reply(send: Send, reply: bytes, body: bytes) -> None:
    outcome = ask(send, reply)
    assert isinstance(outcome, Reply)
    assert (outcome.status, outcome.body) == (200, body)
    assert "link" not in outcome.headers


@on_both_loops
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc", "bad_reply"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "bad_reply"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "bad_reply"),
        (b"HTTP/1.1 200 OK\r\nX: a", "connection_lost"),
        (b"", "connection_lost"),
    ],
    ids=["101", "endless-head", "two-lengths", "cut-head", "nothing"],
)
def test_what_is_no_reply(send: Send, reply: bytes, reason: str) -> None:
    assert ask(send, reply) == Failure(sent=True, reason=reason)


@on_both_loops
def test_reset_before_the_end_is_no_end(send: Send) -> None:
    """A reply without a length is whole when the connection is closed, not when it breaks."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n{")
        peer.reset()

    with RawServer(script) as server:
        outcome = send(a_config(server.url), a_schedule())[0]
    assert outcome == Failure(sent=True, reason="connection_lost")


@on_both_loops
def test_trailers_are_no_headers(send: Send) -> None:
    head = (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nX-Empty:\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    outcome = ask(send, head, b"2\r\n{}\r\n0\r\nRetry-After: 900\r\nContent-Encoding: br\r\n\r\n")
    assert isinstance(outcome, Reply)
    assert outcome.headers == {"retry-after": "7", "x-empty": "", "transfer-encoding": "chunked"}


@on_both_loops
def test_many_small_chunks(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent must not be much more than what it carries."""
    monkeypatch.setattr(http_connection, "_MAX_RAW_BYTES", 100_000)

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(b"1\r\na\r\n" * 1000)

    with RawServer(script) as server:
        outcome = send(a_config(server.url), a_schedule())[0]
    assert outcome == Failure(sent=True, reason="body_too_large")


def on_a_pair(work: Callable[[HttpConnection, socket.socket], Any], *, fast: bool) -> Any:
    """Run ``work`` with a connection and its peer's end, in a loop."""

    async def run() -> Any:
        mine, peers = socket.socketpair()
        with peers:
            _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, sock=mine)
            try:
                return await work(connection, peers)
            finally:
                connection.abort()
                await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if fast else None) as runner:
        return runner.run(run())


@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=100).map(
            lambda body: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
        ),
        st.binary(max_size=100).map(lambda body: b"HTTP/1.1 200 OK\r\n" + body),
    ),
    fast=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_survives_any_bytes(data: bytes, fast: bool) -> None:
    async def work(connection: HttpConnection, peers: socket.socket) -> Exchange:
        peers.sendall(data)
        peers.shutdown(socket.SHUT_WR)
        return await connection.exchange(b"GET", asyncio.get_running_loop().time() + 5)

    outcome = on_a_pair(work, fast=fast)
    assert isinstance(outcome, Reply) or (outcome.sent and outcome.reason in ("bad_reply", "connection_lost"))


_WHOLE = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 422 No\r\nRetry-After: 12\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\nX: y\r\n\r\n'
)


@given(cuts=st.lists(st.integers(0, len(_WHOLE)), max_size=6), fast=st.booleans())
@settings(max_examples=60, deadline=None)
def test_reply_in_any_pieces(cuts: list[int], fast: bool) -> None:
    async def work(connection: HttpConnection, peers: socket.socket) -> Exchange:
        exchange = asyncio.create_task(connection.exchange(b"GET", asyncio.get_running_loop().time() + 5))
        await asyncio.sleep(0)
        edges = [0, *sorted(cuts), len(_WHOLE)]
        for begin, end in pairwise(edges):
            peers.sendall(_WHOLE[begin:end])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return await exchange

    outcome = on_a_pair(work, fast=fast)
    assert isinstance(outcome, Reply)
    assert (outcome.status, outcome.headers["retry-after"], outcome.body) == (422, "12", b'{"a":1}')


# --- connections


def serving(peer: Peer) -> None:
    while True:
        peer.read_request()
        peer.reply(SLOTS_BODY)


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


@pytest.mark.parametrize("fast", [False, True])
def test_what_nobody_asked_for_ends_the_connection(fast: bool) -> None:
    async def work(connection: HttpConnection, peers: socket.socket) -> None:
        peers.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert isinstance(await connection.exchange(b"GET", asyncio.get_running_loop().time() + 5), Reply)
        assert connection.is_usable
        peers.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        peers.settimeout(5)
        # First what was asked, then the end: by then nothing can be taken for the next reply.
        assert await asyncio.to_thread(peers.recv, 10) == b"GET"
        assert await asyncio.to_thread(peers.recv, 10) == b""
        assert not connection.is_usable

    on_a_pair(work, fast=fast)


@pytest.mark.parametrize("fast", [False, True])
def test_cancelled_in_the_moment_of_the_reply(fast: bool) -> None:
    """The connection ends: it was to be kept by who is gone."""

    async def work(connection: HttpConnection, peers: socket.socket) -> None:
        waiting = asyncio.create_task(connection.exchange(b"GET", asyncio.get_running_loop().time() + 5))
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert connection.transport.is_closing()

    on_a_pair(work, fast=fast)


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
        assert closed.wait(5)
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


def test_used_before_it_is_connected() -> None:
    connection = HttpConnection()
    assert not connection.is_usable
    connection.abort()
    with pytest.raises(RuntimeError, match="before it is connected"):
        _ = connection.transport


# --- names and addresses


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the name server will answer to one question after the other; the last answer stays."""
    answers: list[list[str]] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host != "popin.test":
            return real(host, port, *args, **kwargs)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return answers


def test_second_address_answers(names: list[list[str]]) -> None:
    names.append(["127.0.0.9", "127.0.0.1"])
    with RawServer(serving) as server:
        outcome = send_with_async(a_config(f"http://popin.test:{server.port}"), a_schedule())[0]
    assert isinstance(outcome, Reply)


def test_host_that_moved(names: list[list[str]]) -> None:
    """An address is remembered for as long as it answers."""
    with RawServer(serving) as server:
        names += [["127.0.0.1"], ["127.0.0.9"], ["127.0.0.1"]]
        config = a_config(f"http://popin.test:{server.port}")
        outcomes = send_with_async(config, a_schedule(), a_schedule())
        assert [type(outcome) for outcome in outcomes] == [Reply, Reply]
        assert len(names) == 2
        outcomes = send_with_async(config, a_schedule(), a_schedule())
    assert outcomes[0] == Failure(sent=False, reason="connect_failed")
    assert isinstance(outcomes[1], Reply)


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("http://popin.test", "popin.test"),
        ("http://popin.test:80/prefix", "popin.test"),
        ("http://popin.test:8080", "popin.test:8080"),
        ("https://popin.test:443", "popin.test"),
        ("https://[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("http://[2001:db8::1]", "[2001:db8::1]"),
    ],
)
async def test_host_header(base_url: str, host: str) -> None:
    assert Connector(a_config(base_url)).headers() == {"Host": host}


def test_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 on loopback")
    with listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                peer = Peer(connection)
                peer.read_request()
                peer.reply(SCHEDULE_BODY)

        thread = threading.Thread(target=serve)
        thread.start()
        outcome = send_with_async(a_config(f"http://[::1]:{listener.getsockname()[1]}"), a_schedule())[0]
        thread.join(5)
    assert isinstance(outcome, Reply)


# --- proxies


def tunnel_to(port: int, heads: list[bytes]) -> Script:
    """A proxy that connects everybody to one port, whatever was asked for."""

    def script(peer: Peer) -> None:
        heads.append(peer.read_head())
        with socket.create_connection(("127.0.0.1", port)) as target:
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(target, peer.socket))
            back.start()
            _pump(peer.socket, target)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            back.join(5)

    return script


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)


@pytest.mark.parametrize("send", [send_with_requests, send_with_async, send_with_async_on_uvloop])
def test_tunnel_with_a_password(send: Send, certificate: Certificate) -> None:  # noqa: F811
    heads: list[bytes] = []
    with (
        RawServer(serving, tls=certificate.context) as server,
        RawServer(tunnel_to(server.port, heads)) as proxy,
    ):
        config = a_config(
            server.url, verify=certificate.path, proxy=proxy.url.replace("http://", "http://user:p%40ss@")
        )
        outcomes = send(config, SLOTS, a_schedule())
        authority = server.url.removeprefix("https://")
    assert [type(outcome) for outcome in outcomes] == [Reply, Reply]
    assert len(heads) == 2
    for head in heads:
        assert head.startswith(f"CONNECT {authority} HTTP/1.".encode())
        assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in head
        assert b"X-API-KEY" not in head


@on_both_loops
def test_tunnel_through_a_proxy_that_speaks_tls(send: Send, certificate: Certificate) -> None:  # noqa: F811
    heads: list[bytes] = []
    with (
        RawServer(serving, tls=certificate.context) as server,
        RawServer(tunnel_to(server.port, heads), tls=certificate.context) as proxy,
    ):
        outcomes = send(a_config(server.url, verify=certificate.path, proxy=proxy.url), SLOTS, a_schedule())
    assert [type(outcome) for outcome in outcomes] == [Reply, Reply]
    assert len(heads) == 2


@on_both_loops
def test_tunnel_to_what_nobody_trusts(send: Send, certificate: Certificate) -> None:  # noqa: F811
    with (
        RawServer(serving, tls=certificate.context) as server,
        RawServer(tunnel_to(server.port, [])) as proxy,
    ):
        outcome = send(a_config(server.url, proxy=proxy.url), a_schedule())[0]
    assert outcome == Failure(sent=False, reason="tls_failed")


@on_both_loops
def test_tunnel_that_breaks(send: Send) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.socket.recv(10)
        peer.reset()

    with RawServer(script) as proxy:
        outcome = send(a_config("https://popin.invalid", proxy=proxy.url), a_schedule())[0]
    assert outcome in (
        Failure(sent=False, reason="connect_failed"),
        Failure(sent=False, reason="tls_failed"),
    )


@on_both_loops
def test_silent_proxy(send: Send) -> None:
    def script(peer: Peer) -> None:
        peer.wait_for_end()

    with RawServer(script) as proxy:
        config = replace(a_config("https://popin.invalid", proxy=proxy.url), connect_timeout_seconds=0.2)
        outcome = send(config, a_schedule(), not_after=boot_seconds() + 60)[0]
    assert outcome == Failure(sent=False, reason="connect_timeout")
