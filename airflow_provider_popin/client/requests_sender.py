"""Sends one request at a time with requests: for hooks, operators and the command line.

requests limits every single read, not the exchange, and its DNS look-up not at all. So each exchange runs in
a thread of its own, and whoever asked waits for it no longer than allowed. An exchange that was given up
keeps its body to itself, if it has not been let out yet, and loses its socket, so that a server that drips
bytes keeps no thread.

Requests are prepared and handed to the adapter without a session's send(): that one would read netrc, keep
cookies, and even with redirects off read the body of a redirect whatever its size.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

from airflow_provider_popin.client import protocol
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.client.exchange import NOT_CONNECTED, Endpoint, Exchange, Failure, Reply, Request
from airflow_provider_popin.client.wire import MAX_BODY_BYTES, SendGate, SendRefusedError, tls_context, unpack

_CHUNK_BYTES = 65_536

# What the running thread is busy with, for its connection to leave the socket there.
_busy = threading.local()


class RequestsSender:
    """Sends requests, blocking. Thread-safe.

    Never retries, never follows a redirect, keeps no cookies, reads no netrc.

    A schedule request always gets a connection of its own: a kept one may be closed by the server in the very
    moment in which the booking is written to it, and nobody could tell what became of it.

    :param config: whose account
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._headers = protocol.headers(config)
        self._environment = requests.Session()
        self._kept = _Adapter()
        self._verify_checked = False

    def __enter__(self) -> RequestsSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        self._kept.close()
        self._environment.close()

    def send(self, request: Request, *, not_after: float | None = None) -> Exchange:
        """Send once and say what came of it. Network trouble is an answer, not an exception.

        :param request: what
        :param not_after: value of :func:`~.clock.boot_seconds` after which the body must not be written any
            more
        :raises PopinConfigError: the CA bundle, or a proxy of the environment, is unusable
        """
        response = self.fetch(request, not_after=not_after)
        if isinstance(response, Failure):
            return response
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, headers, response.content)

    def fetch(
        self, request: Request, *, not_after: float | None = None, max_bytes: int = MAX_BODY_BYTES
    ) -> requests.Response | Failure:
        """Like :meth:`send`, but the library's own response, its body read.

        :param request: what
        :param not_after: see :meth:`send`
        :param max_bytes: how large the body may be
        :raises PopinConfigError: see :meth:`send`
        """
        self._check_verify()
        gate = SendGate(not_after)
        if gate.is_late():
            return Failure(sent=False, reason="too_late")
        fresh = request.endpoint is Endpoint.SCHEDULE
        attempt = _Attempt(
            adapter=_Adapter() if fresh else self._kept,
            prepared=self._prepare(request, gate),
            gate=gate,
            config=self._config,
            max_bytes=max_bytes,
        )
        try:
            return attempt.run(self._options(attempt.url))
        finally:
            if fresh:
                attempt.adapter.close()

    def _prepare(self, request: Request, gate: SendGate) -> requests.PreparedRequest:
        headers = dict(self._headers)
        body = None
        if request.body is not None:
            headers["Content-Type"] = "application/json"
            body = _Body(request.body, gate)
        url = protocol.url(self._config, request)
        # The library's types know no file-like objects but real ones.
        data: Any = body
        return requests.Request(request.method, url, headers=headers, data=data).prepare()

    def _options(self, url: str) -> dict[str, Any]:
        """Proxies and certificates, from the connection or else from the environment."""
        proxy = self._config.proxy
        proxies = {"http": proxy, "https": proxy} if proxy else {}
        merged = self._environment.merge_environment_settings(url, proxies, True, self._config.verify, None)
        timeout = (self._config.connect_timeout_seconds, self._config.timeout_seconds)
        return {**merged, "timeout": timeout}

    def _check_verify(self) -> None:
        if not self._verify_checked and isinstance(self._config.verify, str):
            tls_context(self._config)
        self._verify_checked = True


