"""Sends many requests at once from an event loop: for the lead sync and for triggers.

Lean, since it is asked for thousands of requests a second, and because a booking must know whether its first
byte has left: between it and the connection is no library with a mind of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import TracebackType

from airflow_provider_popin.client import protocol
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.connector import ConnectError, Connector
from airflow_provider_popin.client.exchange import Endpoint, Exchange, Failure, Request
from airflow_provider_popin.client.http_connection import HttpConnection
from airflow_provider_popin.client.wire import is_late, unpack

# Popin's own limit is unknown; common servers close after 5 seconds and more.
_KEEP_ALIVE_SECONDS = 4.0


class AsyncSender:
    """Sends requests from one event loop, in whatever thread it runs.

    Never retries a POST, never follows a redirect, keeps no cookies, reads no netrc.

    A schedule request always gets a connection of its own: a kept one may be closed by the server in the very
    moment in which the booking is written to it, and nobody could tell what became of it.

    Use as an async context manager. The number of requests under way is the caller's affair.

    :param config: whose account
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._connector: Connector | None = None
        self._kept: list[tuple[HttpConnection, float]] = []
        self._target_start = ""
        self._header_lines = ""

    async def __aenter__(self) -> AsyncSender:
        """Get ready to connect.

        :raises PopinConfigError: the CA bundle, or a proxy of the environment, is unusable
        """
        connector = Connector(self._config)
        await connector.prepare()
        headers = {**connector.headers(), **protocol.headers(self._config)}
        self._header_lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._target_start = connector.target(protocol.api_url(self._config))
        self._connector = connector
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connector = None
        while self._kept:
            self._kept.pop()[0].abort()
        # A loop closes a connection in its next turn; it may be this one's last.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def send(self, request: Request, *, not_after: float | None = None) -> Exchange:
        """Send once and say what came of it. Network trouble is an answer, not an exception.

        Cancelling it keeps the body back, if it has not been let out yet; whether it has, the canceller
        cannot tell.

        :param request: what
        :param not_after: value of :func:`~.clock.boot_seconds` after which the body must not be written
        :raises RuntimeError: outside of the context manager
        """
        if self._connector is None:
            raise RuntimeError("AsyncSender is used outside of its context manager")
        if is_late(not_after):
            return Failure(sent=False, reason="too_late")
        began = asyncio.get_running_loop().time()
        alone = request.endpoint is Endpoint.SCHEDULE
        connection = None if alone else self._take_kept(began)
        if connection is None:
            try:
                connection = await self._connector.connect(began + self._config.connect_timeout_seconds)
            except ConnectError as error:
                return Failure(sent=False, reason=error.reason)
        # Nothing may come between these questions and the first byte.
        if not connection.is_usable:
            return Failure(sent=False, reason="connection_lost")
        if is_late(not_after):
            connection.abort()
            return Failure(sent=False, reason="too_late")
        try:
            exchange = await connection.exchange(
                self._bytes_of(request, last=alone), began + self._config.timeout_seconds
            )
        finally:
            self._keep_or_drop(connection, keep=not alone)
        return _unpacked(exchange)

    def _take_kept(self, now: float) -> HttpConnection | None:
        while self._kept:
            connection, since = self._kept.pop()
            if connection.is_usable and now - since < _KEEP_ALIVE_SECONDS:
                return connection
            connection.abort()
        return None

    def _keep_or_drop(self, connection: HttpConnection, *, keep: bool) -> None:
        if keep and connection.is_usable and self._connector is not None:
            self._kept.append((connection, asyncio.get_running_loop().time()))
        else:
            connection.abort()

    def _bytes_of(self, request: Request, *, last: bool) -> bytes:
        head = f"{request.method} {self._target_start}{request.path} HTTP/1.1\r\n{self._header_lines}"
        if last:
            head += "Connection: close\r\n"
        if request.body is None:
            return f"{head}\r\n".encode("ascii")
        head += f"Content-Type: application/json\r\nContent-Length: {len(request.body)}\r\n\r\n"
        return head.encode("ascii") + request.body


def _unpacked(exchange: Exchange) -> Exchange:
    if isinstance(exchange, Failure):
        return exchange
    plain = unpack(exchange.body, exchange.headers.get("content-encoding"))
    if isinstance(plain, str):
        return Failure(sent=True, reason=plain)
    return exchange if plain is exchange.body else replace(exchange, body=plain)
