"""Sends many requests at once with aiohttp: for the lead sync and for triggers.

Lean, since it is asked for thousands of requests a second: URLs and headers are made once, proxies are
looked up once, nothing is read that nobody asks for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from types import TracebackType

import aiohttp
from aiohttp import http_exceptions, payload
from aiohttp.abc import AbstractStreamWriter
from requests import utils
from yarl import URL

from airflow_provider_popin.client import protocol
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.client.exchange import NOT_CONNECTED, Endpoint, Exchange, Failure, Reply, Request
from airflow_provider_popin.client.wire import MAX_BODY_BYTES, SendGate, SendRefusedError, tls_context, unpack

# Popin's own limit is unknown; common servers close after 5 seconds and more.
_KEEP_ALIVE_SECONDS = 4.0
_DNS_CACHE_SECONDS = 60
_MAX_URLS = 100


class AiohttpSender:
    """Sends requests from one event loop, in whatever thread it runs.

    Never retries a POST, never follows a redirect, keeps no cookies, reads no netrc.

    A schedule request always gets a connection of its own: a kept one may be closed by the server in the very
    moment in which the booking is written to it, and nobody could tell what became of it.

    Use as an async context manager. The number of requests under way is the caller's affair.

    :param config: whose account
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._proxy: URL | None = None
        self._urls: dict[str, URL] = {}

    async def __aenter__(self) -> AiohttpSender:
        """Open the sessions.

        :raises PopinConfigError: the CA bundle, or a proxy of the environment, is unusable
        """
        secure = self._config.base_url.startswith("https:") or (self._config.proxy or "").startswith("https:")
        # Reading a CA bundle takes 10 ms and more, for which a triggerer's loop must not stand still.
        verify = await asyncio.to_thread(tls_context, self._config) if secure else True
        self._proxy = _proxy_for(self._config)
        self._kept = self._session(verify, keep=True)
        self._fresh = self._session(verify, keep=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept, fresh = self._kept, self._fresh
        self._kept = self._fresh = None
        try:
            if kept is not None:
                await kept.close()
        finally:
            # Also when it is cancelled while it closes the first.
            if fresh is not None:
                await fresh.close()

    async def send(self, request: Request, *, not_after: float | None = None) -> Exchange:
        """Send once and say what came of it. Network trouble is an answer, not an exception.

        Cancelling it keeps the body back, if it has not been let out yet; whether it has, the canceller
        cannot tell.

        :param request: what
        :param not_after: value of :func:`~.clock.boot_seconds` after which the body must not be written
        :raises RuntimeError: outside of the context manager
        """
        session = self._fresh if request.endpoint is Endpoint.SCHEDULE else self._kept
        if session is None:
            raise RuntimeError("AiohttpSender is used outside of its context manager")
        gate = SendGate(not_after)
        if gate.is_late():
            return Failure(sent=False, reason="too_late")
        body = None if request.body is None else _Body(request.body, gate)
        exchange: Exchange | None = None
        try:
            exchange = await self._exchange(session, request, body)
            return exchange
        except (aiohttp.ClientError, OSError, http_exceptions.HttpProcessingError) as error:
            # Shut first: a body that is still waiting for its turn must not leave after this is told as not
            # sent.
            sent = gate.shut()
            return _failure(request, gate, sent, _reason(error, sent))
        finally:
            gate.shut()
            if body is not None and not isinstance(exchange, Reply):
                body.abort()

    async def _exchange(
        self, session: aiohttp.ClientSession, request: Request, body: _Body | None
    ) -> Exchange:
        async with session.request(
            request.method, self._url(request), data=body, allow_redirects=False, proxy=self._proxy
        ) as response:
            raw = await _read(response)
            if raw is None:
                return Failure(sent=True, reason="body_too_large")
            plain = unpack(raw, response.headers.get("Content-Encoding"))
            if isinstance(plain, str):
                return Failure(sent=True, reason=plain)
            return Reply(
                response.status, {name.lower(): value for name, value in response.headers.items()}, plain
            )

    def _url(self, request: Request) -> URL:
        url = self._urls.get(request.path)
        if url is None:
            url = URL(protocol.url(self._config, request), encoded=True)
            if len(self._urls) < _MAX_URLS:
                self._urls[request.path] = url
        return url

    def _session(self, verify: ssl.SSLContext | bool, *, keep: bool) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(
            total=self._config.timeout_seconds, connect=self._config.connect_timeout_seconds
        )
        if keep:
            connector = aiohttp.TCPConnector(
                limit=0, ssl=verify, ttl_dns_cache=_DNS_CACHE_SECONDS, keepalive_timeout=_KEEP_ALIVE_SECONDS
            )
        else:
            connector = aiohttp.TCPConnector(
                limit=0, ssl=verify, ttl_dns_cache=_DNS_CACHE_SECONDS, force_close=True
            )
        return aiohttp.ClientSession(
            connector=connector,
            headers=protocol.headers(self._config),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=timeout,
            auto_decompress=False,
            # Would read netrc, and look the proxies up for every request.
            trust_env=False,
        )


class _Body(payload.BytesPayload):
    """The body as the library writes it: passes the gate first."""

    def __init__(self, content: bytes, gate: SendGate) -> None:
        super().__init__(content, content_type="application/json")
        self._gate = gate
        self._transport: asyncio.Transport | None = None

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._pass(writer)
        await super().write(writer)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._pass(writer)
        await super().write_with_length(writer, content_length)

    def _pass(self, writer: AbstractStreamWriter) -> None:
        # A connection that broke before the first byte was asked for takes none any more.
        transport: asyncio.Transport | None = getattr(writer, "transport", None)
        if transport is None or transport.is_closing():
            raise SendRefusedError
        self._gate.open()
        self._transport = transport

    def abort(self) -> None:
        """Drop the connection at once: closing it politely, TLS would wait for a peer that is silent."""
        if self._transport is not None:
            self._transport.abort()


def _proxy_for(config: ClientConfig) -> URL | None:
    """The connection's proxy, else the environment's, by the rules of requests."""
    proxy = config.proxy or utils.select_proxy(
        config.base_url, utils.get_environ_proxies(config.base_url, None)
    )
    if not proxy:
        return None
    try:
        url = URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise PopinConfigError("is no proxy with an http or https URL", conn_id=config.conn_id, field="proxy")
    return url


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """The body as it comes over the wire, or None if it is too large."""
    chunks = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            response.close()
            return None
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _failure(request: Request, gate: SendGate, sent: bool, reason: str) -> Failure:
    if gate.late:
        return Failure(sent=False, reason="too_late")
    if request.body is None:
        return Failure(sent=reason not in NOT_CONNECTED, reason=reason)
    return Failure(sent=sent, reason=reason)


def _reason(error: Exception, sent: bool) -> str:
    """The short code of a failed exchange."""
    if sent:
        # Whatever it is called, it ended an exchange that was under way.
        if isinstance(error, TimeoutError):
            return "read_timeout"
        return "bad_reply" if _is_malformed(error) else "connection_lost"
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return "proxy_failed"
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        return "tls_failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "dns_failed" if isinstance(error.os_error, socket.gaierror) else "connect_failed"
    if isinstance(error, aiohttp.SocketTimeoutError):
        return "read_timeout"
    if isinstance(error, TimeoutError):
        return "connect_timeout"
    return "bad_reply" if _is_malformed(error) else "connection_lost"


def _is_malformed(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientResponseError | http_exceptions.HttpProcessingError)
