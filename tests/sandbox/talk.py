"""Speak to the sandbox without a client of ours: `http.client` for whole requests, else sockets."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from tests.waiting import PATIENCE_SECONDS

# Wednesday 24 September 2025, 12:00 in Kolkata.
NOON = datetime(2025, 9, 24, 6, 30, tzinfo=UTC)
SETTINGS = SandboxSettings(now=NOON, days=3, seats_per_slot=1)
FRIDAY = "Fri, 26 Sep 2025"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        """The body as JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


def headers(**changes: str | None) -> dict[str, str]:
    """The right headers; a name with underscores replaces one, None leaves it out."""
    right: dict[str, str | None] = {
        "X-API-KEY": SETTINGS.api_key,
        "X-TOKEN": SETTINGS.token,
        "Accept": "application/json",
        "Content-Type": "application/json",
    }
    right.update({name.replace("_", "-"): value for name, value in changes.items()})
    return {name: value for name, value in right.items() if value is not None}


def call(
    server: SandboxServer,
    method: str,
    path: str,
    body: object = None,
    *,
    with_headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
) -> Answer:
    """One request on a connection of its own; bytes are sent as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(server.settings.host, server.port, timeout=timeout)
    try:
        connection.request(method, path, raw, headers() if with_headers is None else dict(with_headers))
        response = connection.getresponse()
        got = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, got, response.read())
    finally:
        connection.close()


def lead(number: int = 1, **changes: object) -> dict[str, object]:
    """A capture request of a synthetic person."""
    fields: dict[str, object] = {
        "name": f"Asha Example{number}",
        "mobile": f"95445{number:05d}",
        "email": f"asha{number}@example.com",
        "country": "91",
        "campaign": {"test_lead": f"lead-{number}"},
    }
    return {**fields, **changes}


def capture(server: SandboxServer, number: int = 1, **changes: object) -> Answer:
    """Capture a synthetic person."""
    return call(server, "POST", "/api/v1/external/capture", lead(number, **changes))


def new_customer(server: SandboxServer, number: int = 1, **changes: object) -> str:
    """Capture a synthetic person, and return the customer_id."""
    return str(capture(server, number, **changes).json()["customer_id"])


def slots(server: SandboxServer) -> Answer:
    """Ask for the slots."""
    return call(server, "GET", "/api/v1/external/slots")


def times(answer: Answer) -> list[str]:
    """The slots of an answer, spelled as a schedule request names them."""
    days = answer.json()["availability"]
    assert isinstance(days, list)
    return [f"{day['date']} {clock}" for day in days for clock in day["slots"]]


def schedule(server: SandboxServer, customer_id: str, time: str, **more: object) -> Answer:
    """Schedule a call."""
    body = {"customer_id": customer_id, "time": time, **more}
    return call(server, "POST", "/api/v1/external/schedule", body)


def book(server: SandboxServer, number: int = 1, clock: str = "10:00 AM", *, day: str = FRIDAY) -> str:
    """Capture and book a synthetic person, and return the customer_id."""
    customer_id = new_customer(server, number)
    assert schedule(server, customer_id, f"{day} {clock}").status == 200
    return customer_id


def control(server: SandboxServer, method: str, path: str, body: object = None) -> Answer:
    """Ask below `/_sandbox`, without any key."""
    return call(server, method, "/_sandbox" + path, body, with_headers={})


def raw_request(path: str, body: object) -> tuple[bytes, bytes]:
    """Head and body of a POST, to be sent piece by piece."""
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in headers().items()]
    return "\r\n".join([*lines, "", ""]).encode(), data


def connect(server: SandboxServer) -> socket.socket:
    """A TCP connection, which the server may not have accepted yet."""
    return socket.create_connection((server.settings.host, server.port), timeout=PATIENCE_SECONDS)


def keep_connected(server: SandboxServer) -> socket.socket:
    """A connection on which a request was answered, and which the server keeps open."""
    connection = http.client.HTTPConnection(server.settings.host, server.port, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/api/v1/external/slots", headers=headers())
    connection.getresponse().read()
    kept: socket.socket | None = connection.sock
    assert kept is not None
    return kept
