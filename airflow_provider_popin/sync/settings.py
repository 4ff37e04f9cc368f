"""What a run is asked to do, checked before it does anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from airflow_provider_popin.client.config import (
    DEFAULT_CONCURRENCY,
    DEFAULT_RATE,
    concurrency_problem,
    rate_problem,
)
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.windows import check_order
from airflow_provider_popin.sync.source.source_name import check_source
from airflow_provider_popin.sync.source.watermark_settings import WatermarkSettings

STEPS = (("capture", "schedule"), ("capture",), ("schedule",))
ON_IN_DOUBT = ("hold", "resend")
# Far beyond, now and the notice together would be no date any more.
_LONGEST_NOTICE = timedelta(days=3653)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSettings:
    """One bulk job, as design and ``PopinLeadSyncOperator`` describe it.

    :param source: stable name of where the leads come from, part of every lead's identity
    :param field_map: target field to source column or columns; None takes columns of the same name
    :param steps: ``("capture", "schedule")``, ``("capture",)`` or ``("schedule",)``
    :param calls_per_slot: how many calls of this account may start at one time
    :param min_notice: how long before its start a slot may still be booked
    :param earliest: no call before this instant (aware)
    :param latest: no call at or after this instant (aware)
    :param hours: local times of day, from and to
    :param default_region: ISO region of phone numbers without a country
    :param drop_phone_extension: drop extensions instead of rejecting the number
    :param max_concurrency: requests under way at once, within the bounds of the connection's
    :param requests_per_second: client-side limit, 0 for none, within the bounds of the connection's
    :param limit: send at most this many leads, in source order
    :param dry_run: validate, plan and report only
    :param carry_over: book captured, unbooked leads even when they are absent from the read
    :param max_rejected_ratio: share of rejected rows above which the run is a failure, from 20 attempted on
    :param max_in_doubt: bookings that may become in doubt before no further booking starts
    :param on_in_doubt: ``hold`` keeps the promise; ``resend`` sends a booking in doubt again in a later run
    :param watermark: read only what is new, changed or unfinished
    :raises PopinInputError: a value is of the wrong type or out of range
    """

    source: str
    field_map: Mapping[str, str | Sequence[str]] | None = None
    steps: Sequence[str] = ("capture", "schedule")
    calls_per_slot: int = 1
    min_notice: timedelta = timedelta(minutes=30)
    earliest: datetime | None = None
    latest: datetime | None = None
    hours: tuple[time, time] | None = None
    default_region: str | None = None
    drop_phone_extension: bool = False
    max_concurrency: int = DEFAULT_CONCURRENCY
    requests_per_second: float = DEFAULT_RATE
    limit: int | None = None
    dry_run: bool = False
    carry_over: bool = False
    max_rejected_ratio: float = 0.2
    max_in_doubt: int = 0
    on_in_doubt: str = "hold"
    watermark: WatermarkSettings | None = None

    def __post_init__(self) -> None:
        check_source(self.source)
        steps: object = self.steps
        _check(isinstance(steps, list | tuple) and tuple(steps) in STEPS, "steps", f"must be one of {STEPS}")
        _check(self.on_in_doubt in ON_IN_DOUBT, "on_in_doubt", f"must be one of {ON_IN_DOUBT}")
        _check(isinstance(self.min_notice, timedelta), "min_notice", "must be a timedelta")
        _check(timedelta(0) <= self.min_notice <= _LONGEST_NOTICE, "min_notice", "must be from 0 to 10 years")
        check_order(self.earliest, self.latest)
        _check(_is_share(self.max_rejected_ratio), "max_rejected_ratio", "must be a number from 0 to 1")
        # As the connection's are: when the Dag is parsed, no connection is there to say no.
        for name, find in (("requests_per_second", rate_problem), ("max_concurrency", concurrency_problem)):
            problem = find(getattr(self, name))
            _check(problem is None, name, problem or "")
        for name, least in (("calls_per_slot", 1), ("max_in_doubt", 0)):
            _check(_is_count(getattr(self, name), least), name, f"must be a whole number from {least}")
        for name in ("drop_phone_extension", "dry_run", "carry_over"):
            # The text "False" would be true.
            _check(isinstance(getattr(self, name), bool), name, "must be True or False")
        _check(self.limit is None or _is_count(self.limit, 0), "limit", "must be a whole number or None")

    @property
    def captures(self) -> bool:
        """Whether leads that are not registered at Popin yet are."""
        return "capture" in self.steps

    @property
    def books(self) -> bool:
        """Whether calls are scheduled, not only leads captured."""
        return "schedule" in self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Which try of which task this is.

    :param dag_run: the same for all tries: ``<dag_id>/<run_id>/<task_id>``, with ``/<map_index>`` if mapped
    :param try_number: from 1
    :param task: the same for all Dag runs: ``<dag_id>/<task_id>``, with ``/<map_index>`` if mapped
    """

    dag_run: str
    try_number: int = 1
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known outside the ledger about earlier runs, to notice a ledger that was lost.

    :param earlier_try: an earlier try of this task that was no dry run is known, whatever its state
    :param reports: ``ledger_id``, ``ledger_sequence`` and ``ledger_time`` of earlier reports that can be seen
    """

    earlier_try: bool = False
    reports: Sequence[Mapping[str, object]] = ()


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _check(holds: bool, name: str, text: str) -> None:
    if not holds:
        raise PopinInputError(text, code="setting_invalid", field=name)
