"""Arguments of operators and sensors at run time: a template makes text of everything, so text must do.

Each function takes the typed value or its text, and raises :class:`PopinInputError` naming the argument,
never its value. For optional arguments what an empty cell is (blank text, NaN, pandas' NA and NaT) and
``"None"``, which Jinja makes of None, mean None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from typing import Final

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.scalars import is_missing
from airflow_provider_popin.sync.source.cells import clean_hour
from airflow_provider_popin.sync.source.source_name import TEMPLATE_MARKS

_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def is_literal(value: object) -> bool:
    """Tell whether an argument can be checked when the Dag is parsed: no template, no reference.

    :param value: the argument.
    """
    if isinstance(value, str):
        return not any(mark in value for mark in TEMPLATE_MARKS)
    return not is_reference(value)


def is_reference(value: object) -> bool:
    """Tell whether Airflow knows the value in the task only: a task's output, a mapped task group's argument.

    :param value: the argument.
    """
    # What both have, on every Airflow; their base class is not public.
    return hasattr(value, "iter_references")


def argument_error(field: str, problem: str, *, code: str = "argument_invalid") -> PopinInputError:
    """Return the error for an argument that cannot be used.

    :param field: its name.
    :param problem: what it must be.
    :param code: short code of the reason.
    """
    return PopinInputError(problem, code=code, field=field)


def given(value: object) -> object:
    """Return an optional argument as it is, or None if it is absent.

    :param value: the argument.
    """
    absent = is_missing(value) or (isinstance(value, str) and value.strip().lower() == "none")
    return None if absent else value


def optional_text(value: object, field: str) -> str | None:
    """Return a text, of a text or a whole number; None if absent.

    :param value: the argument.
    :param field: its name, for the message.
    """
    if given(value) is None:
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise argument_error(field, "must be text", code="not_text")


def required_text(value: object, field: str) -> str:
    """Return a text, of a text or a whole number; absent is an error.

    :param value: the argument.
    :param field: its name, for the message.
    """
    text = optional_text(value, field)
    if text is None:
        raise argument_error(field, "is missing", code="missing")
    return text


def required_time(value: object, field: str) -> str | datetime:
    """Return a time as it is, text without outer white space; what it means is only known with a timezone.

    :param value: the argument.
    :param field: its name, for the message.
    """
    if given(value) is None:
        raise argument_error(field, "is missing", code="missing")
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise argument_error(field, "must be text or a datetime", code="not_time")
    return value.strip()


def positive_int(value: object, field: str) -> int:
    """Return a whole number of at least 1.

    :param value: the argument.
    :param field: its name, for the message.
    """
    number: object = value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise argument_error(field, "must be a whole number of at least 1", code="not_positive")
    return number


def optional_mapping(value: object, field: str) -> Mapping[str, object] | None:
    """Return a mapping, of a mapping or the text of a JSON object; None if absent.

    :param value: the argument.
    :param field: its name, for the message.
    """
    if given(value) is None:
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise argument_error(field, "must be a mapping or a JSON object", code="not_mapping") from None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise argument_error(field, "must be a mapping or a JSON object", code="not_mapping")
    return value


def optional_instant(value: object, field: str) -> datetime | None:
    """Return an aware datetime, of one or its ISO 8601 text with an offset; None if absent.

    :param value: the argument.
    :param field: its name, for the message.
    """
    if given(value) is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise argument_error(
                field, "must be a time in ISO 8601 with an offset", code="not_instant"
            ) from None
    if not isinstance(value, datetime):
        raise argument_error(field, "must be a time in ISO 8601 with an offset", code="not_instant")
    if value.utcoffset() is None:
        # Whose clock a naive time is meant for cannot be known; a guess would look for the wrong slots.
        raise argument_error(field, "has no offset from UTC", code="naive_time")
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise argument_error(field, "is beyond the calendar", code="not_instant") from None
    return value


def optional_hours(value: object, field: str) -> tuple[time, time] | None:
    """Return hours of the day: from (included) and to (not included); None if absent.

    :param value: two times, or two texts like ``"10:00"``, or one text ``"10:00-18:00"``, each read as in a
        row: ``24:00`` is the end of the day. When the first is later than the second, the hours go over
        midnight.
    :param field: its name, for the message.
    """
    if given(value) is None:
        return None
    parts = value.split("-") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or len(parts) != 2:
        raise argument_error(field, "must be two times of day", code="not_hours")
    return _time_of_day(parts[0], field), _time_of_day(parts[1], field)


def optional_weekdays(value: object, field: str) -> frozenset[int] | None:
    """Return weekdays as numbers, Monday = 0; None if absent.

    :param value: numbers from 0, or English names, whole or their first three letters; in a list, or in one
        text separated by commas.
    :param field: its name, for the message.
    """
    if given(value) is None:
        return None
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, Mapping):
        raise argument_error(field, "must be a list of weekdays", code="not_weekdays")
    days = frozenset(_weekday(item, field) for item in items)
    if not days:
        raise argument_error(field, "must name at least one weekday", code="not_weekdays")
    return days


def _time_of_day(value: object, field: str) -> time:
    try:
        moment = clean_hour(value, field)
    except PopinInputError:
        moment = None
    if moment is None:
        raise argument_error(field, "must be times of day like 10:00, without an offset", code="not_hours")
    return moment


def _weekday(value: object, field: str) -> int:
    text = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    for number, name in enumerate(_WEEKDAYS):
        if text in {str(number), name, name[:3]}:
            return number
    raise argument_error(
        field, "must be weekdays: Monday to Sunday, or 0 to 6 from Monday", code="not_weekdays"
    )
