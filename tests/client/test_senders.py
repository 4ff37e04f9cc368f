"""Both senders against a server that breaks every rule: above all, whether the body had left."""

from __future__ import annotations

import gc
import gzip
import logging
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_popin import __version__
from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.client.exchange import Exchange, Failure, Reply, Request
from airflow_provider_popin.client.wire import MAX_BODY_BYTES
from tests.client.raw_server import Peer, RawServer
from tests.client.support import (
    CAPTURE_BODY,
    SCHEDULE_BODY,
    SENDERS,
    SLOTS,
    SLOTS_BODY,
    Send,
    a_capture,
    a_config,
    a_schedule,
)
from tests.waiting import PATIENCE_SECONDS, wait_until

# The timeout that `a_config` gives unless it is asked for another is 30 s.
LESS_THAN_THE_DEFAULT = 25.0


@pytest.fixture(params=sorted(SENDERS))
def send(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Send]:
    caplog.set_level(logging.DEBUG, "asyncio")
    yield SENDERS[request.param]
    complaints = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not complaints, [record.getMessage() for record in complaints]


def only(exchanges: list[Exchange]) -> Exchange:
    assert len(exchanges) == 1
    return exchanges[0]


def failure(exchange: Exchange) -> tuple[bool, str]:
    assert isinstance(exchange, Failure), exchange
    return exchange.sent, exchange.reason


# --- what is sent


def test_request_on_the_wire(send: Send) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.read_head())
        assert peer.read_request() == b'{"customer_id":"MzE1","time":"Thu, 25 Sep 2025 03:15 PM"}'
        peer.reply(SCHEDULE_BODY, X_Odd="a", Set_Cookie="session=secret; Path=/")

    with RawServer(script) as server:
        reply = only(send(a_config(server.url), a_schedule()))
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body, reply.headers["x-odd"]) == (200, SCHEDULE_BODY, "a")
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "POST /api/v1/external/schedule HTTP/1.1"
    sent = dict(line.split(": ", 1) for line in lines[1:])
    assert sent["X-API-KEY"] == "key-of-tests"
    assert sent["X-TOKEN"] == "tok"
    assert sent["Accept"] == "application/json"
    assert sent["Content-Type"] == "application/json"
    assert sent["Accept-Encoding"] == "identity"
    assert sent["User-Agent"] == f"airflow-provider-popin/{__version__}"
    assert sent["Content-Length"] == "57"
    assert "Transfer-Encoding" not in sent


def test_no_netrc_no_cookies(send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        for _ in range(2):
            heads.append(peer.read_head().lower())
            peer.read_request()
            peer.reply(SLOTS_BODY, Set_Cookie="session=secret; Path=/")

    with RawServer(script) as server:
        send(a_config(server.url), SLOTS, SLOTS)
    assert len(heads) == 2
    assert not any(b"authorization" in head or b"cookie" in head for head in heads)


def test_kept_connection_is_used_again_but_never_for_a_booking(send: Send) -> None:
    def script(peer: Peer) -> None:
        while True:
            peer.read_request()
            peer.reply(SLOTS_BODY)

    with RawServer(script) as server:
        send(a_config(server.url), SLOTS, a_capture(), SLOTS)
        assert server.accepted == 1
        send(a_config(server.url), SLOTS, a_schedule(), a_schedule())
        assert server.accepted == 4


def test_kept_connection_that_the_server_closed(send: Send) -> None:
    """The server hangs up between two requests: the next one gets a new connection."""
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.reply(SLOTS_BODY)
        peer.socket.shutdown(socket.SHUT_RDWR)
        peer.socket.close()
        closed.set()

    with RawServer(script) as server:
        first, second = send(a_config(server.url), SLOTS, closed, SLOTS)
        assert server.accepted == 2
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)


