"""A sensor for free slots: poke, reschedule and deferrable, one rule and one return value for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_popin.client.errors import PopinError, PopinInputError
from airflow_provider_popin.client.windows import SlotWindow, available_slots, check_order
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.operators.failures import task_error
from airflow_provider_popin.operators.templated import (
    argument_error,
    optional_hours,
    optional_instant,
    optional_text,
    optional_weekdays,
    positive_int,
)
from airflow_provider_popin.triggers.popin import PopinSlotAvailabilityTrigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

# The trigger keeps the deadline itself; Airflow's own timeout is for a triggerer that is dead, and must not
# win.
_GRACE: Final = timedelta(seconds=60)
# A hundred years: a moment beyond the year 9999 has no date.
_LONGEST_WAIT_SECONDS: Final = 36_500 * 86_400.0
_SLOT_KEYS: Final = frozenset({"time", "start", "timezone"})


class PopinSlotAvailabilitySensor(BaseSensorOperator):
    """Wait until enough slots are free, and return them, soonest first.

    It times out when ``timeout`` is over, or when ``latest`` has come: from then on waiting is of no use.

    Returns ``[{"time": "Thu, 25 Sep 2025 03:15 PM", "start": ISO 8601 in UTC, "timezone": IANA name}, ...]``;
    ``time`` is what ``PopinScheduleOperator`` takes. A free slot is no reservation: it may be gone when it is
    booked.

    All arguments below but ``deferrable`` and ``max_failures`` are templated; text does for each of them.

    :param popin_conn_id: id of a connection of type ``popin``.
    :param min_slots: how many slots must be free.
    :param earliest: first instant that counts: an aware datetime or ISO 8601 text with an offset.
    :param latest: the instant from which on it is too late, given likewise.
    :param weekdays: days that count: English names (``"Mon"``, ``"monday"``) or numbers from 0 for Monday, as
        a list or as one text with commas.
    :param hours: local times of day that count, from (included) and to (not included): times or texts like
        ``("10:00", "18:00")``, or one text ``"10:00-18:00"``; from later than to goes over midnight.
    :param timezone: IANA name that hours and weekdays are told in; None is the seller's.
    :param max_slots: how many slots to return at most.
    :param deferrable: wait in the triggerer instead of in a worker. It looks once before it defers; then
        every ``poke_interval`` (``exponential_backoff`` and ``mode`` do not apply), and gives up after
        ``max_failures``.
    :param max_failures: deferrable only: failed looks in a row after which the task fails with the cause.
        With 0, or with ``silent_fail``, it never gives up before ``timeout``.
    :raises PopinInputError: when the Dag is parsed: ``max_failures`` is no whole number from 0, or
        ``deferrable`` neither True nor False.
    """

    template_fields: Sequence[str] = (
        "popin_conn_id",
        "min_slots",
        "earliest",
        "latest",
        "weekdays",
        "hours",
        "timezone",
        "max_slots",
    )

    def __init__(
        self,
        *,
        popin_conn_id: str = PopinHook.default_conn_name,
        min_slots: int | str = 1,
        earliest: datetime | str | None = None,
        latest: datetime | str | None = None,
        weekdays: Sequence[int | str] | str | None = None,
        hours: tuple[time | str, time | str] | str | None = None,
        timezone: str | None = None,
        max_slots: int | str = 100,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_failures: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if type(max_failures) is not int or max_failures < 0:
            # The trigger would count to it and never be there.
            raise argument_error("max_failures", "must be a whole number from 0")
        if type(deferrable) is not bool:
            # The text "False" would count as true.
            raise argument_error("deferrable", "must be True or False")
        self.popin_conn_id = popin_conn_id
        self.min_slots = min_slots
        self.earliest = earliest
        self.latest = latest
        self.weekdays = weekdays
        self.hours = hours
        self.timezone = timezone
        self.max_slots = max_slots
        self.deferrable = deferrable
        self.max_failures = max_failures

    @property
    def hook(self) -> PopinHook:
        """A hook for the connection."""
        return PopinHook(popin_conn_id=self.popin_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once. A deferrable sensor that does not find enough goes on waiting in the triggerer.

        :param context: the task's context; not used.
        """
        # Deferring here and not in execute leaves soft_fail, never_fail and silent_fail to Airflow for the
        # first look too, so that they mean the same in every mode.
        try:
            window, least, most = self._window(), *self._limits()
            self._end_if_too_late(window.latest)
            with self.hook as hook:
                calendar = hook.get_slots()
        except PopinError as error:
            raise task_error(error, conn_id=self.popin_conn_id) from error
        found = available_slots(calendar, window, now=datetime.now(UTC), min_slots=least, max_slots=most)
        if found is None and self.deferrable:
            self._defer(window, least, most)
        return PokeReturnValue(is_done=found is not None, xcom_value=found)

    def execute_complete(self, context: Context, event: object = None) -> list[dict[str, str]]:
        """Take up the task when the trigger has sent its event.

        :param context: the task's context; not used.
        :param event: see :class:`PopinSlotAvailabilityTrigger`.
        :return: the slots, as in the other modes.
        """
        status = event.get("status") if isinstance(event, Mapping) else None
        if isinstance(event, Mapping) and status == "success":
            return _slots_of(event)
        if status == "timeout":
            self._end_if_too_late(optional_instant(self.latest, "latest"))
            raise AirflowSensorTimeout(
                f"Sensor has timed out; fewer slots than asked for in {self.timeout} s"
            )
        if isinstance(event, Mapping) and status == "error" and isinstance(event.get("reason"), str):
            self._fail(event["reason"], retry=event.get("retry") is True)
        # No AirflowException: with soft_fail Airflow would make a skipped task of it.
        raise RuntimeError("The trigger sent no event that this sensor understands")

    def _fail(self, reason: str, *, retry: bool) -> None:
        """Fail as a failed look in the other modes does."""
        if self.never_fail:  # Airflow 2 does not ask for it when a task is resumed
            raise AirflowSkipException("Skipping due to never_fail is set to True.")
        if not retry:
            raise AirflowFailException(reason)
        raise PopinError(reason)

    def _end_if_too_late(self, latest: datetime | None) -> None:
        if latest is not None and latest <= datetime.now(UTC):
            raise AirflowSensorTimeout(
                f"Sensor has timed out; latest has passed ({latest.isoformat()}): no slot before it can come"
            )

    def _defer(self, window: SlotWindow, min_slots: int, max_slots: int) -> None:
        timeout = timedelta(seconds=min(_LONGEST_WAIT_SECONDS, self.timeout))
        deadline = datetime.now(UTC) + timeout
        if window.latest is not None:
            deadline = min(deadline, window.latest)
        self.defer(
            trigger=PopinSlotAvailabilityTrigger(
                popin_conn_id=self.popin_conn_id,
                deadline=deadline.isoformat(),
                poke_interval=self.poke_interval,
                min_slots=min_slots,
                max_slots=max_slots,
                max_failures=0 if self.silent_fail else self.max_failures,
                **window.to_json(),
            ),
            method_name="execute_complete",
            timeout=timeout + _GRACE,
        )

    def _window(self) -> SlotWindow:
        earliest = optional_instant(self.earliest, "earliest")
        latest = optional_instant(self.latest, "latest")
        check_order(earliest, latest)
        return SlotWindow(
            earliest=earliest,
            latest=latest,
            hours=optional_hours(self.hours, "hours"),
            weekdays=optional_weekdays(self.weekdays, "weekdays"),
            timezone=optional_text(self.timezone, "timezone"),
        )

    def _limits(self) -> tuple[int, int]:
        least, most = positive_int(self.min_slots, "min_slots"), positive_int(self.max_slots, "max_slots")
        if most < least:
            raise PopinInputError("must not be less than min_slots", code="max_below_min", field="max_slots")
        return least, most


def _slots_of(event: Mapping[str, object]) -> list[dict[str, str]]:
    """Return the slots of an event, after a check that it is one of ours."""
    slots = event.get("slots")
    if not isinstance(slots, list) or not slots:
        raise RuntimeError("The trigger's event holds no slots")
    for slot in slots:
        if not isinstance(slot, dict) or set(slot) != _SLOT_KEYS:
            raise RuntimeError("The trigger's event holds a malformed slot")
        if not all(isinstance(value, str) for value in slot.values()):
            raise RuntimeError("The trigger's event holds a malformed slot")
    return slots
