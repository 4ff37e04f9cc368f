"""The one model of what Popin tells by webhook, whichever envelope it came in."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

# An id with more digits may be a phone number in the wrong field, which must not be stored.
_MAX_ID = 999_999_999


class EventKind(StrEnum):
    """What an event is about. The values stand in asset URIs: ``popin://<connection id>/calls/missed``."""

    CAPTURED = "captured"
    SCHEDULED = "scheduled"
    NOTIFIED = "notified"
    SUCCESSFUL = "successful"
    MISSED = "missed"
    ABANDONED = "abandoned"
    MISSED_NOTIFIED = "missed_notified"
    REMARKED = "remarked"
    RATED = "rated"
    GUEST_CONNECTED = "guest_connected"
    OUTGOING_INITIATED = "outgoing_initiated"
    OUTGOING_ACCEPTED = "outgoing_accepted"
    OUTGOING_STARTED = "outgoing_started"
    OUTGOING_SUCCESSFUL = "outgoing_successful"
    OUTGOING_MISSED = "outgoing_missed"
    OUTGOING_ABANDONED = "outgoing_abandoned"
    OUTGOING_NETWORK_FAILURE = "outgoing_network_failure"
    OUTGOING_DECLINED = "outgoing_declined"
    OUTGOING_BUSY = "outgoing_busy"
    UNKNOWN = "unknown"


# Popin's names (grade P).
KINDS: Mapping[str, EventKind] = {
    "popin_user_captured": EventKind.CAPTURED,
    "popin_scheduled_created": EventKind.SCHEDULED,
    "popin_prescheduled_notification": EventKind.NOTIFIED,
    "popin_scheduled_notification": EventKind.NOTIFIED,
    "popin_call_successful": EventKind.SUCCESSFUL,
    "popin_call_missed": EventKind.MISSED,
    "popin_call_abandoned": EventKind.ABANDONED,
    "popin_missed_notification": EventKind.MISSED_NOTIFIED,
    "popin_call_remark_added": EventKind.REMARKED,
    "popin_call_rated": EventKind.RATED,
    "popin_call_guest_connected": EventKind.GUEST_CONNECTED,
} | {
    f"popin_outgoing_call_{kind.value.removeprefix('outgoing_')}": kind
    for kind in EventKind
    if kind.value.startswith("outgoing_")
}
# What says how a scheduled call ended; the others of an outcome's kind say something more about it.
ENDINGS = frozenset({EventKind.SUCCESSFUL, EventKind.MISSED, EventKind.ABANDONED})
OUTCOMES = ENDINGS | {EventKind.RATED, EventKind.REMARKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """What one webhook tells, with nothing personal in it.

    :param kind: what it is about.
    :param name: Popin's own name of the event; ``***`` where an unknown one might be personal.
    :param customer_id: as the capture returned it; None where the event names no usable ``user_id``.
    :param occurred_at: epoch seconds; None where the event has no timestamp that can be read without a guess.
    :param scheduled_local: naive, in the seller's timezone, which no event names; None if there is none.
    :param payload: all that it tells, in its own shape, redacted.
    """

    kind: EventKind
    name: str
    customer_id: str | None = field(repr=False)
    occurred_at: float | None
    scheduled_local: datetime | None
    payload: Mapping[str, object] = field(repr=False)


def customer_id_of(user_id: object) -> str | None:
    """The customer_id that a webhook's ``user_id`` stands for: base64 of its decimal digits (grade I).

    :param user_id: a positive number, or its digits as text; anything may come.
    :return: None where it is no such number.
    """
    if isinstance(user_id, str) and user_id.isascii() and user_id.isdecimal() and len(user_id) <= 9:
        canonical = user_id == str(int(user_id))
        user_id = int(user_id) if canonical else None
    if isinstance(user_id, bool) or not isinstance(user_id, int) or not 0 < user_id <= _MAX_ID:
        return None
    return base64.b64encode(str(user_id).encode()).decode()
