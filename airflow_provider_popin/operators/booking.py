"""Booking one call: the same request, protected by the ledger or by what Airflow keeps between tries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_popin.client.errors import (
    PopinAccessError,
    PopinConfigError,
    PopinError,
    PopinInputError,
    PopinNotSentError,
    PopinRateLimitError,
    PopinRejectedError,
)
from airflow_provider_popin.operators.failures import is_final, ledger_error, task_error, with_connections
from airflow_provider_popin.operators.intent import booking_intent
from airflow_provider_popin.sync.errors import SyncError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_popin.client.models import ScheduledCall, Slot
    from airflow_provider_popin.hooks.popin import PopinHook
    from airflow_provider_popin.sync.ledger.ledger import Ledger

# After one of these it is certain that no call was booked. Everything else, known or not, leaves it open.
_NOTHING_BOOKED = (
    PopinConfigError,
    PopinInputError,
    PopinNotSentError,
    PopinRateLimitError,
    PopinAccessError,
    PopinRejectedError,
)


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of a booking, checked; all but ``time``, which takes a request to check."""

    customer_id: str
    time: str | datetime
    agent: int | None
    native: bool | None
    url: str | None


@dataclass(frozen=True, slots=True)
class LedgerLead:
    """Who a lead is in a ledger."""

    ledger_conn_id: str
    source: str
    lead_id: str

    @property
    def resolve_command(self) -> str:
        """The command by which a person ends the doubt about this lead's booking."""
        from airflow_provider_popin.sync.single import resolve_command

        command = resolve_command(self.source, self.lead_id)
        return with_connections(command, ledger_conn_id=self.ledger_conn_id)


@dataclass(frozen=True, slots=True)
class Booked:
    """A call that Popin confirmed."""

    wish: Wish
    slot: Slot
    timezone: str
    call: ScheduledCall

    @property
    def other_time(self) -> str | None:
        """The time that Popin confirmed, with its timezone, if it is readable and not the one asked for."""
        return f"{self.call.time!r} ({self._confirmed_timezone})" if self._matches is False else None

    @property
    def is_incomplete(self) -> bool:
        """Whether Popin's confirmation lacks parts, or names a time that cannot be read."""
        return self.call.incomplete or (self.call.time is not None and self._matches is None)

    @property
    def _confirmed_timezone(self) -> str:
        return self.call.timezone or self.timezone

    @property
    def _matches(self) -> bool | None:
        from airflow_provider_popin.client.slots import reply_matches_slot

        return reply_matches_slot(self.call.time, self._confirmed_timezone, self.slot)


def book_with_intent(hook: PopinHook, wish: Wish, context: Context) -> Booked:
    """Book without a ledger; protected against retries only, see :mod:`.intent`.

    :param hook: the hook to send with.
    :param wish: what to book.
    :param context: the task's context.
    :raises AirflowFailException: an earlier try may have booked it.
    :raises PopinError: one of its subclasses says what happened.
    """
    intent = booking_intent(context)
    intent.check()
    try:
        slot, timezone = hook.find_slot(wish.time)
        intent.record(account=hook.config.account_key, customer_id=wish.customer_id, slot=slot)
        call = hook.client.schedule(
            wish.customer_id, slot.time, agent=wish.agent, native=wish.native, url=wish.url
        )
    except PopinError as error:
        if isinstance(error, _NOTHING_BOOKED):
            intent.withdraw()
        if intent.can_retry or is_final(error):
            raise
        hint = "It is not retried, for before Airflow 3.3 and without a ledger only a first try sends"
        raise task_error(error, conn_id=hook.popin_conn_id, hint=hint, final=True) from error
    return Booked(wish, slot, timezone, call)


def book_with_ledger(hook: PopinHook, wish: Wish, lead: LedgerLead, context: Context) -> Booked:
    """Book through the ledger of the bulk job, which keeps its promise here too.

    :param hook: the hook to send with.
    :param wish: what to book.
    :param lead: who it is for.
    :param context: the task's context.
    :raises PopinError: one of its subclasses says what happened.
    :raises AirflowException: the ledger forbids it or cannot be used; final where a person must act.
    """
    from airflow_provider_popin.hooks.ledger import open_ledger

    try:
        ledger = open_ledger(lead.ledger_conn_id)
        try:
            # Before the request for the slots, which may fail: a retry must not find an unknown source.
            _guard_source(ledger, hook.config.account_key, lead.source, context)
            return _book_one(hook, wish, ledger, lead, context)
        finally:
            ledger.engine.dispose()
    except SyncError as error:
        raise ledger_error(
            error, ledger_conn_id=lead.ledger_conn_id, popin_conn_id=hook.popin_conn_id
        ) from error


def _guard_source(ledger: Ledger, account: str, source: str, context: Context) -> None:
    """Register the source, or refuse a ledger that does not know it although this task ran before."""
    from airflow_provider_popin.operators._earlier_runs import look_back
    from airflow_provider_popin.sync.ledger.guards import guard_source
    from airflow_provider_popin.sync.ledger.schema import sources
    from airflow_provider_popin.sync.settings import Prior

    with ledger.read() as connection:
        known = connection.execute(sources.select().where(sources.c.source == source)).first() is not None
    # Looking back asks Airflow about every earlier run, which is too much to do for every booking.
    prior = Prior() if known else look_back(context["ti"])
    with ledger.write() as connection:
        guard_source(connection, ledger, account=account, source=source, lead_id_column=None, prior=prior)


def _book_one(hook: PopinHook, wish: Wish, ledger: Ledger, lead: LedgerLead, context: Context) -> Booked:
    from airflow_provider_popin.operators._run_identity import run_identity
    from airflow_provider_popin.sync.single import SingleBooking, book_one
    from airflow_provider_popin.webhooks.processing import process_waiting

    slot, timezone = hook.find_slot(wish.time)
    booking = SingleBooking(
        source=lead.source,
        lead_id=lead.lead_id,
        customer_id=wish.customer_id,
        slot=slot,
        timezone=timezone,
        agent=wish.agent,
        native=wish.native,
        url=wish.url,
    )
    # What webhooks told may end a doubt that would hold this booking.
    process_waiting(ledger)
    call = book_one(ledger=ledger, config=hook.config, booking=booking, run=run_identity(context["ti"]))
    return Booked(wish, slot, timezone, call)
