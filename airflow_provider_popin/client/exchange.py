"""One HTTP exchange as data: what is sent, and what came of it. No library's types beyond this point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

# The reasons of a failure before there was a connection to speak over.
NOT_CONNECTED = frozenset({"dns_failed", "connect_failed", "connect_timeout", "tls_failed", "proxy_failed"})


class Endpoint(StrEnum):
    """The three documented endpoints (grade D)."""

    CAPTURE = "capture"
    SLOTS = "slots"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class Request:
    """A request before any library has seen it.

    :param endpoint: which documented endpoint, None for a free request
    :param method: HTTP method, upper case
    :param path: path below ``/api/v1``, starting with a slash
    :param body: JSON bytes, None for a request without a body; not shown in the repr, since it is personal
    """

    endpoint: Endpoint | None
    method: str
    path: str
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP reply, whatever its status.

    :param status: HTTP status
    :param headers: header values by lower-case name
    :param body: the decoded bytes, at most 4 MiB; not shown in the repr, since Popin echoes personal values
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """An exchange without a complete reply.

    :param sent: whether the first byte of the body may have left. False means that Popin cannot have acted on
        it. For a request without a body: whether the connection was made.
    :param reason: short code: ``dns_failed``, ``connect_failed``, ``connect_timeout``, ``tls_failed``,
        ``proxy_failed``, ``read_timeout``, ``connection_lost``, ``too_late``, ``body_too_large``,
        ``bad_reply``
    """

    sent: bool
    reason: str


Exchange: TypeAlias = Reply | Failure
