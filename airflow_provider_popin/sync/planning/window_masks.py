"""Which slots a window allows, as one int with a bit per slot: bit 0 is the earliest slot.

Says the same as :meth:`SlotWindow.allows` for every slot, in microseconds instead of milliseconds: the bounds
are found by bisection, hours and weekdays by a table of the slots' local times that is made once per
timezone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime, time
from itertools import accumulate
from operator import or_

from airflow_provider_popin.client.slots import load_timezone
from airflow_provider_popin.client.windows import SlotWindow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WindowMasks:
    """The slots of one calendar, ready to be asked about many windows.

    :param starts: aware start times, strictly ascending
    :param seller_timezone: IANA name that windows without a timezone are told in
    :raises ValueError: the start times do not ascend
    """

    def __init__(self, starts: Sequence[datetime], seller_timezone: str) -> None:
        # Distances from the epoch compare without a look at the timezone of either side.
        self._starts = starts
        self._instants = [start - _EPOCH for start in starts]
        if any(first >= second for first, second in zip(self._instants, self._instants[1:], strict=False)):
            raise ValueError("slots must ascend by start time, none twice")
        self._seller_timezone = seller_timezone
        self._all = (1 << len(starts)) - 1
        self._clocks: dict[str, _Clock] = {}

    def mask(self, window: SlotWindow) -> int:
        """The slots that a window allows.

        :param window: any window
        :return: bit i is set when the window allows slot i
        """
        allowed = self._all
        if window.latest is not None:
            allowed = (1 << bisect_left(self._instants, window.latest - _EPOCH)) - 1
        if window.earliest is not None:
            first = bisect_left(self._instants, window.earliest - _EPOCH)
            allowed = allowed >> first << first
        if allowed and (window.hours is not None or window.weekdays is not None):
            clock = self._clock(window.timezone or self._seller_timezone)
            if window.hours is not None:
                allowed &= clock.between(*window.hours)
            if window.weekdays is not None:
                allowed &= clock.on(window.weekdays)
        return allowed

    def _clock(self, timezone: str) -> _Clock:
        if timezone not in self._clocks:
            zone = load_timezone(timezone)
            self._clocks[timezone] = _Clock([start.astimezone(zone) for start in self._starts])
        return self._clocks[timezone]


class _Clock:
    """The slots by local time of day and by local weekday, in one timezone."""

    def __init__(self, local: Sequence[datetime]) -> None:
        by_time: dict[time, int] = {}
        self._by_weekday = [0] * 7
        for index, start in enumerate(local):
            moment = start.time()
            by_time[moment] = by_time.get(moment, 0) | 1 << index
            self._by_weekday[start.weekday()] |= 1 << index
        self._times = sorted(by_time)
        # Entry i holds the slots at the first i times of day, so that two entries bound a stretch.
        self._until = list(accumulate((by_time[moment] for moment in self._times), or_, initial=0))

    def between(self, first: time, end: time) -> int:
        after_first = self._until[-1] ^ self._until[bisect_left(self._times, first)]
        before_end = self._until[bisect_left(self._times, end)]
        return after_first & before_end if first < end else after_first | before_end

    def on(self, weekdays: frozenset[int]) -> int:
        allowed = 0
        for weekday in weekdays:
            allowed |= self._by_weekday[weekday]
        return allowed
