"""Bytes of a delivery become a :class:`.events.CallEvent`. Pure; nothing personal leaves this module.

Popin shows three envelopes (grade P): the older and the newer one of calls, which differ in ``timestamp``
and ``full_phone_number``, and the one of agent-to-customer calls. What is read stands in the same places in
all of them, so one reading does for all, and for those that Popin has not shown yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from airflow_provider_popin.client.redaction import HIDDEN
from airflow_provider_popin.webhooks.events import KINDS, CallEvent, EventKind, customer_id_of
from airflow_provider_popin.webhooks.payloads import redact_webhook, safe_event_name

# Instants outside of these years are no instants: above all, they may be phone numbers.
_EARLIEST, _LATEST = 1_420_000_000.0, 2_500_000_000.0  # 2014 to 2049
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# `d-M-Y` and `h:i A` (grade P), read with some leniency where it leaves no second meaning.
_DATE = re.compile(r"(?P<day>[0-9]{1,2})-(?P<month>[A-Za-z]{3})-(?P<year>[0-9]{4})")
_CLOCK = re.compile(r"(?P<hour>0?[1-9]|1[0-2]):(?P<minute>[0-5][0-9]) ?(?P<half>[AaPp])[Mm]")
_LONGEST_NUMBER = 18


class WebhookBodyError(ValueError):
    """The body is no webhook of Popin's: not JSON, no object, or without a text ``event``.

    :param reason: ``not_utf8``, ``not_json``, ``too_deep``, ``not_an_object`` or ``no_event``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_event(body: bytes) -> CallEvent:
    """Read one delivery; unknown events and fields are no error.

    A key that an object has twice, with different values, is nobody's word and counts as absent.

    :param body: as received; any bytes may come.
    :raises WebhookBodyError: it cannot be one; the message holds nothing of the body.
    """
    payload = _load(body)
    if not isinstance(payload, dict):
        raise WebhookBodyError("not_an_object")
    name = payload.get("event")
    if not isinstance(name, str) or not name:
        raise WebhookBodyError("no_event")
    told = payload.get("properties")
    return CallEvent(
        kind=KINDS.get(name, EventKind.UNKNOWN),
        name=safe_event_name(name),
        customer_id=customer_id_of(payload.get("user_id")),
        occurred_at=_instant(payload.get("timestamp")),
        # Agent-to-customer calls have no properties: what they tell stands beside the rest.
        scheduled_local=_scheduled(told if isinstance(told, dict) else payload),
        payload=redact_webhook(payload),
    )


def _load(body: bytes) -> object:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        # From None, here and below: the cause holds the body.
        raise WebhookBodyError("not_utf8") from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole)
    except RecursionError:
        raise WebhookBodyError("too_deep") from None
    except ValueError:
        raise WebhookBodyError("not_json") from None


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    contradicted: set[str] = set()
    for key, value in pairs:
        if key in found and found[key] != value:
            contradicted.add(key)
        found[key] = value
    return found | dict.fromkeys(contradicted)


def _whole(digits: str) -> object:
    # Python refuses to read numbers of thousands of digits, and no field of ours has more than a few.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else HIDDEN


def _instant(value: object) -> float | None:
    """Epoch seconds or milliseconds, as number or digits, or ISO 8601 with an offset; never a guess."""
    if isinstance(value, str):
        if value.isascii() and value.isdecimal() and len(value) <= 13:
            value = int(value)
        else:
            value = _iso_instant(value)
    if not isinstance(value, int | float):
        return None
    for seconds in (value, value / 1000):
        if _EARLIEST <= seconds < _LATEST:
            return float(seconds)
    return None


def _iso_instant(text: str) -> float | None:
    try:
        instant = datetime.fromisoformat(text)
        return instant.timestamp() if instant.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _scheduled(properties: Mapping[str, object]) -> datetime | None:
    told = (properties.get("scheduled_date"), properties.get("scheduled_time"))
    if not (isinstance(told[0], str) and isinstance(told[1], str)):
        return None
    date, clock = _DATE.fullmatch(told[0].strip()), _CLOCK.fullmatch(told[1].strip())
    if date is None or clock is None or date["month"].lower() not in _MONTHS:
        return None
    hour = int(clock["hour"]) % 12 + (12 if clock["half"] in "Pp" else 0)
    try:
        month = _MONTHS.index(date["month"].lower()) + 1
        local = datetime(int(date["year"]), month, int(date["day"]), hour, int(clock["minute"]))  # noqa: DTZ001
    except ValueError:
        return None
    # Away from both ends of the calendar, every conversion between timezones stays inside of it.
    return local if 2000 <= local.year < 2100 else None
