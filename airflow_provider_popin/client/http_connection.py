"""One connection to an HTTP server, of which everything is known that matters to a booking: whether it can
still be written to, and whether a reply is complete.

The bytes are read by llhttp, the parser of Node.js (package ``httptools``).
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

from airflow_provider_popin.client.exchange import Exchange, Failure, Reply
from airflow_provider_popin.client.wire import MAX_BODY_BYTES

# A head is a handful of lines; and chunks of one byte each are six times as long as what they carry.
_MAX_HEAD_BYTES = 64 * 1024
_MAX_RAW_BYTES = 2 * MAX_BODY_BYTES


class HttpConnection(asyncio.Protocol):
    """Carries one exchange at a time. Network trouble is an answer, not an exception.

    Whoever makes it gives it to an event loop as a protocol.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        # llhttp in its strict form refuses a bare line feed and blanks that other clients take.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._waiting: asyncio.Future[Exchange] | None = None
        self._head_only = False
        self._keeps_alive = True
        self._forget_reply()

    @property
    def transport(self) -> asyncio.Transport:
        """What the event loop made for it.

        :raises RuntimeError: it has made none
        """
        if self._transport is None:
            raise RuntimeError("HttpConnection is used before it is connected")
        return self._transport

    @property
    def is_usable(self) -> bool:
        """Whether another request may be written, for all that is known by now."""
        return (
            self._keeps_alive
            and self._waiting is None
            and self._transport is not None
            and not self._transport.is_closing()
        )

    async def exchange(self, request: bytes, deadline: float, *, head_only: bool = False) -> Exchange:
        """Write a request and wait for the reply.

        From here on nobody can say whether the server acted on the request, unless it replies. Cancelled
        before that, the connection is not usable any more; whoever has it ends it.

        :param request: head and body
        :param deadline: value of the loop's clock
        :param head_only: the reply ends with its head, as the one to CONNECT does
        """
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Exchange] = loop.create_future()
        self._waiting = waiting
        self._head_only = head_only
        timer = loop.call_at(deadline, self._fail, "read_timeout")
        try:
            self.transport.write(request)
            return await waiting
        finally:
            timer.cancel()

    def abort(self) -> None:
        """End the connection at once: taking leave first, TLS would wait for a peer that is silent."""
        if self._transport is not None:
            self._transport.abort()

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        # Not asked whether it is one: those of uvloop are not derived from it.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._waiting is None:
            # Nothing was asked: what follows could be taken for the reply to the next request.
            self.abort()
            return
        self._raw_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("bad_reply")
            return
        if self._raw_bytes > (_MAX_RAW_BYTES if self._has_head else _MAX_HEAD_BYTES):
            self._fail("body_too_large" if self._has_head else "bad_reply")

    def eof_received(self) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._has_head and not self._tells_length:
            self._keeps_alive = False
            self._reply()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._fail("connection_lost")

    # --- called by the parser

    def on_message_begin(self) -> None:
        """See ``httptools``."""
        if self._waiting is None:
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """See ``httptools``."""
        if not self._has_head:  # what follows a chunked body is no header
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """See ``httptools``."""
        self._has_head = True
        if self._head_only and not 100 <= self._parser.get_status_code() < 200:
            self._reply()

    def on_body(self, part: bytes) -> None:
        """See ``httptools``."""
        self._body += part
        if len(self._body) > MAX_BODY_BYTES:
            self._fail("body_too_large")

    def on_message_complete(self) -> None:
        """See ``httptools``."""
        if 100 <= self._parser.get_status_code() < 200:
            # Something for the meantime; the reply is still to come.
            self._forget_reply()
            return
        self._keeps_alive = self._keeps_alive and self._parser.should_keep_alive()
        self._reply()

    @property
    def _tells_length(self) -> bool:
        return "content-length" in self._headers or "transfer-encoding" in self._headers

    def _forget_reply(self) -> None:
        self._raw_bytes = 0
        self._has_head = False
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def _reply(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Reply(self._parser.get_status_code(), self._headers, bytes(self._body)))
        self._forget_reply()

    def _fail(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Failure(sent=True, reason=reason))
        self._forget_reply()
        self.abort()
