"""A lead from whatever a row or an author gives, checked field by field.

The single functions are public, since a row may offer several columns for a field, of which the first usable
counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.models import Lead
from airflow_provider_popin.client.phones import parse_phone
from airflow_provider_popin.client.scalars import (
    clean_text,
    code_text,
    is_agent,
    is_missing,
    plain_text,
    whole_number,
)

_EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+\.[^@\s,;<>\".]+")
_MAX_TEXT = 255
_MAX_EMAIL = 254
_MAX_DEPTH = 5
_TRUE = ("true", "1", "yes", "y", "t")
_FALSE = ("false", "0", "no", "n", "f")


def make_lead(
    *,
    name: object,
    mobile: object,
    email: object = None,
    country: object = None,
    group: object = None,
    agent: object = None,
    pincode: object = None,
    native: object = None,
    campaign: object = None,
    default_region: str | None = None,
    drop_phone_extension: bool = False,
) -> Lead:
    """Check a lead and bring every field into the form in which it is sent.

    Every field takes what cells hold: text, numbers, None, NaN. Optional fields may be missing; what is there
    must be usable.

    :param name: text
    :param mobile: see :func:`~.phones.parse_phone`
    :param email: text
    :param country: ISO alpha-2 region or calling code; not consulted for a number that carries its own
    :param group: text or number of a routing group
    :param agent: number of an agent
    :param pincode: text or number
    :param native: bool or text of one
    :param campaign: JSON values under free keys
    :param default_region: ISO alpha-2 region for numbers without a country
    :param drop_phone_extension: drop the extension of a phone number instead of refusing it
    :raises PopinInputError: with ``code`` and ``field``, never with the value
    """
    phone = parse_phone(
        mobile, country=country, default_region=default_region, drop_extension=drop_phone_extension
    )
    return Lead(
        name=clean_name(name),
        mobile=phone.mobile,
        country=phone.country,
        email=clean_email(email),
        group=clean_group(group),
        agent=clean_agent(agent),
        pincode=clean_pincode(pincode),
        native=clean_native(native),
        campaign=clean_campaign(campaign),
    )


def clean_name(value: object) -> str:
    """A full name.

    :param value: any cell
    :raises PopinInputError: ``name_missing``, ``name_invalid``
    """
    if is_missing(value):
        raise PopinInputError("is missing", code="name_missing", field="name")
    text = _short_text(value, "name") if isinstance(value, str) else ""
    if not text:
        raise PopinInputError("is not text", code="name_invalid", field="name")
    return text


def clean_email(value: object) -> str | None:
    """An e-mail address, or None for a cell without one. Only the shape is checked; Popin checks more.

    :param value: any cell
    :raises PopinInputError: ``email_invalid``
    """
    if is_missing(value):
        return None
    text = _short_text(value, "email") if isinstance(value, str) else ""
    if len(text) > _MAX_EMAIL or not _EMAIL.fullmatch(text):
        raise PopinInputError("is not an e-mail address", code="email_invalid", field="email")
    return text


def clean_group(value: object) -> str | None:
    """A routing group as text, ``"5211"``.

    :param value: any cell
    :raises PopinInputError: ``group_invalid``
    """
    return _clean_code(value, "group")


def clean_pincode(value: object) -> str | None:
    """A postal code as text; leading zeros of text stay.

    :param value: any cell
    :raises PopinInputError: ``pincode_invalid``
    """
    return _clean_code(value, "pincode")


def clean_agent(value: object) -> int | None:
    """The number of an agent.

    :param value: any cell
    :raises PopinInputError: ``agent_invalid``
    """
    if is_missing(value):
        return None
    text = code_text(value) or ""
    number = int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None
    if not is_agent(number):
        raise PopinInputError("is not the number of an agent", code="agent_invalid", field="agent")
    return number


def clean_native(value: object) -> bool | None:
    """A truth value: bool, 0 or 1, or a text such as ``true``, ``no``.

    :param value: any cell
    :raises PopinInputError: ``native_invalid``
    """
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return value
    text = (code_text(value) or "").lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise PopinInputError("is neither true nor false", code="native_invalid", field="native")


def clean_campaign(value: object) -> dict[str, object] | None:
    """Tracking metadata as JSON values; empty cells are left out.

    :param value: a mapping with text keys, or nothing
    :raises PopinInputError: ``campaign_invalid``
    """
    if is_missing(value):
        return None
    if not isinstance(value, Mapping):
        raise PopinInputError("is not a mapping", code="campaign_invalid", field="campaign")
    cleaned = {_key(key): _json_value(item, 1) for key, item in value.items() if not is_missing(item)}
    return cleaned or None


def _clean_code(value: object, field: str) -> str | None:
    if is_missing(value):
        return None
    code = code_text(value)
    text = _short_text(code, field) if code else ""
    if not text:
        raise PopinInputError("is neither text nor a whole number", code=f"{field}_invalid", field=field)
    return text


def _short_text(value: str, field: str) -> str:
    try:
        text = clean_text(value)
    except UnicodeError:
        raise PopinInputError("is not valid Unicode", code=f"{field}_invalid", field=field) from None
    if len(text) > _MAX_TEXT:
        raise PopinInputError(f"is longer than {_MAX_TEXT} characters", code=f"{field}_invalid", field=field)
    return text


def _key(key: object) -> str:
    text = _short_text(key, "campaign") if isinstance(key, str) else ""
    if not text:
        raise PopinInputError("has a key that is not text", code="campaign_invalid", field="campaign")
    return text


def _json_value(value: object, depth: int) -> object:
    """A value as JSON can carry it; dates and UUIDs become text, missing ones null."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value)):
        return value
    number = whole_number(value)
    if number is not None and abs(number) < 2**63:
        return number
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 40:
        return format(value, "f")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return plain_text(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {_key(key): _json_value(item, depth + 1) for key, item in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_json_value(item, depth + 1) for item in value]
    raise PopinInputError("has a value that JSON cannot carry", code="campaign_invalid", field="campaign")


def _unicode(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeError:
        raise PopinInputError("is not valid Unicode", code="campaign_invalid", field="campaign") from None
    return text
