"""Popin's replies as values. Pure functions that survive any bytes and any JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from airflow_provider_popin.client.models import Customer, ScheduledCall
from airflow_provider_popin.client.scalars import is_customer_id, is_join_url

_SHORT_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]{1,100}")

# Stands for a body that is no JSON, and for a member that a reply gives twice: identical to no JSON value.
NOT_JSON: Final = object()


def decode_json(body: bytes) -> object:
    """The JSON value of a body, or :data:`NOT_JSON`.

    Stricter than the standard library: NaN and Infinity are no JSON, and a member that an object names twice
    is of no known type, since nobody can say which of the two was meant. A byte order mark is forgiven.

    :param body: any bytes
    """
    try:
        text = body.decode("utf-8-sig")
        return _DECODER.decode(text)
    # The exceptions hold the body, so they must not live on as a cause: nothing is raised from here.
    except (ValueError, RecursionError):
        return NOT_JSON


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; true and false are not.

    :param value: any JSON value
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_customer(payload: Mapping[str, object]) -> Customer | None:
    """The customer of a success reply of capture.

    :param payload: the reply, whose ``status`` was checked before
    :return: None without a usable ``customer_id``: non-empty text of at most 255 printable characters
    """
    customer_id = payload.get("customer_id")
    if not is_customer_id(customer_id):
        return None
    given = payload.get("url")
    url = given if is_join_url(given) else None
    complete = url is not None and isinstance(payload.get("message"), str)
    return Customer(customer_id=customer_id, url=url, incomplete=not complete)


def parse_scheduled_call(payload: Mapping[str, object]) -> ScheduledCall:
    """What a success reply of schedule says about the call. The echoed name and phone number are not kept.

    :param payload: the reply, whose ``status`` was checked before
    """
    schedule = payload.get("schedule")
    data = schedule.get("data") if isinstance(schedule, Mapping) else None
    if not isinstance(data, Mapping):
        data = {}
    time = _matching(_SHORT_TEXT, data.get("time"))
    timezone = _matching(_SHORT_TEXT, data.get("timezone"))
    echoed = isinstance(data.get("name"), str) and isinstance(payload.get("data"), str)
    return ScheduledCall(time=time, timezone=timezone, incomplete=not (time and timezone and echoed))


def _refuse_constant(_name: str) -> object:
    raise ValueError


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                found[name] = NOT_JSON
            seen.add(name)
    return found


# Made once: json.loads would make one for every reply.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
