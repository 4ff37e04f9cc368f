"""Slots and Popin's strings for them (formats: grade D). English names whatever the locale of the process
is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from airflow_provider_popin.client.errors import PopinInputError, PopinReplyError
from airflow_provider_popin.client.models import Calendar, Slot

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = "|".join(_DAYS)
_MONTH = "|".join(_MONTHS)
_CLOCK = r"(?P<hour>0[1-9]|1[0-2]):(?P<minute>[0-5][0-9]) (?P<half>AM|PM)"
_SLOT_TIME = re.compile(
    rf"(?P<weekday>{_DAY}), (?P<day>[0-9]{{2}}) (?P<month>{_MONTH}) (?P<year>[0-9]{{4}}) {_CLOCK}"
)
# The reply of schedule names the time without a year (grade D).
_REPLY_TIME = re.compile(rf"(?P<weekday>{_DAY}), (?P<month>{_MONTH}) (?P<day>[0-9]{{1,2}}) \| {_CLOCK}")

# What the time strings may be called in a reason; everything but these two means that the text itself is
# malformed.
_DST_CODES = ("time_ambiguous", "time_nonexistent")


class Log(Protocol):
    """What a logger of Airflow 2 and one of Airflow 3 have in common, as far as it is used here."""

    def warning(self, event: str, *args: Any) -> Any:
        """Log a warning."""


def load_timezone(name: object) -> ZoneInfo:
    """The timezone of an IANA name.

    :param name: what a reply or a user gave; anything may come
    :raises PopinInputError: ``timezone_unknown``
    """
    # A text that is no IANA name may still be a file of the timezone directory; "localtime" would be this
    # machine's.
    if not isinstance(name, str) or not 0 < len(name) <= 64 or name in ("localtime", "posixrules"):
        raise PopinInputError("is not an IANA timezone", code="timezone_unknown", field="timezone")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise PopinInputError("is not an IANA timezone", code="timezone_unknown", field="timezone") from None


def shown_timezone(name: str | None) -> tzinfo:
    """The timezone to tell a stored instant in: UTC where none is stored, or none that this machine knows.

    The machine that stored it may have a newer timezone database.

    :param name: as it was stored
    """
    try:
        return UTC if name is None else load_timezone(name)
    except PopinInputError:
        return UTC


def is_popin_time(text: object) -> bool:
    """Whether a value has the shape of a slot string; the date may still be none.

    :param text: anything
    """
    return isinstance(text, str) and _SLOT_TIME.fullmatch(text) is not None


def parse_popin_time(text: str, timezone: str) -> datetime:
    """The instant of a slot string.

    :param text: exactly ``%a, %d %b %Y %I:%M %p`` in English, ``Thu, 25 Sep 2025 03:15 PM``
    :param timezone: IANA name of the seller's timezone
    :return: aware, in UTC
    :raises PopinInputError: ``time_malformed``, ``time_weekday`` (the date is another day of the week),
        ``time_ambiguous`` or ``time_nonexistent`` (a DST change doubles or removes it), ``timezone_unknown``
    """
    zone = load_timezone(timezone)
    match = _SLOT_TIME.fullmatch(text)
    if match is None:
        raise _time_error("time_malformed")
    year, month, day = int(match["year"]), _MONTHS.index(match["month"]) + 1, int(match["day"])
    try:
        local = datetime(year, month, day, _hour(match), int(match["minute"]), tzinfo=zone)
    except ValueError:
        raise _time_error("time_malformed") from None
    if _DAYS[local.weekday()] != match["weekday"]:
        raise _time_error("time_weekday")
    return _to_utc(local)


def format_popin_time(instant: datetime, timezone: str) -> str:
    """The slot string of an instant; the inverse of :func:`parse_popin_time`.

    :param instant: aware
    :param timezone: IANA name of the seller's timezone
    :raises PopinInputError: ``time_naive``, ``time_seconds`` (it is no whole minute there),
        ``time_ambiguous`` (a DST change doubles the local time, so that the string would name two instants),
        ``time_malformed`` (beyond the calendar), ``timezone_unknown``
    """
    zone = load_timezone(timezone)
    if instant.utcoffset() is None:
        raise _time_error("time_naive")
    try:
        local = instant.astimezone(zone)
    except (OverflowError, ValueError):
        raise _time_error("time_malformed") from None
    if local.second or local.microsecond:
        raise _time_error("time_seconds")
    _to_utc(local)
    day = f"{_DAYS[local.weekday()]}, {local.day:02} {_MONTHS[local.month - 1]} {local.year:04}"
    return f"{day} {_clock(local)}"


def resolve_time(value: str | datetime, *, timezone: str, now: datetime) -> Slot:
    """The slot that an author's ``time`` argument means.

    :param value: Popin's own string, which is then sent as it is; or an aware datetime or ISO 8601 text with
        an offset
    :param timezone: IANA name of the seller's timezone, from a fresh GET
    :param now: aware
    :raises PopinInputError: ``time_malformed``, ``time_weekday``, ``time_naive``, ``time_past``,
        ``time_seconds``, ``time_ambiguous``, ``time_nonexistent``, ``timezone_unknown``
    """
    if isinstance(value, str) and _SLOT_TIME.fullmatch(value):
        slot = Slot(start=parse_popin_time(value, timezone), time=value)
    else:
        text = format_popin_time(_parse_instant(value), timezone)
        slot = Slot(start=parse_popin_time(text, timezone), time=text)
    if slot.start <= now:
        raise _time_error("time_past")
    return slot


def reply_matches_slot(reply_time: str | None, timezone: str | None, slot: Slot) -> bool | None:
    """Whether the time that a booking was confirmed for is the slot that was asked for.

    :param reply_time: ``Fri, Sep 19 | 07:30 PM``, without a year (grade D); the slot format is understood as
        well
    :param timezone: IANA name that the reply's time is in; the seller's, if the reply names none
    :param slot: what was asked for
    :return: None if the reply's time or timezone cannot be read
    """
    if not isinstance(reply_time, str) or not isinstance(timezone, str):
        return None
    try:
        local, documented = _local_time(slot.start, timezone)
    except PopinInputError:
        return None
    if reply_time == documented:
        return True  # as nearly all are; the rest is for other writings, and for other times
    match = _REPLY_TIME.fullmatch(reply_time) or _SLOT_TIME.fullmatch(reply_time)
    if match is None:
        return None
    named = (match["weekday"], match["month"], int(match["day"]), _hour(match), int(match["minute"]))
    asked = (_DAYS[local.weekday()], _MONTHS[local.month - 1], local.day, local.hour, local.minute)
    return named == asked and match.groupdict().get("year", f"{local.year:04}") == f"{local.year:04}"


@lru_cache(maxsize=1024)
def _local_time(start: datetime, timezone: str) -> tuple[datetime, str]:
    """A slot's start on the clock of a timezone, and what the reply that confirms it is documented to say.

    :raises PopinInputError: ``timezone_unknown``
    """
    local = start.astimezone(load_timezone(timezone))
    day = f"{_DAYS[local.weekday()]}, {_MONTHS[local.month - 1]} {local.day:02}"
    return local, f"{day} | {_clock(local)}"


def parse_calendar(payload: object) -> Calendar:
    """The free slots from the decoded JSON of the slots endpoint.

    A malformed slot, or one that a DST change doubles or removes, is skipped and noted.

    :param payload: any JSON value
    :raises PopinReplyError: the reply is not as documented, or it has slots and none of them is well-formed
    """
    if not isinstance(payload, Mapping):
        raise PopinReplyError("slots_not_an_object")
    availability = payload.get("availability")
    if not isinstance(availability, list):
        raise PopinReplyError("availability_not_a_list")
    timezone = payload.get("timezone")
    try:
        load_timezone(timezone)
    except PopinInputError:
        raise PopinReplyError("timezone_unknown") from None
    starts: dict[datetime, str] = {}
    skipped: list[str] = []
    well_formed = 0
    for where, text, code in _slot_texts(availability):
        if code is None:
            try:
                starts.setdefault(parse_popin_time(text, str(timezone)), text)
                well_formed += 1
                continue
            except PopinInputError as error:
                code = error.code
        well_formed += code in _DST_CODES
        skipped.append(f"{where}: {code}")
    if skipped and not well_formed:
        raise PopinReplyError("no_slot_well_formed")
    slots = tuple(Slot(start=start, time=starts[start]) for start in sorted(starts))
    return Calendar(slots, str(timezone), _slot_minutes(payload.get("slotDiff")), tuple(skipped))


def log_skipped(log: Log, calendar: Calendar) -> None:
    """Warn of slots in Popin's answer that were left out, and say why.

    :param log: where to
    :param calendar: what came of the answer
    """
    if calendar.skipped:
        log.warning(
            "%d slots in Popin's answer were left out, for example %s",
            len(calendar.skipped),
            "; ".join(calendar.skipped[:5]),
        )


def _slot_texts(availability: list[object]) -> Iterator[tuple[str, str, str | None]]:
    """Every slot of a reply: where it stands, its string, and a code if it has none."""
    for number, entry in enumerate(availability):
        where = f"availability[{number}]"
        date = entry.get("date") if isinstance(entry, Mapping) else None
        times = entry.get("slots") if isinstance(entry, Mapping) else None
        if not isinstance(date, str) or not isinstance(times, list):
            yield where, "", "entry_malformed"
            continue
        for position, clock in enumerate(times):
            code = None if isinstance(clock, str) else "time_malformed"
            yield f"{where}.slots[{position}]", f"{date} {clock}" if code is None else "", code


def _slot_minutes(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1440:
        return None
    return value


def _clock(local: datetime) -> str:
    half = "AM" if local.hour < 12 else "PM"
    return f"{(local.hour + 11) % 12 + 1:02}:{local.minute:02} {half}"


def _hour(match: re.Match[str]) -> int:
    return int(match["hour"]) % 12 + (12 if match["half"] == "PM" else 0)


def _to_utc(local: datetime) -> datetime:
    """The one instant of a local time, or an error if there are two or none."""
    # Away from both ends of the calendar, every conversion between timezones stays inside of it.
    if not 1 < local.year < 9999:
        raise _time_error("time_malformed")
    first = local.replace(fold=0).astimezone(UTC)
    second = local.replace(fold=1).astimezone(UTC)
    if first == second:
        return first
    back = first.astimezone(local.tzinfo)
    # Two times in one zone compare by what the clock shows.
    raise _time_error("time_ambiguous" if back == local else "time_nonexistent")


def _parse_instant(value: object) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _time_error("time_malformed") from None
    if not isinstance(value, datetime):
        raise _time_error("time_malformed")
    if value.utcoffset() is None:
        raise _time_error("time_naive")
    return value


_TIME_REASONS = {
    "time_malformed": "is neither Popin's form (Thu, 25 Sep 2025 03:15 PM) nor a datetime with an offset",
    "time_weekday": "names a day of the week that the date is not",
    "time_naive": "has no timezone offset",
    "time_past": "is in the past",
    "time_seconds": "is not a whole minute in the seller's timezone",
    "time_ambiguous": "happens twice in the seller's timezone, at a DST change",
    "time_nonexistent": "does not happen in the seller's timezone, at a DST change",
}


def _time_error(code: str) -> PopinInputError:
    return PopinInputError(_TIME_REASONS[code], code=code, field="time")
