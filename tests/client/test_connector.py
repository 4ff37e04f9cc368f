"""Connecting: names, addresses, proxies, TLS through them."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.connector import Connector
from airflow_provider_popin.client.exchange import Failure, Reply
from tests.client.raw_server import Peer, RawServer, Script
from tests.client.support import (
    SCHEDULE_BODY,
    SLOTS,
    Certificate,
    Send,
    a_config,
    a_schedule,
    on_both_loops,
    send_with_async,
    send_with_async_on_uvloop,
    send_with_requests,
    serving,
)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the name server will answer to one question after the other; the last answer stays. Only asyncio's
    own loop asks where it can be answered.
    """
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


def test_second_address_that_nobody_trusts(names: list[list[str]], certificate: Certificate) -> None:
    names.append(["127.0.0.9", "127.0.0.1"])
    with RawServer(serving, tls=certificate.context) as server:
        outcome = send_with_async(a_config(f"https://popin.test:{server.port}"), a_schedule())[0]
    assert outcome == Failure(sent=False, reason="tls_failed")


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
def test_tunnel_with_a_password(send: Send, certificate: Certificate) -> None:
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
def test_tunnel_through_a_proxy_that_speaks_tls(send: Send, certificate: Certificate) -> None:
    heads: list[bytes] = []
    with (
        RawServer(serving, tls=certificate.context) as server,
        RawServer(tunnel_to(server.port, heads), tls=certificate.context) as proxy,
    ):
        outcomes = send(a_config(server.url, verify=certificate.path, proxy=proxy.url), SLOTS, a_schedule())
    assert [type(outcome) for outcome in outcomes] == [Reply, Reply]
    assert len(heads) == 2


@on_both_loops
def test_tunnel_to_what_nobody_trusts(send: Send, certificate: Certificate) -> None:
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


async def test_what_is_meant_for_the_proxy_is_not_told_through_its_tunnel() -> None:
    proxy = "http://someone:secret@127.0.0.1:1"
    secure = Connector(a_config("https://popin.example", proxy=proxy))
    plain = Connector(a_config("http://popin.example", proxy=proxy))
    for connector in (secure, plain):
        await connector.prepare()
    assert secure.headers() == {"Host": "popin.example"}
    assert secure.target("https://popin.example/api/v1") == "/api/v1"
    assert set(plain.headers()) == {"Host", "Proxy-Authorization"}
    assert plain.target("http://popin.example/api/v1") == "http://popin.example/api/v1"
