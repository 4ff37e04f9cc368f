"""Connects to Popin's host: name, address, proxy, TLS. Nothing of a request has left before it is done."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from urllib.parse import SplitResult, unquote, urlsplit

import aiohappyeyeballs
from requests import utils

from airflow_provider_popin.client.config import DEFAULT_PORTS, ClientConfig
from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.client.exchange import Reply
from airflow_provider_popin.client.http_connection import HttpConnection
from airflow_provider_popin.client.wire import tls_context

_ADDRESS_SECONDS = 60.0
# A host may have addresses that nobody answers at: the next one is tried after so long (RFC 8305).
_NEXT_ADDRESS_SECONDS = 0.25


class ConnectError(Exception):
    """There is no connection.

    :param reason: one of :data:`.exchange.NOT_CONNECTED`
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Connector:
    """Opens connections to one account's host, straight or through the proxy of connection or environment.

    :param config: whose account
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._target = urlsplit(config.base_url)
        self._proxy: SplitResult | None = None
        self._tls: ssl.SSLContext | None = None
        self._addresses: Sequence[aiohappyeyeballs.AddrInfoType] = ()
        self._addresses_until = 0.0
        self._resolving = asyncio.Lock()

    async def prepare(self) -> None:
        """Look up the proxy and read the certificates; once, before anything else.

        :raises PopinConfigError: the CA bundle, or a proxy of the environment, is unusable
        """
        self._proxy = _proxy_for(self._config)
        if "https" in (self._target.scheme, self._proxy and self._proxy.scheme):
            # Reading a CA bundle takes 10 ms and more, for which a triggerer's loop must not stand still.
            self._tls = await asyncio.to_thread(tls_context, self._config)

    def headers(self) -> dict[str, str]:
        """The headers of a request that are between client, proxy and server."""
        default_port = self._target.port in (None, DEFAULT_PORTS[self._target.scheme])
        headers = {"Host": _bracketed(self._target) if default_port else _authority(self._target)}
        if self._is_forwarded and self._proxy_authorization is not None:
            headers["Proxy-Authorization"] = self._proxy_authorization
        return headers

    def target(self, url: str) -> str:
        """How a request names what it is about: by its path, to a proxy that reads it by its whole URL.

        :param url: of the account's host
        """
        return url if self._is_forwarded else urlsplit(url).path

    async def connect(self, deadline: float) -> HttpConnection:
        """Make a connection that is ready for a request.

        :param deadline: value of the loop's clock
        :raises ConnectError: there is none to be had
        """
        try:
            async with asyncio.timeout_at(deadline):
                if self._proxy is None:
                    return await self._open(self._target)
                with _told_of_proxy():
                    connection = await self._open(self._proxy)
                if self._target.scheme == "http":
                    return connection
                return await self._tunnel(connection, deadline)
        except TimeoutError:
            raise ConnectError("connect_timeout") from None

    async def _open(self, server: SplitResult) -> HttpConnection:
        tls = self._tls if server.scheme == "https" else None
        name = _certified_name(server) if tls else None
        create_connection = asyncio.get_running_loop().create_connection
        try:
            addresses = await self._resolve(server)
        except OSError:
            raise ConnectError("dns_failed") from None
        if len(addresses) == 1:
            # What comes next does the same, at more expense.
            host, port = addresses[0][4][:2]
            with self._told_of_server():
                return (await create_connection(HttpConnection, host, port, ssl=tls, server_hostname=name))[1]
        with self._told_of_server():
            opened = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1
            )
            # The loop's from here on, which closes it where it fails.
            return (await create_connection(HttpConnection, sock=opened, ssl=tls, server_hostname=name))[1]

    async def _resolve(self, server: SplitResult) -> Sequence[aiohappyeyeballs.AddrInfoType]:
        loop = asyncio.get_running_loop()
        if loop.time() < self._addresses_until:
            return self._addresses
        async with self._resolving:
            if loop.time() >= self._addresses_until:
                port = server.port or DEFAULT_PORTS[server.scheme]
                self._addresses = await loop.getaddrinfo(server.hostname, port, type=socket.SOCK_STREAM)
                self._addresses_until = loop.time() + _ADDRESS_SECONDS
            return self._addresses

    async def _tunnel(self, proxy: HttpConnection, deadline: float) -> HttpConnection:
        """Have the proxy pass everything on, and speak TLS through it."""
        assert self._tls is not None
        with self._told_of_server(), ExitStack() as failed:
            failed.callback(proxy.abort)
            # The limit around all of this comes first.
            answer = await proxy.exchange(self._connect_request(), deadline + 1, head_only=True)
            if not isinstance(answer, Reply) or not 200 <= answer.status < 300:
                raise ConnectError("proxy_failed")
            connection = HttpConnection()
            transport = await asyncio.get_running_loop().start_tls(
                proxy.transport, connection, self._tls, server_hostname=_certified_name(self._target)
            )
            if transport is None:  # lost in the very moment in which it was ready
                raise ConnectError("connect_failed")
            connection.connection_made(transport)
            failed.pop_all()
            return connection

    @contextmanager
    def _told_of_server(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLError:
            raise ConnectError("tls_failed") from None
        except OSError:
            self._addresses_until = 0.0  # it may have moved
            raise ConnectError("connect_failed") from None

    def _connect_request(self) -> bytes:
        lines = [f"CONNECT {_authority(self._target)} HTTP/1.1", f"Host: {_authority(self._target)}"]
        if self._proxy_authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy_authorization}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    @property
    def _is_forwarded(self) -> bool:
        """Whether a proxy reads the requests; if not, it passes on what it cannot read."""
        return self._proxy is not None and self._target.scheme == "http"

    @property
    def _proxy_authorization(self) -> str | None:
        if self._proxy is None or self._proxy.username is None:
            return None
        user = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
        return f"Basic {base64.b64encode(user.encode()).decode()}"


def _proxy_for(config: ClientConfig) -> SplitResult | None:
    """The connection's proxy, else the environment's, by the rules of requests."""
    proxy = config.proxy or utils.select_proxy(
        config.base_url, utils.get_environ_proxies(config.base_url, None)
    )
    if not proxy:
        return None
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        # The connection's own was checked; what is left is the environment's.
        raise PopinConfigError(
            "the proxy of the environment is unusable", conn_id=config.conn_id, field="proxy"
        )
    return parts


@contextmanager
def _told_of_proxy() -> Iterator[None]:
    """Whatever failed, it was the proxy."""
    try:
        yield
    except ConnectError:
        raise ConnectError("proxy_failed") from None


def _certified_name(server: SplitResult) -> str:
    """The host as its certificate has it."""
    return (server.hostname or "").rstrip(".")


def _authority(server: SplitResult) -> str:
    return f"{_bracketed(server)}:{server.port or DEFAULT_PORTS[server.scheme]}"


def _bracketed(server: SplitResult) -> str:
    return f"[{server.hostname}]" if ":" in (server.hostname or "") else server.hostname or ""
