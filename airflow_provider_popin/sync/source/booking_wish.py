"""When a lead wants its call, and with whom: what is kept of a row until it is booked. Nothing personal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache

from airflow_provider_popin.client.windows import SlotWindow

# Leads of one source have few different wishes; beyond that, sharing is given up rather than memory.
_SHARED = 4096
_INSTANTS = ("earliest", "latest")
_TIMES = ("hours_from", "hours_to")


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingWish:
    """The booking fields of a row, combined with the limits of the operator.

    :param earliest: first instant, aware
    :param latest: the instant from which on it is too late, aware
    :param hours_from: first local time of day; both hours are set or neither
    :param hours_to: the local time of day from which on it is too late
    :param timezone: IANA name that the hours are told in; None is the seller's
    :param priority: higher first
    :param agent: number of the agent to assign
    :param native: False gives the customer a custom join link
    """

    earliest: datetime | None = None
    latest: datetime | None = None
    hours_from: time | None = None
    hours_to: time | None = None
    timezone: str | None = None
    priority: int = 0
    agent: int | None = None
    native: bool | None = None

    def window(self) -> SlotWindow:
        """The window for the planner. Equal wishes share one object, as far as memory permits."""
        return _shared_window(self.earliest, self.latest, self.hours_from, self.hours_to, self.timezone)

    def to_json(self) -> str:
        """The wish as a JSON object without what is not set; ``{}`` is no wish at all."""
        values: dict[str, object] = {}
        for name in _INSTANTS:
            instant: datetime | None = getattr(self, name)
            if instant is not None:
                values[name] = instant.isoformat()
        for name in _TIMES:
            moment: time | None = getattr(self, name)
            if moment is not None:
                values[name] = moment.isoformat()
        for name in ("timezone", "agent", "native"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        if self.priority:
            values["priority"] = self.priority
        return json.dumps(values, separators=(",", ":")) if values else "{}"

    @staticmethod
    def from_json(text: str | None) -> BookingWish:
        """The wish that :meth:`to_json` wrote. Equal texts share one object, as far as memory permits.

        :param text: a JSON object; None of a lead that wishes nothing
        :raises ValueError: the text is not what :meth:`to_json` writes
        """
        return _shared_wish("{}" if text is None else text)


@lru_cache(maxsize=_SHARED)
def _shared_window(
    earliest: datetime | None,
    latest: datetime | None,
    hours_from: time | None,
    hours_to: time | None,
    timezone: str | None,
) -> SlotWindow:
    if hours_from is None or hours_to is None:
        return SlotWindow(earliest=earliest, latest=latest)
    return SlotWindow(earliest=earliest, latest=latest, hours=(hours_from, hours_to), timezone=timezone)


@lru_cache(maxsize=_SHARED)
def _shared_wish(text: str) -> BookingWish:
    values = json.loads(text)
    try:
        values.update({name: datetime.fromisoformat(values[name]) for name in _INSTANTS if name in values})
        values.update({name: time.fromisoformat(values[name]) for name in _TIMES if name in values})
        wish = BookingWish(**values)
        wish.window()  # refuses naive instants and unknown timezones
    except (TypeError, AttributeError):
        raise ValueError("not the JSON object of a booking wish") from None
    if not all(isinstance(number, int) for number in (wish.priority, wish.agent or 0)):
        raise ValueError("a number of a booking wish is none")
    return wish
