"""The event trigger that starts a Dag when there is something to book. It only GETs.

Needs Airflow 3.0 or newer for ``AssetWatcher``; on 2.11 the module imports, and nothing can use it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from airflow.providers.common.compat.triggers import BaseEventTrigger
from airflow.triggers.base import TriggerEvent

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.client.windows import SlotWindow, check_order, described, open_slots
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.operators.templated import (
    optional_hours,
    optional_instant,
    optional_text,
    optional_weekdays,
    positive_int,
    required_text,
)
from airflow_provider_popin.triggers._cursor import Cursor
from airflow_provider_popin.triggers._looks import Look, looks
from airflow_provider_popin.triggers._told_slots import news

# An event is kept in Airflow's database, with every Dag run that it starts.
MOST_SLOTS_IN_AN_EVENT: Final = 1_000
_CLASS_PATH: Final = "airflow_provider_popin.triggers.slots_open.PopinSlotsOpenTrigger"
# What decides about telling; the others may change without telling everything anew.
_FILTERS: Final = ("min_slots", "min_notice_minutes", "earliest", "latest", "hours", "weekdays", "timezone")


class SlotsOpenArgumentError(PopinInputError, TypeError):
    """An argument of :class:`PopinSlotsOpenTrigger` cannot be used.

    A ``TypeError``, because that is what Airflow's triggerer survives when it makes a trigger anew, for
    example where a timezone is not known.
    """


class PopinSlotsOpenTrigger(BaseEventTrigger):
    """Tell when slots open up that were not there at the last look; for ``AssetWatcher``, Airflow 3.0+.

    The first look tells of all slots that are open. After that, a slot is told when it was not open at the
    look before, and again when it is still open after 60 minutes. One look gives one event at most::

        {"slots": [{"time": Popin's string, "start": ISO 8601 in UTC, "timezone": ...}, ...], "count": 12,
         "popin_conn_id": "popin_default"}

    ``slots`` are the soonest ``max_slots`` of the ``count`` that opened up; what it looks at are the 5,000
    soonest. A free slot is no reservation. Airflow joins events that come close together into one Dag run.

    It never ends and never raises. What fails is tried again later and later, after 15 minutes at most (at
    once so late when a person must mend it), and is logged once per change of the cause.

    On Airflow 3.3 and newer, triggers of one connection and ``poll_interval`` share one request, and what was
    told is kept in the asset's state, before it is told: an event may get lost with a triggerer that dies,
    and is not told twice. Before 3.3 a restart of the triggerer tells of all open slots once more.

    :param popin_conn_id: id of a connection of type ``popin``.
    :param poll_interval: seconds between two looks, 1 to 86,400.
    :param min_slots: how many slots must be open, as in ``PopinSlotAvailabilitySensor``; with fewer of them
        nothing is told.
    :param max_slots: how many slots an event names at most, up to 1,000.
    :param min_notice_minutes: slots that begin sooner do not count; the default is the one of
        ``PopinLeadSyncOperator``, which could not book them.
    :param earliest: first instant that counts: an aware datetime or ISO 8601 text with an offset.
    :param latest: the instant from which on it is too late, given likewise.
    :param hours: local times of day that count, as for the sensor.
    :param weekdays: days that count, as for the sensor.
    :param timezone: IANA name that hours and weekdays are told in; None is the seller's.
    :raises SlotsOpenArgumentError: when the Dag is parsed: an argument cannot be used.
    """

    def __init__(
        self,
        *,
        popin_conn_id: str = PopinHook.default_conn_name,
        poll_interval: float = 60.0,
        min_slots: int = 1,
        max_slots: int = 100,
        min_notice_minutes: float = 30.0,
        earliest: datetime | str | None = None,
        latest: datetime | str | None = None,
        hours: tuple[time | str, time | str] | Sequence[str] | str | None = None,
        weekdays: Sequence[int | str] | str | None = None,
        timezone: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        try:
            self.popin_conn_id = required_text(popin_conn_id, "popin_conn_id")
            self.poll_interval = _number(poll_interval, "poll_interval", 1.0, 86_400.0)
            self.min_notice_minutes = _number(min_notice_minutes, "min_notice_minutes", 0.0, 525_600.0)
            self.min_slots = positive_int(min_slots, "min_slots")
            self.max_slots = positive_int(max_slots, "max_slots")
            _number(self.max_slots, "max_slots", 1, MOST_SLOTS_IN_AN_EVENT)
            self._window = SlotWindow(
                earliest=_instant(earliest, "earliest"),
                latest=_instant(latest, "latest"),
                hours=optional_hours(hours, "hours"),
                weekdays=optional_weekdays(weekdays, "weekdays"),
                timezone=optional_text(timezone, "timezone"),
            )
            check_order(self._window.earliest, self._window.latest)
        except PopinInputError as error:
            raise SlotsOpenArgumentError(error.reason, code=error.code, field=error.field) from error

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: JSON values, the same however they were written."""
        return (
            _CLASS_PATH,
            {
                "popin_conn_id": self.popin_conn_id,
                "poll_interval": self.poll_interval,
                "min_slots": self.min_slots,
                "max_slots": self.max_slots,
                "min_notice_minutes": self.min_notice_minutes,
                **self._window.to_json(),
            },
        )

    def shared_stream_key(self) -> Hashable | None:
        """Return what triggers must have in common to share their looks. Airflow 3.3+."""
        return (_CLASS_PATH, self.popin_conn_id, self.poll_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncGenerator[Look, None]:
        """Look for ever. Airflow 3.3+ calls it once for all triggers of one key.

        :param kwargs: of one of them; only what is in the key counts.
        """
        async with aclosing(looks(kwargs["popin_conn_id"], kwargs["poll_interval"])) as stream:
            async for look in stream:
                yield look

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[Any]
    ) -> AsyncGenerator[TriggerEvent, None]:
        """Turn looks into events of this trigger.

        :param shared_stream: what :meth:`open_shared_stream` yields.
        """
        store = getattr(self, "asset_state_store", None)  # Airflow 3.3+
        cursor = Cursor(store, key=self._cursor_key())
        async for look in shared_stream:
            if (told := await cursor.read()) is None:
                continue
            now = _now()
            opened, after = news(
                told,
                account=look.account,
                timezone=look.calendar.timezone,
                slots=open_slots(look.calendar, self._window, after=now + self._notice),
                now=now.timestamp(),
                min_slots=self.min_slots,
            )
            # Before the event leaves: what may get lost is told again in an hour, what is told twice starts a
            # Dag for nothing.
            await cursor.advance(after)
            if opened:
                yield TriggerEvent(self._payload(look, opened))  # type: ignore[no-untyped-call]

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Look and tell, without sharing: before Airflow 3.3, and in tests."""
        _, kwargs = self.serialize()
        async with (
            aclosing(type(self).open_shared_stream(kwargs)) as stream,
            aclosing(self.filter_shared_stream(stream)) as events,
        ):
            async for event in events:
                yield event

    @property
    def _notice(self) -> timedelta:
        return timedelta(minutes=self.min_notice_minutes)

    def _cursor_key(self) -> str:
        """Name the cursor in the asset's state, which all watchers of the asset use."""
        _, kwargs = self.serialize()
        filters = json.dumps([kwargs[name] for name in _FILTERS])
        return f"popin_slots_open/{self.popin_conn_id}/{hashlib.sha256(filters.encode()).hexdigest()[:16]}"

    def _payload(self, look: Look, opened: Sequence[Slot]) -> dict[str, object]:
        return {
            "slots": described(opened[: self.max_slots], look.calendar.timezone),
            "count": len(opened),
            "popin_conn_id": self.popin_conn_id,
        }


def _number(value: object, field: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise PopinInputError(f"must be a number from {least:g} to {most:g}", code="not_number", field=field)
    return float(value)


def _instant(value: object, field: str) -> datetime | None:
    """Return an instant in UTC, so that one instant is one argument to Airflow."""
    instant = optional_instant(value, field)
    return instant.astimezone(UTC) if instant else None


def _now() -> datetime:
    return datetime.now(UTC)
