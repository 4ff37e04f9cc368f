"""TCP ports of this machine, for servers that nobody else can reach."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


class PortTakenError(Exception):
    """A port is in use by another program."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} of {HOST} is in use")
        self.port = port


def check_port(port: int) -> None:
    """Make sure that a port can be listened on.

    :param port: TCP port.
    :raises PortTakenError: it is in use.
    :raises ValueError: only root may listen on it.
    """
    with socket.socket() as listener:
        # As servers do it, so that a connection that has just been closed is no obstacle.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except PermissionError:
            raise ValueError(f"port {port} is for root only: take a higher one") from None
        except OSError:
            raise PortTakenError(port) from None


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
