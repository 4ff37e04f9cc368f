"""When a call may start: the window of a lead or a sensor, and the sensor's one rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.models import Calendar, Slot
from airflow_provider_popin.client.slots import load_timezone


@dataclass(frozen=True)
class SlotWindow:
    """The start times that suit somebody. Every bound includes its beginning and excludes its end.

    :param earliest: first instant, aware
    :param latest: the instant from which on it is too late, aware
    :param hours: local times of day, from and to; wraps midnight when from is later than to, and is the whole
        day when they are equal
    :param weekdays: days of the week of the local date, Monday is 0
    :param timezone: IANA name that hours and weekdays are told in; None is the seller's
    :raises PopinInputError: a bound is naive or of another type, or the timezone is unknown
    """

    earliest: datetime | None = None
    latest: datetime | None = None
    hours: tuple[time, time] | None = None
    weekdays: frozenset[int] | None = None
    timezone: str | None = None

    def __post_init__(self) -> None:
        for name in ("earliest", "latest"):
            bound: object = getattr(self, name)
            if bound is not None and (not isinstance(bound, datetime) or bound.utcoffset() is None):
                raise PopinInputError("must be a datetime with an offset", code="time_naive", field=name)
        if self.hours is not None and not _are_hours(self.hours):
            raise PopinInputError(
                "must be two times of day without a timezone", code="hours_invalid", field="hours"
            )
        if self.weekdays is not None and not _are_weekdays(self.weekdays):
            raise PopinInputError("must be numbers from 0 to 6", code="weekdays_invalid", field="weekdays")
        if self.timezone is not None:
            load_timezone(self.timezone)

    def to_json(self) -> dict[str, Any]:
        """The bounds by name as JSON values, which triggers take as arguments; None for what is open."""
        return {
            "earliest": self.earliest.isoformat() if self.earliest else None,
            "latest": self.latest.isoformat() if self.latest else None,
            "hours": [hour.isoformat() for hour in self.hours] if self.hours else None,
            "weekdays": sorted(self.weekdays) if self.weekdays is not None else None,
            "timezone": self.timezone,
        }

    def allows(self, start: datetime, seller_timezone: str) -> bool:
        """Whether a call may start at an instant.

        :param start: aware
        :param seller_timezone: IANA name, used when the window has no timezone of its own
        """
        if self.earliest is not None and start < self.earliest:
            return False
        if self.latest is not None and start >= self.latest:
            return False
        if self.hours is None and self.weekdays is None:
            return True
        local = start.astimezone(load_timezone(self.timezone or seller_timezone))
        if self.weekdays is not None and local.weekday() not in self.weekdays:
            return False
        return self.hours is None or _within(local.time(), *self.hours)


def check_order(earliest: datetime | None, latest: datetime | None) -> None:
    """Refuse limits between which no slot can ever be. Those of an operator and a row may well be apart.

    :param earliest: first instant, aware
    :param latest: the instant from which on it is too late, aware
    :raises PopinInputError: it is not after ``earliest``
    """
    if earliest is not None and latest is not None and earliest >= latest:
        raise PopinInputError("is not after earliest", code="window_empty", field="latest")


def available_slots(
    calendar: Calendar, window: SlotWindow, *, now: datetime, min_slots: int = 1, max_slots: int | None = 100
) -> list[dict[str, str]] | None:
    """The sensor's rule: enough slots are free, or not yet.

    :param calendar: what a GET answered
    :param window: which start times count
    :param now: aware; slots that have begun do not count
    :param min_slots: how many must be free
    :param max_slots: how many to return at most, None for all
    :return: ``[{"time": Popin's string, "start": ISO 8601 in UTC, "timezone": the seller's}]``, ascending;
        None: not yet
    """
    found = open_slots(calendar, window, after=now)
    return described(found[:max_slots], calendar.timezone) if len(found) >= min_slots else None


def open_slots(calendar: Calendar, window: SlotWindow, *, after: datetime) -> list[Slot]:
    """The free slots that count, ascending.

    :param calendar: what a GET answered
    :param window: which start times count
    :param after: aware; earlier slots, and one at this instant, do not count
    """
    return [
        slot for slot in calendar.slots if slot.start > after and window.allows(slot.start, calendar.timezone)
    ]


def described(slots: Sequence[Slot], timezone: str) -> list[dict[str, str]]:
    """Slots as Dags see them: ``[{"time": Popin's string, "start": ISO 8601 in UTC, "timezone": ...}]``.

    :param slots: any
    :param timezone: the seller's
    """
    return [{"time": slot.time, "start": slot.start.isoformat(), "timezone": timezone} for slot in slots]


def _within(local: time, first: time, end: time) -> bool:
    if first < end:
        return first <= local < end
    return local >= first or local < end


def _are_hours(hours: object) -> bool:
    return (
        isinstance(hours, tuple)
        and len(hours) == 2
        and all(isinstance(hour, time) and hour.tzinfo is None for hour in hours)
    )


def _are_weekdays(weekdays: object) -> bool:
    return isinstance(weekdays, frozenset) and all(
        isinstance(day, int) and not isinstance(day, bool) and 0 <= day <= 6 for day in weekdays
    )
