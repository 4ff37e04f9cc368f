"""What is this machine, and what is not."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """
    Whether an address is this machine only.

    :param host: IP address or `localhost`.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