def test_kept_connection_reset_under_the_request(send: Send) -> None:
    """The request was read on the kept connection and never answered: nobody knows, and it says so."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.reply(SLOTS_BODY)
        peer.read_request()
        peer.reset()

    with RawServer(script) as server:
        _, second = send(a_config(server.url), SLOTS, a_capture())
    assert failure(second) == (True, "connection_lost")


# --- not sent


@pytest.mark.parametrize("request_", [a_schedule(), a_capture(), SLOTS])
def test_refused(send: Send, request_: Request) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert failure(only(send(a_config(f"http://127.0.0.1:{port}"), request_))) == (False, "connect_failed")


def test_unknown_host(send: Send) -> None:
    outcome = only(send(a_config("http://popin.invalid"), a_schedule()))
    assert failure(outcome) == (False, "dns_failed")


def test_tls_to_a_plain_port(send: Send) -> None:
    def script(peer: Peer) -> None:
        peer.socket.recv(100)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with RawServer(script) as server:
        url = server.url.replace("http:", "https:")
        assert failure(only(send(a_config(url), a_schedule()))) == (False, "tls_failed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_reset_before_a_tls_handshake(send: Send) -> None:
    """Python's own ssl module forgets its socket here and warns when it is collected."""
    with RawServer(lambda peer: peer.reset()) as server:
        url = server.url.replace("http:", "https:")
        sent, reason = failure(only(send(a_config(url), a_schedule())))
    assert not sent
    assert reason in ("tls_failed", "connect_failed", "connection_lost")
    gc.collect()


def test_silent_tls_handshake_ends_in_time(send: Send) -> None:
    with RawServer(_stay_silent) as server:
        url = server.url.replace("http:", "https:")
        sent, reason = failure(only(send(a_config(url, timeout_seconds=0.3), a_schedule())))
    assert not sent
    assert reason in ("connect_timeout", "tls_failed", "read_timeout")


def test_too_late(send: Send) -> None:
    with RawServer(lambda peer: None) as server:
        outcome = only(send(a_config(server.url), a_schedule(), not_after=boot_seconds() - 0.001))
        assert failure(outcome) == (False, "too_late")
        assert server.accepted == 0


def test_too_late_after_connecting(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection took its time: the body is held back at the last moment."""
    readings = iter([0.0])
    monkeypatch.setattr("airflow_provider_popin.client.wire.boot_seconds", lambda: next(readings, 99.0))
    bodies: list[bytes] = []

    def script(peer: Peer) -> None:
        bodies.append(peer.wait_for_end().partition(b"\r\n\r\n")[2])

    with RawServer(script) as server:
        outcome = only(send(a_config(server.url), a_schedule(), not_after=2.0))
        assert failure(outcome) == (False, "too_late")
    assert bodies in ([], [b""])


def test_in_time(send: Send) -> None:
    with RawServer(_answer) as server:
        outcome = only(send(a_config(server.url), a_schedule(), not_after=boot_seconds() + 5))
    assert isinstance(outcome, Reply)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue is full: attempts to connect are neither taken nor refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("request_", [a_schedule(), SLOTS])
def test_connect_timeout(send: Send, deaf_port: int, request_: Request) -> None:
    config = replace(a_config(f"http://127.0.0.1:{deaf_port}"), connect_timeout_seconds=0.2)
    began = time.monotonic()
    assert failure(only(send(config, request_))) == (False, "connect_timeout")
    assert time.monotonic() - began < LESS_THAN_THE_DEFAULT


# --- sent, and no reply


def test_reset_after_reading_the_body(send: Send) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.reset()

    with RawServer(script) as server:
        assert failure(only(send(a_config(server.url), a_schedule()))) == (True, "connection_lost")


def test_hang_up_after_reading_the_body(send: Send) -> None:
    with RawServer(_hang_up) as server:
        assert failure(only(send(a_config(server.url), a_schedule()))) == (True, "connection_lost")


def test_reset_before_reading(send: Send) -> None:
    """Whether the body was asked for before the reset arrived is a race; either is told consistently."""
    with RawServer(lambda peer: peer.reset()) as server:
        sent, reason = failure(only(send(a_config(server.url), a_schedule())))
    assert reason == "connection_lost" if sent else reason in ("connection_lost", "connect_failed")


def test_silence_is_a_read_timeout(send: Send) -> None:
    with RawServer(_stay_silent) as server:
        began = time.monotonic()
        outcome = only(send(a_config(server.url, timeout_seconds=0.2), a_schedule()))
        assert failure(outcome) == (True, "read_timeout")
        assert time.monotonic() - began < LESS_THAN_THE_DEFAULT


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
def test_dripping_reply_ends_with_the_whole_exchange(send: Send, head: bytes) -> None:
    """Every single read succeeds in time; the exchange as a whole does not. The connection is then gone."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(head)
        try:
            while True:
                peer.send(b"a")
                time.sleep(0.02)
        finally:
            ended.set()

    with RawServer(script) as server:
        began = time.monotonic()
        outcome = only(send(a_config(server.url, timeout_seconds=0.3), a_schedule()))
        assert failure(outcome) == (True, "read_timeout")
        assert time.monotonic() - began < LESS_THAN_THE_DEFAULT
        assert ended.wait(PATIENCE_SECONDS)
    _no_thread_left()


def test_cut_body(send: Send) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + SCHEDULE_BODY)

    with RawServer(script) as server:
        assert failure(only(send(a_config(server.url), a_schedule()))) == (True, "connection_lost")


