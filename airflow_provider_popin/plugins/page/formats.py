"""How numbers, times and codes are written on the page."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow.providers.common.compat.sdk import conf

NOTHING = "\N{EN DASH}"
# Not strftime: its names are those of the process's locale.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def number(value: float | None) -> str:
    """Write a count with thousands: ``12,345``; a dash for none."""
    return NOTHING if value is None else f"{value:,.0f}"


def percent(part: float | None, whole: float | None) -> str:
    """Write a share: ``86 %``; ``< 1 %`` and ``> 99 %`` rather than a rounded nothing or all."""
    if part is None or not whole:
        return NOTHING
    share = 100 * part / whole
    if 0 < share < 1:
        return "< 1 %"
    if 99 < share < 100:
        return "> 99 %"
    return f"{share:.0f} %"


def instant(seconds: float | None) -> str:
    """Write epoch seconds: ``23 Nov 2026, 14:05 UTC``, see :func:`display_timezone`."""
    if seconds is None:
        return NOTHING
    zone = display_timezone()
    return f"{clock_time(datetime.fromtimestamp(seconds, ZoneInfo(zone)), weekday=False)} {zone}"


def iso(seconds: float) -> str:
    """Write epoch seconds for machines: ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def ago(seconds: float | None, now: float) -> str:
    """Write how long ago something was: ``5 min ago``."""
    if seconds is None:
        return NOTHING
    passed = now - seconds
    if passed < _MINUTE:
        return "just now"
    if passed < _HOUR:
        return f"{passed // _MINUTE:.0f} min ago"
    if passed < 2 * _DAY:
        return f"{passed // _HOUR:.0f} h ago"
    return f"{passed // _DAY:.0f} days ago"


def duration(seconds: float | None) -> str:
    """Write how long something took: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None:
        return NOTHING
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes} min"


def words(code: str | None) -> str:
    """Write a code of the ledger for people: ``phone_no_region`` becomes ``phone no region``."""
    return NOTHING if not code else code.replace("_", " ")


def day(value: date) -> str:
    """Write a day: ``Mon 23 Nov 2026``."""
    return f"{_DAYS[value.weekday()]} {value.day} {_MONTHS[value.month - 1]} {value.year}"


def short_day(value: date) -> str:
    """Write a day below a chart: ``23 Nov``."""
    return f"{value.day} {_MONTHS[value.month - 1]}"


def display_timezone() -> str:
    """Return the timezone of days and instants: Airflow's ``[core] default_timezone``, if it is a name."""
    name = conf.get("core", "default_timezone", fallback="utc")
    try:
        return "UTC" if name.lower() in ("utc", "system") else ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError):
        return "UTC"


def query(**parameters: object) -> str:
    """Return ``?name=value...`` of the parameters that have a value, or nothing."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""


def pretty(value: object) -> str:
    """Write JSON for reading."""
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True)


def clock_time(at: datetime, *, weekday: bool = True) -> str:
    """Write a time: ``Thu 25 Sep 2025, 15:15``."""
    named = f"{_DAYS[at.weekday()]} " if weekday else ""
    return f"{named}{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M}"