class _Attempt:
    """One exchange in a thread of its own."""

    def __init__(
        self,
        *,
        adapter: HTTPAdapter,
        prepared: requests.PreparedRequest,
        gate: SendGate,
        config: ClientConfig,
        max_bytes: int,
    ) -> None:
        self.adapter = adapter
        self._prepared = prepared
        self._gate = gate
        self._config = config
        self._max_bytes = max_bytes
        self._done = threading.Event()
        self._socket: socket.socket | None = None
        self._result: requests.Response | Failure | None = None
        self._error: BaseException | None = None

    @property
    def url(self) -> str:
        return self._prepared.url or ""

    def run(self, options: Mapping[str, Any]) -> requests.Response | Failure:
        """Exchange, or give up when the time for it is over or an exception ends the waiting."""
        threading.Thread(target=self._work, args=(options,), name="popin-request", daemon=True).start()
        finished = False
        try:
            finished = self._done.wait(self._config.timeout_seconds)
        finally:
            sent = finished or self._give_up()
        if not finished:
            return Failure(sent=sent, reason="read_timeout" if sent else "connect_timeout")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def watch(self, connection: socket.socket) -> None:
        """Remember the socket that the reply will come from."""
        self._socket = connection

    def _give_up(self) -> bool:
        sent = self._gate.shut()
        if self._socket is not None:
            # Not the method of a TLS socket, which would change the state that the other thread is reading
            # with.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        return sent if self._prepared.body is not None else self._socket is not None

    def _work(self, options: Mapping[str, Any]) -> None:
        _busy.attempt = self
        try:
            self._result = self._exchange(options)
        except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
            self._error = error
        finally:
            _busy.attempt = None
            self._done.set()

    def _exchange(self, options: Mapping[str, Any]) -> requests.Response | Failure:
        try:
            with self.adapter.send(self._prepared, **options) as response:
                return self._read(response)
        except SendRefusedError:
            return Failure(sent=False, reason="too_late" if self._gate.late else "connect_timeout")
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
            # The connection's own URLs were checked; what is left is the environment's proxy.
            raise PopinConfigError(
                "the proxy of the environment is unusable", conn_id=self._config.conn_id, field="proxy"
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            return self._failure(_reason(error))
        except OSError:
            if self._gate.sent:
                return self._failure("connection_lost")
            raise PopinConfigError(
                "the CA bundle of the environment is unusable", conn_id=self._config.conn_id, field="verify"
            ) from None

    def _read(self, response: requests.Response) -> requests.Response | Failure:
        body = bytearray()
        for chunk in _raw_chunks(response.raw):
            body += chunk
            if len(body) > self._max_bytes:
                return self._failure("body_too_large")
        plain = unpack(bytes(body), response.headers.get("Content-Encoding"), self._max_bytes)
        if isinstance(plain, str):
            return self._failure(plain)
        # What response.content would do, with a limit.
        response._content = plain
        response._content_consumed = True  # type: ignore[attr-defined]
        return response

    def _failure(self, reason: str) -> Failure:
        if self._prepared.body is None:
            return Failure(sent=reason not in NOT_CONNECTED, reason=reason)
        # TLS trouble after the body is the connection's end, not its beginning.
        late_tls = self._gate.sent and reason in NOT_CONNECTED
        return Failure(sent=self._gate.sent, reason="connection_lost" if late_tls else reason)


class _Body:
    """The body as the library reads it: lets it out through the gate."""

    def __init__(self, content: bytes, gate: SendGate) -> None:
        self._rest = content
        self._length = len(content)
        self._gate = gate

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        """Makes the library take this for a stream; it reads all the same."""
        yield self.read()

    def read(self, _size: int = -1) -> bytes:
        """Everything at once: bodies are a few hundred bytes."""
        if self._rest:
            self._gate.open()
        content, self._rest = self._rest, b""
        return content


class _FinalResponse(http.client.HTTPResponse):
    """The reply itself. The library takes a 103 before it for the reply, and it for the next request's."""

    def begin(self) -> None:
        super().begin()
        while 100 < self.status < 200:
            self.headers = None  # type: ignore[assignment]  # else there would be nothing to begin
            super().begin()


class _Connection(HTTPConnection):
    response_class = _FinalResponse

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        _leave_socket(self.sock)
        return super().getresponse()


class _TlsConnection(HTTPSConnection):
    response_class = _FinalResponse

    def connect(self) -> None:
        super().connect()
        # Only read for the library's warning: whoever turned `verify` off knows, and is not told every time.
        self.is_verified = True

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        _leave_socket(self.sock)
        return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class _Adapter(HTTPAdapter):
    """An adapter whose connections say which socket they read from."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager


def _leave_socket(connection: socket.socket | None) -> None:
    attempt: _Attempt | None = getattr(_busy, "attempt", None)
    if attempt is not None and connection is not None:
        attempt.watch(connection)


def _raw_chunks(raw: Any) -> Iterator[bytes]:
    """The body as it comes over the wire, without the library's unpacking, which has no limit."""
    while chunk := raw.read(_CHUNK_BYTES, decode_content=False):
        yield chunk


def _reason(error: Exception) -> str:
    """The short code of a failed exchange."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "connect_timeout"
    if isinstance(error, requests.exceptions.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return "read_timeout"
    if isinstance(error, requests.exceptions.ProxyError):
        return "proxy_failed"
    if isinstance(error, requests.exceptions.SSLError):
        return "tls_failed"
    cause = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        return "dns_failed"
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        return "connect_failed"
    return "connection_lost"