@pytest.mark.parametrize("chunk", [b"zz\r\n{}\r\n", b"10\r\n{}", b"-1\r\n", b"ffffffffffffffffffff\r\n{}"])
def test_broken_chunks(send: Send, chunk: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)

    with RawServer(script) as server:
        sent, reason = failure(only(send(a_config(server.url), a_schedule())))
    assert sent
    assert reason in ("connection_lost", "bad_reply")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: none\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    ],
)
def test_what_is_no_http(send: Send, garbage: bytes) -> None:
    """Never an exception; either library may still make a reply of some of it."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(garbage)

    with RawServer(script) as server:
        outcome = only(send(a_config(server.url), a_schedule()))
    if isinstance(outcome, Failure):
        assert outcome.sent
        assert outcome.reason in ("connection_lost", "bad_reply")


# --- replies


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("200 OK", b"<html>hello</html>"),
        ("204 No Content", b""),
        ("401 Unauthorized", b"{}"),
        ("422 Unprocessable Entity", b'{"message":"no"}'),
        ("429 Too Many Requests", b"{}"),
        ("500 Internal Server Error", b"oops"),
    ],
)
def test_replies_come_back_as_they_are(send: Send, status: str, body: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if status.startswith("204"):
            peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            peer.reply(body, status, Retry_After="7")

    with RawServer(script) as server:
        outcome = only(send(a_config(server.url), a_schedule()))
    assert isinstance(outcome, Reply)
    assert (outcome.status, outcome.body) == (int(status[:3]), body)


@pytest.mark.parametrize("interim", [b"102 Processing", b"103 Early Hints\r\nLink: </a>"])
def test_what_comes_before_the_reply_is_not_the_reply(send: Send, interim: bytes) -> None:
    """Else the reply would be read as that to the next request, and one lead would be another's customer."""
    bodies = [CAPTURE_BODY, CAPTURE_BODY.replace(b"MzE1", b"MzE2")]

    def script(peer: Peer) -> None:
        for body in bodies:
            peer.read_request()
            peer.send(b"HTTP/1.1 " + interim + b"\r\n\r\n")
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            peer.reply(body)

    with RawServer(script) as server:
        outcomes = send(a_config(server.url), a_capture(), a_capture())
        assert server.accepted == 1
    assert [(reply.status, reply.body) for reply in outcomes if isinstance(reply, Reply)] == [
        (200, body) for body in bodies
    ]
    assert all("link" not in reply.headers for reply in outcomes if isinstance(reply, Reply))


def test_redirect_is_not_followed(send: Send) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.reply(b"", "302 Found", Location="/elsewhere")

    with RawServer(script) as server:
        outcome = only(send(a_config(server.url), a_schedule()))
        assert isinstance(outcome, Reply)
        assert outcome.status == 302
        assert server.accepted == 1


def test_early_refusal_of_the_body(send: Send) -> None:
    """A server may answer before it has read the body."""

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.reply(b"{}", "401 Unauthorized", Connection="close")
        peer.wait_for_end()

    with RawServer(script) as server:
        outcome = only(send(a_config(server.url), a_schedule()))
    assert isinstance(outcome, Reply)
    assert outcome.status == 401


@pytest.mark.parametrize("declared", [True, False])
def test_body_too_large(send: Send, declared: bool) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        length = b"Content-Length: 1000000000\r\n" if declared else b""
        peer.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while True:
            peer.send(b"a" * 100_000)

    with RawServer(script) as server:
        assert failure(only(send(a_config(server.url), a_schedule()))) == (True, "body_too_large")


