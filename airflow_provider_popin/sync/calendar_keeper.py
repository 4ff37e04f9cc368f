"""The list of free slots, kept fresh while booking. It goes stale by the minute: others book too."""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import UTC, datetime, timedelta

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.client import fetch_calendar
from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinAccessError, PopinError
from airflow_provider_popin.client.models import Calendar, Slot
from airflow_provider_popin.client.slots import log_skipped
from airflow_provider_popin.sync.errors import SyncStoppedError
from airflow_provider_popin.sync.stop_switch import StopSwitch

log = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
# A lead whose booking was refused is still ``sending`` while the list is asked about its slot.
STILL_LISTS_SECONDS = 3.0


class CalendarKeeper:
    """Reads the calendar and remembers which slots turned out to be taken.

    :param sender: the HTTP sender
    :param config: the connection
    :param switch: stopped when Popin refuses us
    :param min_notice: how long before its start a slot may still be booked
    """

    def __init__(
        self,
        *,
        sender: AsyncSender,
        config: ClientConfig,
        switch: StopSwitch,
        min_notice: timedelta,
    ) -> None:
        self._sender = sender
        self._config = config
        self._switch = switch
        self._min_notice = min_notice
        self._closed: set[datetime] = set()
        self._open: frozenset[datetime] = frozenset()
        self._read_at = -math.inf
        self.calendar: Calendar | None = None

    def age_seconds(self) -> float:
        """How long ago the calendar was asked for; infinite if it never was."""
        return boot_seconds() - self._read_at

    async def refresh(self) -> Calendar:
        """Read the calendar now, under the connection's rate limit.

        :raises PopinError: not to be had, after retries
        :raises SyncStoppedError: the process is about to be killed
        """
        asked_at = boot_seconds()
        calendar = await self._switch.unless_hurried(fetch_calendar(self._sender, self._config))
        if self.calendar is None:
            log_skipped(log, calendar)
        self.calendar = calendar
        self._read_at = asked_at
        self._open = frozenset(slot.start for slot in calendar.slots)
        return calendar

    async def keep_fresh(self) -> None:
        """Read again every minute until cancelled. A read that fails leaves the last list in force."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except PopinAccessError as error:
                self._switch.stop(error)
                return
            except SyncStoppedError:
                return
            except PopinError as error:
                log.warning("The slots could not be read again: %s", error)

    def close(self, slot: Slot) -> None:
        """A slot is taken: nobody else is sent there in this run.

        :param slot: it may still be listed
        """
        self._closed.add(slot.start)

    def bookable(self) -> list[Slot]:
        """Slots that may be planned now: listed, not known as taken, with enough notice."""
        slots = self.calendar.slots if self.calendar is not None else ()
        return [slot for slot in slots if slot.start not in self._closed and self.in_time(slot)]

    def is_bookable(self, slot: Slot, timezone: str) -> bool:
        """Whether a planned slot still stands.

        :param timezone: the seller's timezone when it was planned; another one by now voids the plan
        """
        return (
            self.has_timezone(timezone)
            and slot.start in self._open
            and slot.start not in self._closed
            and self.in_time(slot)
        )

    def has_timezone(self, timezone: str) -> bool:
        """Whether the seller still is in this timezone, by the newest list of slots."""
        return self.calendar is not None and self.calendar.timezone == timezone

    def in_time(self, slot: Slot) -> bool:
        """Whether a slot is still ``min_notice`` away."""
        return slot.start - datetime.now(UTC) >= self._min_notice

    async def still_lists(self, slot: Slot) -> bool:
        """Whether a fresh list has this slot; a list that cannot be had proves nothing and counts as no."""
        try:
            async with asyncio.timeout(STILL_LISTS_SECONDS):
                calendar = await self.refresh()
        except (PopinError, SyncStoppedError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            log.warning("The slots could not be read after a rejection: %s", reason)
            return False
        return any(listed.start == slot.start for listed in calendar.slots)
