"""What Popin would deliver, of people who do not exist, and ways to send it."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.conftest import API_KEY, SELLER_TOKEN
from tests.privacy import register_personal

KEY = "webhook-key-71c0de"
NAME, PHONE, EMAIL = "Gita Webhookson", "9544521001", "gita.webhookson@example.com"
register_personal(KEY, NAME, PHONE, EMAIL)

_numbers = itertools.count(1)


def fresh_id(word: str = "hooks") -> str:
    """Return a connection id that no other test of this process uses: the receiver remembers connections."""
    return f"popin_{word}_{next(_numbers)}"


def address(api_server: str, conn_id: str) -> str:
    """Return the URL that a seller enters in Popin's dashboard."""
    return f"{api_server}/popin/webhooks/{conn_id}"


def set_up(set_connection: Callable[..., None], folder: Path, **extra: object) -> str:
    """Make a Popin connection with a key, and a ledger of its own; return the connection's id.

    :param extra: extra fields of the connection, instead of these.
    """
    conn_id, ledger_conn_id = fresh_id(), fresh_id("ledger")
    set_connection(ledger_conn_id, conn_type="sqlite", host=str(folder / f"{ledger_conn_id}.db"))
    fields = {"webhook_key": KEY, "ledger_conn_id": ledger_conn_id, "account": "shop"} | extra
    set_connection(conn_id, conn_type="popin", login=SELLER_TOKEN, password=API_KEY, extra=fields)
    return conn_id


def missed_call(number: int = 1, *, user_id: int = 315) -> dict[str, Any]:
    """Return a delivery of the newer envelope; each number gives another body."""
    return {
        "event": "popin_call_missed",
        "user_id": str(user_id),
        "email": EMAIL,
        "country_code": "91",
        "phone_number": PHONE,
        "full_phone_number": f"+91{PHONE}",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {"customer_name": NAME, "product": f"ring {number}"},
    }


def deliver(url: str, body: object, key: str | None = KEY, **headers: str) -> requests.Response:
    """POST one delivery as Popin does.

    :param body: bytes, or a JSON value.
    :param key: None sends no key.
    """
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | ({} if key is None else {"X-API-KEY": key}) | headers
    return requests.post(url, data=data, headers=sent, timeout=30)


def exchange(url: str, *pieces: bytes) -> bytes:
    """Send bytes over a socket of its own, and return all that comes back until the server closes.

    :param pieces: head and body; ``%(path)s`` in the first one is replaced.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    head, *rest = pieces
    with closing(socket.create_connection((parts.hostname, parts.port), timeout=20)) as connection:
        connection.sendall(head.replace(b"%(path)s", parts.path.encode()))
        for piece in rest:
            connection.sendall(piece)
        return b"".join(_received(connection))


def _received(connection: socket.socket) -> Iterator[bytes]:
    while data := connection.recv(65536):
        yield data
