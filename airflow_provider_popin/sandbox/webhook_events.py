"""The webhooks that Popin sends, as its guide shows them (P): names, envelopes, fields. Pure.

What is shown is sent exactly so: the envelopes of a completed, a missed and a scheduled call, and that of
agent-to-customer calls. Of the other events only names are shown. Their envelope is taken to be the same (I),
and their properties those of the event that they resemble (I), with the further fields that are known to
exist: `remark`, `rating`, `comments`, and one of `guest_*` (I: which).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from airflow_provider_popin.sandbox.grid import MONTHS, format_clock

CAPTURED = "popin_user_captured"
SCHEDULED = "popin_scheduled_created"
PRESCHEDULED_NOTIFICATION = "popin_prescheduled_notification"
SCHEDULED_NOTIFICATION = "popin_scheduled_notification"
SUCCESSFUL = "popin_call_successful"
MISSED = "popin_call_missed"
ABANDONED = "popin_call_abandoned"
MISSED_NOTIFICATION = "popin_missed_notification"
REMARK_ADDED = "popin_call_remark_added"
RATED = "popin_call_rated"
GUEST_CONNECTED = "popin_call_guest_connected"
OUTGOING = "popin_outgoing_call_"
OUTGOING_ENDS = (
    "initiated",
    "accepted",
    "started",
    "successful",
    "missed",
    "abandoned",
    "network_failure",
    "declined",
    "busy",
)

ENVELOPES = ("documented", "newer", "older")
TIMESTAMPS = ("iso", "epoch")
PARTICIPANTS = ("user", "agent")

AGENT_NAME = "Sandbox Agent"
AGENT_EMAIL = "agent@example.com"

_CALL = ("customer_name", "url", "product", "meta")
_SLOT = ("customer_name", "scheduled_time", "scheduled_date", "url", "agent_name")
# Properties by event, in the guide's order. Only those of scheduled, successful and missed are shown (P).
PROPERTIES: dict[str, tuple[str, ...]] = {
    CAPTURED: ("customer_name", "url"),
    SCHEDULED: _SLOT,
    PRESCHEDULED_NOTIFICATION: _SLOT,
    SCHEDULED_NOTIFICATION: _SLOT,
    SUCCESSFUL: (
        "customer_name",
        "call_duration",
        "url",
        "agent_name",
        "agent_email",
        "product",
        "meta",
    ),
    MISSED: _CALL,
    ABANDONED: _CALL,
    MISSED_NOTIFICATION: _CALL,
    REMARK_ADDED: (*_CALL, "remark"),
    RATED: (*_CALL, "rating", "comments"),
    GUEST_CONNECTED: (*_CALL, "guest_name"),
}
EVENTS = (*PROPERTIES, *(OUTGOING + end for end in OUTGOING_ENDS))
# The one event whose sample has neither full_phone_number nor timestamp.
_SHOWN_WITHOUT = frozenset({SCHEDULED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """
    The customer of an event.

    :param number: decimal id behind the customer_id (I).
    :param name: full name.
    :param email: empty when there is none.
    :param country: digits of the calling code.
    :param mobile: national digits.
    """

    number: int
    name: str = field(repr=False)
    email: str = field(repr=False)
    country: str = field(repr=False)
    mobile: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """
    What two deliveries of the same event may differ in.

    :param envelope: `documented`: `full_phone_number` and `timestamp` where the samples have them; `newer`:
        on every event; `older`: on none (P: older deliveries lack both).
    :param timestamps: of the two formats that a "string" may be (U): `iso`, like
        `2026-02-27T16:00:00.000000Z`, or `epoch`, seconds as text.
    :param plus: whether `country_code` has a plus sign of its own (P: either).
    """

    envelope: str = "documented"
    timestamps: str = "iso"
    plus: bool = False


def call_payload(
    event: str, person: Person, *, style: Style, occurred: float, values: Mapping[str, object]
) -> dict[str, object]:
    """
    The body of every event but those of outgoing calls.

    :param event: name.
    :param person: whom it is about.
    :param style: spelling.
    :param occurred: when it happened, in epoch seconds.
    :param values: properties by name: what an event has and this lacks is an empty text (`meta`: an empty
        object), what it has not is ignored.
    :return: JSON object, its fields in the guide's order.
    """
    body: dict[str, object] = {
        "event": event,
        "user_id": str(person.number),
        "email": person.email,
        "country_code": ("+" if style.plus else "") + person.country,
        "phone_number": person.mobile,
    }
    if _is_new(event, style.envelope):
        body["full_phone_number"] = f"+{person.country}{person.mobile}"
        body["timestamp"] = format_timestamp(occurred, style.timestamps)
    known = {"customer_name": person.name, "agent_name": AGENT_NAME, "agent_email": AGENT_EMAIL, "meta": {}}
    body["properties"] = {name: values.get(name, known.get(name, "")) for name in PROPERTIES[event]}
    return body


def outgoing_payload(
    event: str, person: Person, *, session_id: str, call_id: int, occurred: float, participant: str | None
) -> dict[str, object]:
    """
    The body of an event of a call that an agent makes (P, from one sample).

    :param event: name.
    :param person: whom the agent calls. The sample's `phone_number` is null; here it is the number (I).
    :param session_id: the call's UUID.
    :param call_id: the call's number.
    :param occurred: when it happened, in epoch seconds; the timestamp is a whole number of them.
    :param participant: `user` or `agent`, for `network_failure` only (P; that it stands at the top is I).
    :return: JSON object.
    """
    body: dict[str, object] = {
        "event": event,
        "session_id": session_id,
        "user_id": person.number,
        "call_id": call_id,
        "schedule_id": None,
        "agent": {"name": AGENT_NAME, "email": AGENT_EMAIL},
        "user": {
            "name": person.name,
            "email": person.email,
            "phone_number": person.mobile,
            "country_code": f"+{person.country}",
        },
        "meta": {
            "product": {
                "name": "Headphones",
                "id": "SKU-123",
                "url": "https://example.com/products/headphones",
            }
        },
        "timestamp": int(occurred),
    }
    if event == OUTGOING + "network_failure":
        body["participant"] = participant or PARTICIPANTS[0]
    return body


def slot_values(local: datetime) -> dict[str, object]:
    """
    A slot as `popin_scheduled_created` spells it (P): `h:i A` and `d-M-Y`.

    :param local: naive start in the seller's timezone.
    :return: `{"scheduled_time": "09:30 PM", "scheduled_date": "27-Feb-2026"}`.
    """
    date = f"{local.day:02d}-{MONTHS[local.month - 1]}-{local.year:04d}"
    return {"scheduled_time": format_clock(local), "scheduled_date": date}


def format_timestamp(occurred: float, how: str) -> str:
    """
    A timestamp; its format is U.

    :param occurred: epoch seconds.
    :param how: `iso`, as Laravel writes JSON (I), or `epoch`.
    :return: text.
    """
    if how == "epoch":
        return str(int(occurred))
    moment = datetime.fromtimestamp(occurred, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _is_new(event: str, envelope: str) -> bool:
    if envelope == "documented":
        return event not in _SHOWN_WITHOUT
    return envelope == "newer"