@pytest.mark.parametrize(
    ("encoding", "packed", "expected"),
    [
        ("gzip", gzip.compress(SCHEDULE_BODY), SCHEDULE_BODY),
        ("deflate", zlib.compress(SCHEDULE_BODY), SCHEDULE_BODY),
        ("deflate", zlib.compress(SCHEDULE_BODY)[2:-4], SCHEDULE_BODY),
        ("identity", SCHEDULE_BODY, SCHEDULE_BODY),
        ("gzip", gzip.compress(bytes(MAX_BODY_BYTES + 1)), "body_too_large"),
        ("gzip", gzip.compress(SCHEDULE_BODY)[:-10], "bad_reply"),
        ("gzip", b"no gzip", "bad_reply"),
        ("br", SCHEDULE_BODY, "bad_reply"),
        ("gzip", b"", b""),
        ("br", b"", b""),
        ("gzip, gzip", gzip.compress(gzip.compress(SCHEDULE_BODY)), "bad_reply"),
    ],
)
def test_content_encodings(send: Send, encoding: str, packed: bytes, expected: bytes | str) -> None:
    """None is asked for. What comes nevertheless is unpacked with a limit: a bomb does not go off."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.reply(packed, Content_Encoding=encoding)

    with RawServer(script) as server:
        outcome = only(send(a_config(server.url), a_schedule()))
    if isinstance(expected, bytes):
        assert isinstance(outcome, Reply)
        assert outcome.body == expected
    else:
        assert failure(outcome) == (True, expected)


# --- proxies


def test_refused_proxy(send: Send) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config = a_config("http://popin.invalid", proxy=f"http://127.0.0.1:{port}")
    sent, reason = failure(only(send(config, a_schedule())))
    assert (sent, reason) == (False, "proxy_failed")


def test_proxy_that_refuses_the_tunnel(send: Send) -> None:
    def script(peer: Peer) -> None:
        assert peer.read_head().startswith(b"CONNECT popin.invalid:443 ")
        peer.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with RawServer(script) as server:
        outcome = only(send(a_config("https://popin.invalid", proxy=server.url), a_schedule()))
    assert failure(outcome) == (False, "proxy_failed")


def test_proxy_with_a_password(send: Send) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        heads.append(peer.read_head())
        peer.read_request()
        peer.reply(SCHEDULE_BODY)

    with RawServer(script) as server:
        proxy = server.url.replace("http://", "http://user:pass@")
        outcome = only(send(a_config("http://popin.invalid", proxy=proxy), a_schedule()))
    assert isinstance(outcome, Reply)
    assert heads[0].startswith(b"POST http://popin.invalid/api/v1/external/schedule HTTP/1.1")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in heads[0]


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_proxy_of_the_environment(send: Send, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(_answer) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("http://", scheme))
        assert isinstance(only(send(a_config("http://popin.invalid"), a_schedule())), Reply)
        monkeypatch.setenv("no_proxy", "popin.invalid")
        outcome = only(send(a_config("http://popin.invalid"), a_schedule()))
        assert failure(outcome) == (False, "dns_failed")


@pytest.mark.parametrize("proxy", ["http://:1", "socks5://127.0.0.1:1"])
def test_unusable_proxy_of_the_environment(send: Send, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    if send is SENDERS["async-in-thread"]:
        return
    with pytest.raises(PopinConfigError) as caught:
        send(a_config("http://popin.invalid"), a_schedule())
    assert (caught.value.conn_id, caught.value.field) == ("popin_default", "proxy")
    assert "environment" in str(caught.value)


# --- certificates


def test_missing_ca_bundle(send: Send, tmp_path: Path) -> None:
    if send is SENDERS["async-in-thread"]:
        return
    with pytest.raises(PopinConfigError) as caught:
        send(a_config("https://127.0.0.1:1", verify=str(tmp_path / "none.pem")), a_schedule())
    assert caught.value.field == "verify"


def _stay_silent(peer: Peer) -> None:
    peer.wait_for_end()


def _hang_up(peer: Peer) -> None:
    peer.read_request()


def _answer(peer: Peer) -> None:
    peer.read_request()
    peer.reply(SCHEDULE_BODY)


def _no_thread_left() -> None:
    wait_until(lambda: all(thread.name != "popin-request" for thread in threading.enumerate()))
