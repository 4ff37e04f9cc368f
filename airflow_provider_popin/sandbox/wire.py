"""HTTP as the sandbox speaks it: bodies in, answers out, and the headers that Popin wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import NamedTuple

from starlette.types import Receive, Send

from airflow_provider_popin.sandbox.oracle import RequestRecord

JSON = b"application/json"
HTML = b"text/html; charset=UTF-8"
LOGIN_PAGE = (
    b"<!DOCTYPE html><html><head><title>Popin</title></head><body><h1>Log in</h1>"
    b"<form method=post action=/login><input name=email><input name=password type=password></form>"
    b"</body></html>"
)
METHODS = {"capture": "POST", "slots": "GET", "schedule": "POST"}
MAX_BODY_BYTES = 1024 * 1024
DRIPS = 10

Headers = tuple[tuple[bytes, bytes], ...]


class Reply(NamedTuple):
    """
    One HTTP answer.

    :param status: HTTP status.
    :param body: body.
    :param content_type: content type.
    :param headers: further headers.
    """

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = ()


def json_reply(status: int, payload: object, headers: Headers = ()) -> Reply:
    """
    A JSON answer.

    :param status: HTTP status.
    :param payload: JSON value.
    :param headers: further headers.
    :return: the answer.
    """
    return Reply(status, ENCODER.encode(payload).encode(), JSON, headers)


def message_reply(status: int, text: str, headers: Headers = ()) -> Reply:
    """
    A JSON answer with nothing but a message, as Laravel gives it (I).

    :param status: HTTP status.
    :param text: the message.
    :param headers: further headers.
    :return: the answer.
    """
    return json_reply(status, {"message": text}, headers)


def header_refusal(
    endpoint: str, method: str, headers: Iterable[tuple[bytes, bytes]], *, key: bytes, token: bytes
) -> Reply | None:
    """
    The answer to a request that is wrong before its body is looked at.

    :param endpoint: endpoint of the path.
    :param method: HTTP method.
    :param headers: names (lower case) and values.
    :param key: the right `X-API-KEY`.
    :param token: the right `X-TOKEN`.
    :return: 405; without `Accept: application/json` the HTML login page (I); 401 (P); 415 for a POST that
        is not said to be JSON (I); None when all is in order.
    """
    right_method = METHODS[endpoint]
    if method != right_method:
        text = f"The {method} method is not supported for this route. Supported methods: {right_method}."
        return message_reply(405, text, ((b"allow", right_method.encode()),))
    got = dict(headers)
    if JSON not in got.get(b"accept", b""):
        return Reply(200, LOGIN_PAGE, HTML)
    if got.get(b"x-api-key") != key or got.get(b"x-token") != token:
        return message_reply(401, "Unauthenticated.")
    if method == "POST" and not _says_json(got.get(b"content-type", b"")):
        return message_reply(415, "Unsupported Media Type")
    return None


def parse_body(endpoint: str, body: bytes) -> dict[str, object] | Reply:
    """
    The JSON object of a request.

    :param endpoint: endpoint of the path.
    :param body: the whole body.
    :return: the object (empty for slots, and for JSON that is no object: all its fields are then missing);
        or the answer to a body that must not be: 400 for a GET with a body or for what is not JSON, 413
        above 1 MiB (all I).
    """
    if endpoint == "slots":
        return message_reply(400, "A GET request has no body.") if body else {}
    if len(body) > MAX_BODY_BYTES:
        return message_reply(413, "Payload Too Large")
    try:
        value = DECODER.decode(body.decode())
        if b"\\ud" in body.lower():
            # Half of a surrogate pair is no text: Python reads it, and could never write it again.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return message_reply(400, "The body is not JSON.")
    return value if isinstance(value, dict) else {}


async def read_body(receive: Receive) -> bytes | None:
    """
    Read a body to its end.

    :param receive: ASGI receive.
    :return: the body (cut after 1 MiB and a little), None when the client went away before its end.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part: bytes = message.get("body", b"")
        if size <= MAX_BODY_BYTES:
            parts.append(part)
            size += len(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_reply(record: RequestRecord, reply: Reply, send: Send) -> None:
    """
    Send an answer.

    :param record: the oracle's record; gets the status.
    :param reply: the answer.
    :param send: ASGI send.
    """
    await start_reply(record, reply, send)
    await send({"type": "http.response.body", "body": reply.body})


async def start_reply(record: RequestRecord, reply: Reply, send: Send) -> None:
    """
    Send the status line and headers of an answer; Content-Length is that of the whole body.

    :param record: the oracle's record; gets the status.
    :param reply: the answer.
    :param send: ASGI send.
    """
    record.status = reply.status
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def drip_reply(record: RequestRecord, reply: Reply, seconds: float, send: Send) -> None:
    """
    Send an answer, its body in small pieces.

    :param record: the oracle's record; gets the status.
    :param reply: the answer.
    :param seconds: how long the body takes.
    :param send: ASGI send.
    """
    await start_reply(record, reply, send)
    step = max(1, -(-len(reply.body) // DRIPS))
    for first in range(0, len(reply.body), step):
        await asyncio.sleep(seconds / DRIPS)
        piece = reply.body[first : first + step]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def wait_until_gone(receive: Receive) -> None:
    """
    Wait for the end of the connection, which uvicorn must have seen before a handler may leave without an
    answer.

    :param receive: ASGI receive.
    """
    while (await receive())["type"] != "http.disconnect":
        pass


def _says_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == JSON


def _refuse_constant(name: str) -> object:
    raise ValueError(name)  # NaN and Infinity are no JSON, though Python reads them


# json.dumps and json.loads make a new encoder or decoder for every call that has options.
ENCODER = json.JSONEncoder(separators=(",", ":"))
DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
