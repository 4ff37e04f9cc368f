"""A request's body, read within limits: what a stranger sends must cost neither memory nor patience."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

MAX_BODY_BYTES = 64 * 1024
# Popin's bodies are about 1 KB; whoever takes longer is broken, or means to hold the connection.
READ_SECONDS = 10.0


class BodyTooLargeError(Exception):
    """The body is larger than :data:`MAX_BODY_BYTES`."""


class BodyTooSlowError(Exception):
    """The body had not arrived in time."""


async def read_body(request: Request, *, seconds: float) -> bytes:
    """Read the body; never more than the limit is held, whatever ``Content-Length`` says.

    :param request: whose body nobody has read.
    :param seconds: for the whole body.
    :raises BodyTooLargeError: by the header, or by what came.
    :raises BodyTooSlowError: it did not come in time.
    """
    if _announced(request) > MAX_BODY_BYTES:
        raise BodyTooLargeError
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise BodyTooLargeError
    except TimeoutError:
        raise BodyTooSlowError from None
    return bytes(body)


async def discard_body(request: Request, *, seconds: float) -> bool:
    """Let the body pass, keeping nothing, so that the sender is still there to read the answer.

    :param request: whose body nobody has read.
    :param seconds: how long at most.
    :return: whether its end was reached; else the connection should be closed.
    """
    if _announced(request) > MAX_BODY_BYTES:
        return False
    passed = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                passed += len(chunk)
                if passed > MAX_BODY_BYTES:
                    return False
    except TimeoutError:
        return False
    return True


def _announced(request: Request) -> int:
    """What ``Content-Length`` says; 0 for nothing usable, which the server has refused already."""
    text = request.headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0
