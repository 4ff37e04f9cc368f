"""The seller's calendar: slots on offer and the seats taken in them."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections import Counter
from datetime import datetime, timedelta
from datetime import time as time_of_day
from zoneinfo import ZoneInfo

from airflow_provider_popin.sandbox.grid import GridSlot, daily_slots, listed_slots, parse_time
from airflow_provider_popin.sandbox.settings import SandboxSettings


class Seats:
    """
    Slots and seats of one seller.

    :param settings: hours or list of slots, seats per slot, clock.
    """

    def __init__(self, *, settings: SandboxSettings) -> None:
        self.settings = settings
        self.timezone = settings.timezone
        self._taken: Counter[float] = Counter()
        self._full = 0
        self._slots: list[GridSlot] = []
        self._starts: list[float] = []
        self._by_text: dict[str, GridSlot] = {}
        self._grid_ends = 0.0
        self._cached: tuple[int, int, bytes] | None = None
        self.set_timezone(settings.timezone)

    def now(self) -> float:
        """The sandbox's clock, in seconds since the epoch."""
        return time.time() if self.settings.now is None else self.settings.now.timestamp()

    def set_timezone(self, name: str) -> None:
        """
        Offer the same local hours in another timezone from now on; bookings keep their instant.

        :param name: IANA name.
        """
        self.timezone = name
        self._make_grid()

    def availability(self) -> bytes:
        """
        The slots reply: what is neither past nor full. Keys and formats are D, that past slots are left out
        is I.

        :return: JSON text.
        """
        first = self._first_to_come()
        if self._cached is None or self._cached[:2] != (first, self._full):
            self._cached = (first, self._full, self._availability(first))
        return self._cached[2]

    def find(self, text: str) -> GridSlot | str:
        """
        The slot that a request names, if a seat is free.

        :param text: the `time` of the request.
        :return: the slot, or why it cannot be booked.
        """
        self._first_to_come()
        slot = self._by_text.get(text)
        if slot is None:
            return self._why_no_slot(text)
        if slot.start <= self.now():
            return "The selected time is in the past."
        if self._taken[slot.start] >= self.settings.seats_per_slot:
            return "The selected slot is already booked."
        return slot

    def take(self, slot: GridSlot) -> None:
        """
        Take a seat.

        :param slot: what `find` returned.
        """
        self._taken[slot.start] += 1
        if self._taken[slot.start] >= self.settings.seats_per_slot:
            self._full += 1

    def free(self) -> int:
        """Seats free in slots to come."""
        seats = self.settings.seats_per_slot
        return sum(seats - self._taken[start] for start in self._starts[self._first_to_come() :])

    def taken_per_slot_max(self) -> int:
        """Most seats taken in one slot."""
        return max(self._taken.values(), default=0)

    def _make_grid(self) -> None:
        settings, zone = self.settings, ZoneInfo(self.timezone)
        if settings.slots is not None:
            self._slots = listed_slots(settings.slots, zone=zone)
            self._grid_ends = float("inf")
        else:
            today = datetime.fromtimestamp(self.now(), zone).date()
            self._slots = daily_slots(
                today,
                days=settings.days,
                opens=settings.opens,
                closes=settings.closes,
                slot_minutes=settings.slot_minutes,
                zone=zone,
            )
            self._grid_ends = datetime.combine(today + timedelta(days=1), time_of_day(), zone).timestamp()
        self._starts = [slot.start for slot in self._slots]
        self._by_text = {slot.text: slot for slot in self._slots}
        self._cached = None

    def _first_to_come(self) -> int:
        """Index of the first slot that is not past; on a new day the grid moves on first."""
        now = self.now()
        if now >= self._grid_ends:
            self._make_grid()
        return bisect_right(self._starts, now)

    def _availability(self, first: int) -> bytes:
        days: dict[str, list[str]] = {}
        for slot in self._slots[first:]:
            if self._taken[slot.start] < self.settings.seats_per_slot:
                days.setdefault(slot.day, []).append(slot.clock)
        reply = {
            "availability": [{"date": day, "slots": clocks} for day, clocks in days.items()],
            "slotDiff": self.settings.slot_minutes,
            "timezone": self.timezone,
        }
        return json.dumps(reply, separators=(",", ":")).encode()

    def _why_no_slot(self, text: str) -> str:
        try:
            local = parse_time(text)
        except ValueError as error:
            return str(error)
        if local.replace(tzinfo=ZoneInfo(self.timezone)).timestamp() <= self.now():
            return "The selected time is in the past."
        return "The selected time is not an available slot."
