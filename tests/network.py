"""Keep the tests on this machine: other hosts do not resolve and cannot be connected to."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

_LOCAL_NAMES = frozenset({"", "localhost", "0.0.0.0", "::"})

_real_getaddrinfo = socket.getaddrinfo
_real_connect = socket.socket.connect


def block_outside_network() -> None:
    """Make Python's sockets refuse every host but loopback, as a machine without a network does."""
    socket.getaddrinfo = _getaddrinfo
    socket.socket.connect = _connect  # type: ignore[method-assign, assignment]


def allow_outside_network() -> None:
    """Undo :func:`block_outside_network`."""
    socket.getaddrinfo = _real_getaddrinfo
    socket.socket.connect = _real_connect  # type: ignore[method-assign]


def is_local(host: object) -> bool:
    """Tell whether a host, as given to ``getaddrinfo``, is this machine."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name is None or name in _LOCAL_NAMES or name == socket.gethostname():
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False


def _getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    if not is_local(host):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known (tests reach loopback only)")
    return _real_getaddrinfo(host, port, *args, **kwargs)


def _connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
        raise OSError(101, "Network is unreachable (tests reach loopback only)")
    _real_connect(self, address)
