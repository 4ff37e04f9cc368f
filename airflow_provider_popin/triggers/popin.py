"""The trigger behind the deferrable sensor. It only GETs, and never blocks the triggerer's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_popin.client.errors import (
    PopinAccessError,
    PopinConfigError,
    PopinError,
    PopinInputError,
)
from airflow_provider_popin.client.slots import log_skipped
from airflow_provider_popin.client.windows import SlotWindow, available_slots
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.operators.failures import task_error

if TYPE_CHECKING:
    from airflow_provider_popin.client.async_sender import AsyncSender
    from airflow_provider_popin.client.config import ClientConfig

# A sensor may be told to poke without a pause; the triggerer serves others too.
_SHORTEST_PAUSE: Final = 0.05


class PopinSlotAvailabilityTrigger(BaseTrigger):
    """Wait until enough slots are free; then, or when it has to give up, send one event and end.

    The event is one of::

        {"status": "success", "slots": [{"time": ..., "start": ..., "timezone": ...}, ...]}
        {"status": "timeout"}
        {"status": "error", "reason": "...", "retry": true}

    All arguments are JSON values, and none is a secret: credentials stay in the connection.

    :param popin_conn_id: id of a connection of type ``popin``.
    :param deadline: when to give up, ISO 8601 with an offset; absolute, so that a restart of the triggerer
        does not prolong it.
    :param poke_interval: seconds between two looks.
    :param min_slots: how many slots must be free.
    :param max_slots: how many to report at most.
    :param earliest: first instant that counts, ISO 8601 with an offset.
    :param latest: the instant from which on it is too late, ISO 8601 with an offset.
    :param hours: two local times of day, ``["10:00:00", "18:00:00"]``.
    :param weekdays: numbers of weekdays, Monday is 0.
    :param timezone: IANA name that hours and weekdays are told in; None is the seller's.
    :param max_failures: after so many failed looks in a row it gives up; 0 means never. A refused key ends
        it at once unless the connection was changed meanwhile, an unusable connection in any case.
    """

    def __init__(
        self,
        *,
        popin_conn_id: str,
        deadline: str,
        poke_interval: float,
        min_slots: int = 1,
        max_slots: int = 100,
        earliest: str | None = None,
        latest: str | None = None,
        hours: Sequence[str] | None = None,
        weekdays: Sequence[int] | None = None,
        timezone: str | None = None,
        max_failures: int = 5,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.popin_conn_id = popin_conn_id
        self.deadline = deadline
        self.poke_interval = poke_interval
        self.min_slots = min_slots
        self.max_slots = max_slots
        self.earliest = earliest
        self.latest = latest
        self.hours = hours
        self.weekdays = weekdays
        self.timezone = timezone
        self.max_failures = max_failures

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as Airflow stores them."""
        return (
            "airflow_provider_popin.triggers.popin.PopinSlotAvailabilityTrigger",
            {
                "popin_conn_id": self.popin_conn_id,
                "deadline": self.deadline,
                "poke_interval": self.poke_interval,
                "min_slots": self.min_slots,
                "max_slots": self.max_slots,
                "earliest": self.earliest,
                "latest": self.latest,
                "hours": list(self.hours) if self.hours is not None else None,
                "weekdays": list(self.weekdays) if self.weekdays is not None else None,
                "timezone": self.timezone,
                "max_failures": self.max_failures,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look for slots until there are enough, and say so in one event."""
        # Whatever hangs, the deadline holds. The event leaves after that: while it is being taken, a deadline
        # would cancel the task of whoever takes it.
        try:
            async with asyncio.timeout(self._seconds_left()):
                event = await self._wait()
        except TimeoutError:
            event = {"status": "timeout"}
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, object]:
        from airflow_provider_popin.client.async_sender import AsyncSender

        refused: tuple[ClientConfig, PopinAccessError] | None = None
        try:
            while True:
                config = await PopinHook(popin_conn_id=self.popin_conn_id).get_async_config()
                if refused is not None and config == refused[0]:
                    raise refused[1]
                try:
                    async with AsyncSender(config) as sender:
                        return await self._look_until_found(sender, config)
                except PopinAccessError as error:
                    # It may wait for days, and the key may have been changed meanwhile.
                    refused = config, error
        except AirflowNotFoundException as error:
            return _failure(error, retry=False)
        except (PopinAccessError, PopinConfigError, PopinInputError) as error:
            # Also what is only wrong here: the triggerer's machine may lack the CA bundle, or the timezone.
            return _failure(task_error(error, conn_id=self.popin_conn_id), retry=False)

    async def _look_until_found(self, sender: AsyncSender, config: ClientConfig) -> dict[str, object]:
        from airflow_provider_popin.client.client import fetch_calendar

        window, failures = self._window(), 0
        while True:
            try:
                calendar = await fetch_calendar(sender, config)
            except PopinAccessError:
                raise
            except PopinError as error:
                failures += 1
                self.log.warning("Look number %d in a row failed: %s", failures, error)
                if failures == self.max_failures:
                    return _failure(task_error(error, conn_id=self.popin_conn_id), retry=True)
            else:
                failures = 0
                log_skipped(self.log, calendar)
                found = available_slots(
                    calendar,
                    window,
                    now=datetime.now(UTC),
                    min_slots=self.min_slots,
                    max_slots=self.max_slots,
                )
                if found is not None:
                    return {"status": "success", "slots": found}
            await asyncio.sleep(max(self.poke_interval, _SHORTEST_PAUSE))

    def _window(self) -> SlotWindow:
        hours = [time.fromisoformat(text) for text in self.hours] if self.hours is not None else None
        return SlotWindow(
            earliest=datetime.fromisoformat(self.earliest) if self.earliest else None,
            latest=datetime.fromisoformat(self.latest) if self.latest else None,
            hours=(hours[0], hours[1]) if hours is not None else None,
            weekdays=frozenset(self.weekdays) if self.weekdays is not None else None,
            timezone=self.timezone,
        )

    def _seconds_left(self) -> float:
        return (datetime.fromisoformat(self.deadline) - datetime.now(UTC)).total_seconds()


def _failure(error: Exception, *, retry: bool) -> dict[str, object]:
    return {"status": "error", "reason": str(error), "retry": retry}
