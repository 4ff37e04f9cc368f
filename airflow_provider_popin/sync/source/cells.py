"""Cells of a source row as values of the sync: identity, generation, priority, instants, hours.

What goes to Popin is cleaned in :mod:`airflow_provider_popin.client.leads`; here is what the ledger and the
planner need. Every function takes any cell and raises nothing but :class:`PopinInputError`, which never holds
the value. A missing cell (None, NaN, pandas' NA and NaT, blank text) is None, except where it must not be
missing.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from numbers import Integral
from uuid import UUID

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.scalars import is_customer_id, is_missing, plain_text
from airflow_provider_popin.client.slots import load_timezone

MAX_ID = 255
# Of the text of one cell. What is longer is no field of a lead, and is not worth the time to look at.
MAX_TEXT = 10_000

_ID_BITS = 850  # 255 decimal digits have fewer
_MAX_GENERATION = 2**31 - 1
_MAX_PRIORITY = 2**63 - 1
_INTEGER = re.compile(r"([+-]?[0-9]{1,19})(?:\.0+)?")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.0+)?)?")
# No database text holds a NUL or half of a surrogate pair, and no line of a log should be broken by an
# identity.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DAY = timedelta(hours=24)


def plain_cell(value: object) -> object:
    """A cell without the wrapper that numpy puts around its numbers, truth values and times.

    :param value: any cell
    """
    if type(value) is str or type(value).__module__ != "numpy":
        return value
    try:
        return value.item()  # type: ignore[attr-defined]  # numpy is no dependency
    except (AttributeError, TypeError, ValueError):
        return value


def clean_lead_id(value: object) -> str:
    """The identity of a lead: stripped NFC text; an int or integral Decimal is its digits, a UUID its text.

    :param value: any cell; a bool or a float is no identity, since a float of many digits may be that of two
        leads
    :raises PopinInputError: ``lead_id_missing``, ``lead_id_type``, ``lead_id_too_long``,
        ``lead_id_characters``
    """
    if is_missing(value):
        raise PopinInputError("is missing", code="lead_id_missing", field="lead_id")
    text = _identity_text(value)
    if text is None:
        raise PopinInputError("is of a type that is no identity", code="lead_id_type", field="lead_id")
    if len(text) <= MAX_TEXT:
        text = unicodedata.normalize("NFC", text)
    if len(text) > MAX_ID:
        raise PopinInputError(f"is longer than {MAX_ID} characters", code="lead_id_too_long", field="lead_id")
    if _UNUSABLE.search(text):
        raise PopinInputError(
            "has characters that no identity may have", code="lead_id_characters", field="lead_id"
        )
    return text


def clean_generation(value: object) -> int:
    """The generation, a positive whole number; 1 for a missing cell.

    :param value: any cell
    :raises PopinInputError: ``generation_invalid``
    """
    number = 1 if is_missing(value) else _integer(value)
    if number is None or not 1 <= number <= _MAX_GENERATION:
        raise PopinInputError("is not a positive whole number", code="generation_invalid", field="generation")
    return number


def clean_priority(value: object) -> int | None:
    """The priority, any whole number of 64 bits.

    :param value: any cell
    :raises PopinInputError: ``priority_invalid``
    """
    if is_missing(value):
        return None
    number = _integer(value)
    if number is None or abs(number) > _MAX_PRIORITY:
        raise PopinInputError("is not a whole number", code="priority_invalid", field="priority")
    return number


def clean_customer_id(value: object) -> str | None:
    """A customer_id of Popin: opaque text (grade D), stripped.

    :param value: any cell
    :raises PopinInputError: ``customer_id_invalid``
    """
    if is_missing(value):
        return None
    text = value.strip() if isinstance(value, str) else ""
    if not is_customer_id(text):
        raise PopinInputError("is not a customer_id", code="customer_id_invalid", field="customer_id")
    return text


def clean_timezone(value: object) -> str | None:
    """The IANA name of a timezone.

    :param value: any cell
    :raises PopinInputError: ``timezone_unknown``
    """
    if is_missing(value):
        return None
    name = value.strip() if isinstance(value, str) else ""
    load_timezone(name)
    return name


def clean_instant(value: object, field: str) -> datetime | None:
    """An instant, as a plain datetime in UTC.

    :param value: ISO 8601 text with an offset, or an aware datetime (pandas' and pendulum's too; nanoseconds
        are cut)
    :param field: for the error
    :raises PopinInputError: ``time_naive`` (a date or a time without an offset: whose midnight would it be?),
        ``time_invalid``
    """
    if is_missing(value):
        return None
    moment = _from_iso(value, field) if isinstance(value, str) else value
    if isinstance(moment, date) and (not isinstance(moment, datetime) or moment.utcoffset() is None):
        raise PopinInputError("has no offset from UTC", code="time_naive", field=field)
    if not isinstance(moment, datetime):
        raise PopinInputError("is neither text nor a datetime", code="time_invalid", field=field)
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise PopinInputError("is beyond the calendar", code="time_invalid", field=field) from None
    # Put together anew: subclasses compare, hash and pickle in ways of their own.
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)


def clean_hour(value: object, field: str) -> time | None:
    """A local time of day. ``24:00`` is midnight, the end of the day.

    :param value: ``"9:00"``, ``"09:00:00"``, a time, or a timedelta since midnight (MySQL's form of a TIME)
    :param field: for the error
    :raises PopinInputError: ``hours_invalid``
    """
    if is_missing(value):
        return None
    since_midnight = _since_midnight(value)
    if since_midnight is not None and timedelta(0) <= since_midnight <= _DAY:
        return (datetime.min + since_midnight).time()  # noqa: DTZ901  (only its time of day is used)
    raise PopinInputError("is not a time of day", code="hours_invalid", field=field)


def _identity_text(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, Decimal):
        # Of a larger one only the size matters, and its digits could fill the memory.
        if not value.is_finite() or value.adjusted() > MAX_ID:
            return None if not value.is_finite() else "9" * (MAX_ID + 1)
        return str(int(value)) if value == value.to_integral_value() else None
    if isinstance(value, Integral):
        number = int(value)
        return str(number) if number.bit_length() <= _ID_BITS else "9" * (MAX_ID + 1)
    return None


def _from_iso(text: str, field: str) -> datetime:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        raise PopinInputError("is no ISO 8601 time", code="time_invalid", field=field) from None


def _integer(value: object) -> int | None:
    match = _INTEGER.fullmatch(plain_text(value) or "")
    return int(match[1]) if match else None


def _since_midnight(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, time) and value.tzinfo is None:
        value = value.isoformat("seconds")
    return _told_by_clock(value.strip()) if isinstance(value, str) and len(value) <= MAX_ID else None


@lru_cache(maxsize=1024)
def _told_by_clock(text: str) -> timedelta | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if minutes > 59 or seconds > 59:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
