"""Slots of the sandbox: which there are, and how Popin spells them (D).

Names of days and months come from tables of this module, since strftime follows the locale of the process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
TIME_PATTERN = re.compile(
    r"(?P<weekday>[A-Z][a-z]{2}), (?P<day>[0-9]{2}) (?P<month>[A-Z][a-z]{2}) (?P<year>[0-9]{4}) "
    r"(?P<hour>0[1-9]|1[0-2]):(?P<minute>[0-5][0-9]) (?P<half>AM|PM)"
)


@dataclass(frozen=True, slots=True)
class GridSlot:
    """
    One start time on offer.

    :param day: `Thu, 25 Sep 2025`.
    :param clock: `03:15 PM`.
    :param local: naive start in the seller's timezone.
    :param start: start in seconds since the epoch.
    """

    day: str
    clock: str
    local: datetime
    start: float

    @property
    def text(self) -> str:
        """The slot as a schedule request names it: day, one space, clock."""
        return self.day + " " + self.clock


def format_day(day: date) -> str:
    """
    A day as the slots reply spells it.

    :param day: the day.
    :return: `Wed, 24 Sep 2025`.
    """
    return f"{DAYS[day.weekday()]}, {day.day:02d} {MONTHS[day.month - 1]} {day.year:04d}"


def format_clock(moment: time | datetime) -> str:
    """
    A time of day as the slots reply spells it.

    :param moment: time of day; seconds are not shown.
    :return: `03:15 PM`.
    """
    return f"{moment.hour % 12 or 12:02d}:{moment.minute:02d} {'AM' if moment.hour < 12 else 'PM'}"


def format_reply_time(local: datetime) -> str:
    """
    A booked time as the schedule reply spells it, without a year.

    :param local: start in the seller's timezone.
    :return: `Fri, Sep 19 | 07:30 PM`.
    """
    return f"{DAYS[local.weekday()]}, {MONTHS[local.month - 1]} {local.day:02d} | {format_clock(local)}"


def parse_time(text: str) -> datetime:
    """
    Read the `time` of a schedule request, strictly.

    :param text: `Thu, 25 Sep 2025 03:15 PM`.
    :return: naive local datetime.
    :raises ValueError: another format, a date that does not exist, or the wrong weekday.
    """
    match = TIME_PATTERN.fullmatch(text)
    if match is None or match["month"] not in MONTHS:
        raise ValueError("The time does not match the format D, d M Y h:i A.")
    hour = int(match["hour"]) % 12 + (12 if match["half"] == "PM" else 0)
    try:
        local = datetime(  # noqa: DTZ001 - local time of the seller, the timezone is not in the text
            int(match["year"]),
            MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            hour,
            int(match["minute"]),
        )
    except ValueError:
        raise ValueError("The time is not a valid date.") from None
    if DAYS[local.weekday()] != match["weekday"]:
        raise ValueError("The weekday of the time does not belong to its date.")
    return local


def make_slot(local: datetime, zone: ZoneInfo) -> GridSlot | None:
    """
    The slot at a local time.

    :param local: naive start in the seller's timezone.
    :param zone: the seller's timezone.
    :return: the slot (the earlier one where a DST change doubles it), or None where a DST change removes it.
    """
    instant = local.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != local:
        return None
    return GridSlot(format_day(local), format_clock(local), local, instant.timestamp())


def daily_slots(
    first: date, *, days: int, opens: time, closes: time, slot_minutes: int, zone: ZoneInfo
) -> list[GridSlot]:
    """
    The slots of some days with the same opening hours.

    :param first: first day, in the seller's timezone.
    :param days: number of days.
    :param opens: first slot of a day.
    :param closes: no slot starts at or after it; 00:00 is the end of the day.
    :param slot_minutes: minutes between two slots.
    :param zone: the seller's timezone.
    :return: slots in ascending order.
    """
    end = closes.hour * 60 + closes.minute or 1440
    minutes = range(opens.hour * 60 + opens.minute, end, slot_minutes)
    midnights = (datetime.combine(first + timedelta(days=day), time()) for day in range(days))
    locals_ = [midnight + timedelta(minutes=minute) for midnight in midnights for minute in minutes]
    return _existing(locals_, zone)


def listed_slots(texts: Sequence[str], *, zone: ZoneInfo) -> list[GridSlot]:
    """
    The slots of an absolute list.

    :param texts: slots in Popin's spelling, any order.
    :param zone: the seller's timezone.
    :return: slots in ascending order, each once.
    :raises ValueError: a text that is no slot.
    """
    return _existing(sorted({parse_time(text) for text in texts}), zone)


def check_timezone(name: str) -> str:
    """
    Refuse what is no IANA timezone.

    :param name: timezone name.
    :return: the same name.
    :raises ValueError: no such timezone.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"timezone: {name} is no IANA timezone") from error
    return name


def _existing(locals_: Sequence[datetime], zone: ZoneInfo) -> list[GridSlot]:
    return [slot for slot in (make_slot(local, zone) for local in locals_) if slot is not None]
