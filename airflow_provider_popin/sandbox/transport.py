"""The server's end of every connection: real TCP resets, and bodies that count though the client is gone."""

from __future__ import annotations

import asyncio
import socket
import struct

HttpProtocol: type[asyncio.Protocol]
try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as HttpProtocol
except ImportError:  # pragma: no cover - httptools is optional, h11 comes with uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol as HttpProtocol

RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Peer = tuple[str, int]


class Connections:
    """Open connections by the client's address, which an ASGI application knows as `scope["client"]`."""

    def __init__(self) -> None:
        self._open: dict[Peer, asyncio.Transport] = {}

    def opened(self, peer: Peer, transport: asyncio.Transport) -> None:
        """
        Note a new connection.

        :param peer: the client's address.
        :param transport: the connection.
        """
        self._open[peer] = transport

    def closed(self, peer: Peer, transport: asyncio.Transport) -> None:
        """
        Forget a connection.

        :param peer: the client's address.
        :param transport: the connection.
        """
        # The client may have used the same port again before we hear that the first connection is over.
        if self._open.get(peer) is transport:
            del self._open[peer]

    def has(self, peer: Peer | None) -> bool:
        """
        Whether the connection is open, as far as we have heard.

        :param peer: the client's address.
        """
        return peer in self._open

    def close(self, peer: Peer) -> None:
        """
        Close one connection in the ordinary way, after what was written has been sent.

        :param peer: the client's address.
        """
        transport = self._open.get(peer)
        if transport is not None:
            transport.close()

    def reset(self, peer: Peer) -> None:
        """
        Reset one connection: the client sees ECONNRESET, what is unsent is thrown away.

        :param peer: the client's address.
        """
        transport = self._open.get(peer)
        if transport is not None:
            _reset(transport)

    def reset_all(self) -> None:
        """Reset every connection."""
        for transport in list(self._open.values()):
            _reset(transport)


class KnownConnection(asyncio.Protocol):
    """One connection that `Connections` knows; to be mixed into a protocol of uvicorn."""

    registry: Connections
    peer: Peer
    # These three are uvicorn's.
    client: Peer | None
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Open.

        :param transport: the connection.
        """
        super().connection_made(transport)
        self.peer = self.client or ("", 0)
        self.registry.opened(self.peer, self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """
        Close, but let handlers first read a body that has arrived as a whole: a server that received a
        booking makes it, whether or not the client still lives.

        :param exc: why, None for an ordinary end.
        """
        self.registry.closed(self.peer, self.transport)
        self.loop.call_soon(super().connection_lost, exc)


def protocol_for(
    registry: Connections, base: type[asyncio.Protocol] = HttpProtocol
) -> type[asyncio.Protocol]:
    """
    A protocol class for one server; uvicorn makes the instances and passes no arguments of ours.

    :param registry: where the connections are kept.
    :param base: uvicorn's protocol.
    :return: the class.
    """
    return type("SandboxProtocol", (KnownConnection, base), {"registry": registry})


def _reset(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()
