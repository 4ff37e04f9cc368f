"""Protection of actions against forged requests: the session is a cookie, which browsers send by themselves.

An action needs both: an ``Origin`` that is Airflow's own, and a token that only a page of ours, made for the
same user, can hold. Pure functions.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from airflow_provider_popin.client.config import DEFAULT_PORTS

# A form that was left open overnight is made anew rather than sent.
TOKEN_SECONDS = 12 * 3600
_CLOCK_SKEW_SECONDS = 60
_PURPOSE = b"airflow-provider-popin page action"


def make_token(key: bytes, *, user: str, now: float) -> str:
    """Return a token for the forms that one user is shown.

    :param key: secret of the deployment, the same on every API server.
    :param user: the user's id. Not the session cookie: Airflow renews that while a form is open.
    :param now: epoch seconds.
    """
    issued = str(int(now))
    return f"{issued}.{_signature(key, user, issued)}"


def is_token_valid(token: str, key: bytes, *, user: str, now: float) -> bool:
    """Tell whether a token was made for this user, and not too long ago; in constant time.

    :param token: as the form sent it.
    :param key: as for :func:`make_token`.
    :param user: who sent it.
    :param now: epoch seconds.
    """
    issued, _, signature = token.partition(".")
    expected = _signature(key, user, issued)
    if not hmac.compare_digest(signature.encode(), expected.encode()):
        return False
    # Signed, so it is a number of ours. Another API server's clock may be a little ahead.
    return -_CLOCK_SKEW_SECONDS <= now - int(issued) <= TOKEN_SECONDS


def is_from_own_page(headers: Mapping[str, str], own_origins: Collection[str]) -> bool:
    """Tell whether a browser says that a request comes from a page of this very server.

    Every browser sends ``Origin`` with a POST; without it, or as ``null``, the answer is no.

    :param headers: of the request, by lower-case name.
    :param own_origins: see :func:`origin_of`.
    """
    origin = origin_of(headers.get("origin", ""))
    if origin is None or origin not in own_origins:
        return False
    return headers.get("sec-fetch-site", "same-origin") == "same-origin"


def origin_of(url: str) -> str | None:
    """Return scheme, host and port of a URL in one spelling; None if it is no HTTP URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    # Both in lower case.
    scheme, host = parts.scheme, parts.hostname
    return f"{scheme}://{host}:{port or DEFAULT_PORTS[scheme]}" if scheme in DEFAULT_PORTS and host else None


def _signature(key: bytes, user: str, issued: str) -> str:
    message = b"\0".join((_PURPOSE, issued.encode(), user.encode()))
    return hmac.new(key, message, hashlib.sha256).hexdigest()
