"""Senders around the exchange: TLS, being interrupted, being cancelled, being used wrongly."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import pytest

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.client.exchange import Exchange, Failure, Reply
from airflow_provider_popin.client.requests_sender import RequestsSender
from airflow_provider_popin.client.wire import SendGate, SendRefusedError
from tests.client.raw_server import Peer, RawServer
from tests.client.support import (
    SCHEDULE_BODY,
    SLOTS,
    Certificate,
    Send,
    a_capture,
    a_config,
    a_schedule,
    send_with_async,
    send_with_async_on_uvloop,
    send_with_requests,
)
from tests.waiting import PATIENCE_SECONDS

both = pytest.mark.parametrize("send", [send_with_requests, send_with_async, send_with_async_on_uvloop])


def answer(peer: Peer) -> None:
    while True:
        peer.read_request()
        peer.reply(SCHEDULE_BODY)


@both
def test_tls_with_a_bundle(send: Send, certificate: Certificate) -> None:
    with RawServer(answer, tls=certificate.context) as server:
        exchanges = send(a_config(server.url, verify=certificate.path), SLOTS, a_schedule())
    assert [type(exchange) for exchange in exchanges] == [Reply, Reply]


@both
def test_tls_without_a_check(send: Send, certificate: Certificate) -> None:
    with RawServer(answer, tls=certificate.context) as server:
        assert isinstance(send(a_config(server.url, verify=False), a_schedule())[0], Reply)


@both
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_tls_with_the_bundle_of_the_environment(
    send: Send, certificate: Certificate, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, certificate.path)
    with RawServer(answer, tls=certificate.context) as server:
        assert isinstance(send(a_config(server.url), a_schedule())[0], Reply)


@both
def test_tls_that_nobody_trusts(send: Send, certificate: Certificate) -> None:
    with RawServer(answer, tls=certificate.context) as server:
        assert send(a_config(server.url), a_schedule()) == [Failure(sent=False, reason="tls_failed")]


@both
def test_directory_of_certificates_without_ours(send: Send, certificate: Certificate, tmp_path: Path) -> None:
    with RawServer(answer, tls=certificate.context) as server:
        outcome = send(a_config(server.url, verify=str(tmp_path)), a_schedule())
    assert outcome == [Failure(sent=False, reason="tls_failed")]


@both
def test_missing_bundle_of_the_environment(
    send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(PopinConfigError) as caught:
        send(a_config("https://127.0.0.1:1"), a_schedule())
    assert caught.value.field == "verify"


@both
def test_tls_dripping_reply_ends_in_time(send: Send, certificate: Certificate) -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
        try:
            while True:
                peer.send(b"a")
                time.sleep(0.02)
        finally:
            ended.set()

    with RawServer(script, tls=certificate.context) as server:
        config = a_config(server.url, verify=certificate.path, timeout_seconds=0.4)
        assert send(config, a_schedule()) == [Failure(sent=True, reason="read_timeout")]
        assert ended.wait(PATIENCE_SECONDS)


class StoppedError(Exception):
    """What a signal handler of Airflow raises in the main thread."""


def test_exception_while_waiting_ends_the_exchange() -> None:
    """A task timeout interrupts the main thread in the middle of a request: the socket is closed."""
    waiting_thread = threading.get_ident()
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        signal.pthread_kill(waiting_thread, signal.SIGALRM)
        peer.wait_for_end()
        gone.set()

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise StoppedError

    previous = signal.signal(signal.SIGALRM, stop)
    try:
        with RawServer(script) as server, RequestsSender(a_config(server.url)) as sender:
            with pytest.raises(StoppedError):
                sender.send(a_schedule())
            assert gone.wait(PATIENCE_SECONDS)
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_requests_sender_is_thread_safe() -> None:
    exchanges: list[Exchange] = []
    with RawServer(answer) as server, RequestsSender(a_config(server.url)) as sender:

        def work() -> None:
            exchanges.extend(sender.send(a_capture()) for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(exchanges) == 20
    assert all(isinstance(exchange, Reply) for exchange in exchanges)


async def test_async_sender_runs_many_at_once() -> None:
    with RawServer(answer) as server:
        async with AsyncSender(a_config(server.url)) as sender:
            requests = [a_schedule() if number % 2 else a_capture() for number in range(40)]
            exchanges = await asyncio.gather(*(sender.send(request) for request in requests))
    assert all(isinstance(exchange, Reply) for exchange in exchanges)


async def test_async_cancelled_before_the_connection_sends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[bytes] = []

    def script(peer: Peer) -> None:
        seen.append(peer.wait_for_end())

    with RawServer(script) as server:
        async with AsyncSender(a_config(server.url)) as sender:
            task = asyncio.create_task(sender.send(a_schedule()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.05)
    assert b"".join(seen) == b""
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_async_cancelled_after_the_body(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    read = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(peer: Peer) -> None:
        peer.read_request()
        loop.call_soon_threadsafe(read.set)
        peer.wait_for_end()

    with RawServer(script) as server:
        async with AsyncSender(a_config(server.url)) as sender:
            task = asyncio.create_task(sender.send(a_schedule()))
            await asyncio.wait_for(read.wait(), 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_async_outside_of_its_context() -> None:
    sender = AsyncSender(a_config("http://127.0.0.1:1"))
    with pytest.raises(RuntimeError, match="context manager"):
        await sender.send(SLOTS)
    async with sender:
        pass
    with pytest.raises(RuntimeError, match="context manager"):
        await sender.send(SLOTS)


class TestSendGate:
    """What lets a body out."""

    def test_opens_once_and_says_so(self) -> None:
        gate = SendGate()
        before = gate.sent
        gate.open()
        assert (before, gate.sent, gate.shut()) == (False, True, True)

    def test_shut_stays_shut(self) -> None:
        gate = SendGate()
        assert not gate.shut()
        with pytest.raises(SendRefusedError):
            gate.open()
        assert not gate.sent
        assert not gate.late

    def test_too_late(self) -> None:
        gate = SendGate(not_after=0.0)
        with pytest.raises(SendRefusedError):
            gate.open()
        assert gate.late
        assert not gate.shut()
