"""A server that speaks raw bytes: for everything that no well-behaved HTTP server would do."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType


class Peer:
    """One accepted connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""

    def read_head(self) -> bytes:
        """Read up to the blank line."""
        while b"\r\n\r\n" not in self.received:
            self._read()
        return self.received.split(b"\r\n\r\n")[0]

    def read_request(self) -> bytes:
        """Read the head and the body that it announces; returns the body."""
        head = self.read_head().lower()
        length = 0
        if b"content-length:" in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(self.received) < head.__len__() + 4 + length:
            self._read()
        request, self.received = self.received, b""
        return request[len(head) + 4 :]

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self, body: bytes, status: str = "200 OK", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """End the connection with RST, as a crashed host does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_for_end(self) -> bytes:
        """Read until the client ends the connection."""
        with contextlib.suppress(ConnectionError):
            while True:
                self._read()
        return self.received

    def _read(self) -> None:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError
        self.received += data


Script = Callable[[Peer], None]


class RawServer:
    """Runs one script per connection, in order; the last one again and again. A context manager.

    :param scripts: what to do with each connection
    :param tls: speaks TLS, if given
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.accepted = 0

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> RawServer:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
            self.accepted += 1
            self._connections.append(connection)
            self._start(self._run, connection, script)

    def _run(self, connection: socket.socket, script: Script) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._connections.append(connection)
            with connection:
                script(Peer(connection))
