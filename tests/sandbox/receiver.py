"""A receiver of webhooks on loopback, with nothing of the project in it: it keeps what arrives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from airflow_provider_popin.sandbox.server import SandboxServer
from tests.waiting import PATIENCE_SECONDS, wait_until

KEY = "webhook-key-of-the-test"


@dataclass(frozen=True, slots=True)
class Arrived:
    """One delivery as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


class Receiver:
    """A server that runs while its `with` block does.

    :ivar status: what it answers.
    :ivar location: sent as `Location`, if there is one.
    :ivar gate: nobody is answered while it is closed.
    :param take: called with each delivery before it is answered, in a thread of its own; returns the status.
    """

    def __init__(self, take: Callable[[Arrived], int] | None = None) -> None:
        self.status = 200
        self.take = take
        self.location: str | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.arrived: list[Arrived] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/hooks/popin"

    def bodies(self, event: str | None = None) -> list[dict[str, Any]]:
        """The bodies that arrived, in the order of their arrival; only of one event, if it is named."""
        bodies = [each.json() for each in self.arrived]
        return [body for body in bodies if event in (None, body["event"])]

    def names(self) -> list[str]:
        """The events that arrived."""
        return [str(body["event"]) for body in self.bodies()]

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a sandbox that ends resets its connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        arrived = Arrived(self.path, headers, body)
        receiver.arrived.append(arrived)
        receiver.gate.wait(PATIENCE_SECONDS)
        status = receiver.status if receiver.take is None else receiver.take(arrived)
        with suppress(OSError):  # whoever was kept waiting may be gone
            self.send_response(status)
            if receiver.location is not None:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def tell(popin: SandboxServer, receiver: Receiver, **changes: object) -> None:
    """Start over, with webhooks to the receiver; calls come at once, and by default end in nothing."""
    quiet = {"notified": 0.0, "successful": 0.0, "missed": 0.0, "abandoned": 0.0, "outcome_after": 0.0}
    popin.reset(webhooks={"url": receiver.url, "key": KEY, **quiet, **changes})


def wait_for_deliveries(receiver: Receiver, count: int) -> None:
    """Wait until so many deliveries have arrived, answered or not."""
    wait_until(lambda: len(receiver.arrived) >= count, receiver.names)
