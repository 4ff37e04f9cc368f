"""One booking under the ledger's promise, for ``PopinScheduleOperator``, by the rules of the bulk job."""

from __future__ import annotations

import logging
import shlex
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.limits import limiter_for
from airflow_provider_popin.client.models import ScheduledCall, Slot
from airflow_provider_popin.client.outcomes import Outcome, Verdict, classify, error_for
from airflow_provider_popin.client.requests_sender import RequestsSender
from airflow_provider_popin.client.retrying import MAX_RETRY_AFTER_SECONDS
from airflow_provider_popin.sync.errors import LeadHeldError, LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.exchange_loop import LATEST_SEND_SECONDS
from airflow_provider_popin.sync.jobs import BookingJob, Sending
from airflow_provider_popin.sync.ledger import guards, leases, ledger_queries
from airflow_provider_popin.sync.ledger.events import (
    Adopted,
    BookingState,
    CaptureState,
    Claimed,
    Corrected,
    Event,
    Planned,
    Record,
    Settled,
)
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import Prior, RunIdentity

log = logging.getLogger(__name__)

# Until the intent is committed; then the attempt's own deadline counts. It is given back at the end.
_LEASE_SECONDS = 90.0
# An outcome that the unreachable ledger does not take is offered again after these pauses.
KEEP_PAUSES_SECONDS: tuple[float, ...] = (0.1, 0.4, 1.5, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleBooking:
    """What to book.

    :param source: as in the bulk job, where leads of the same source are booked by both
    :param lead_id: the lead's id in its source
    :param customer_id: from the capture
    :param slot: when
    :param timezone: the seller's, from the list of slots
    :param agent: number of the agent
    :param native: False makes the join link ``url``, or the one of the dashboard
    :param url: custom join link
    """

    source: str
    lead_id: str
    customer_id: str = field(repr=False)
    slot: Slot
    timezone: str
    agent: int | None = None
    native: bool | None = None
    url: str | None = field(default=None, repr=False)


def book_one(
    *,
    ledger: Ledger,
    config: ClientConfig,
    booking: SingleBooking,
    run: RunIdentity,
    prior: Prior | None = None,
) -> ScheduledCall:
    """Book one call, unless the ledger says that it may be booked already.

    Booked before for the same time by any task: returns without sending anything, or fails as that task did
    where Popin confirmed another time.

    :param ledger: the ledger, shared with the bulk job
    :param config: the Popin connection
    :param booking: what to book
    :param run: which task try asks
    :param prior: what is known about earlier runs, for the guard against a lost ledger
    :return: Popin's answer; empty where the call was booked before
    :raises LeadHeldError: in doubt, booked or confirmed for another time, under way elsewhere, or another
        lead's customer
    :raises LedgerError: the ledger cannot be used, or must not be
    :raises PopinError: the classes of :mod:`~airflow_provider_popin.client.errors`
    """
    return _Booker(ledger, config, booking, run).book(prior or Prior())


def resolve_command(source: str, lead_id: str) -> str:
    """The command by which a person ends the doubt about a booking, for an error text.

    :param source: of the lead
    :param lead_id: the lead's id there
    """
    return (
        f"`python -m airflow_provider_popin in-doubt resolve --source {shlex.quote(source)} "
        f"--lead {shlex.quote(lead_id)} --outcome booked|not-booked --why TEXT`"
    )


class _Booker:
    def __init__(
        self, ledger: Ledger, config: ClientConfig, booking: SingleBooking, run: RunIdentity
    ) -> None:
        self._ledger = ledger
        self._config = config
        self._booking = booking
        self._account = config.account_key
        self._run = run
        self._sending = Sending(str(uuid.uuid4()), run.dag_run, config.timeout_seconds)

    def book(self, prior: Prior) -> ScheduledCall:
        self._wait_for_permit()
        with self._ledger.write() as connection:
            self._begin(connection, prior)
        with self._ledger.write() as connection:
            job = self._prepare(connection)
        if job is None:
            return ScheduledCall(time=None, timezone=self._booking.timezone, incomplete=False)
        try:
            outcome, settled = self._send(job)
        finally:
            self._end()
        if not isinstance(outcome.value, ScheduledCall):
            raise error_for(outcome, job.request(self._config.postal_code_field))
        if settled.time_mismatch:
            raise self._booked_for_another_time()
        return outcome.value

    def _prepare(self, connection: Connection) -> BookingJob | None:
        """Everything up to the intent: identity, claim and seat. None: booked already."""
        self._refuse_foreign_customer(connection)
        family = self._known(connection)
        start = int(self._booking.slot.start.timestamp())
        booked = [r for r in family if r.booking_state == BookingState.BOOKED and r.slot_start == start]
        if booked:
            if all(r.time_mismatch for r in booked):
                raise self._booked_for_another_time()
            return None
        for each in family:
            # Also an older generation: a new one waits until it is known whether the older has its call.
            self._refuse_unsettled(each)
        record = family[-1]  # the newest generation
        self._refuse_held(record)
        leases.renew_lease(
            connection,
            self._sending.owner,
            self._run.dag_run,
            _LEASE_SECONDS,
            try_number=self._run.try_number,
        )
        self._apply(connection, self._claim(connection, record))
        return self._job(record)

    def _begin(self, connection: Connection, prior: Prior) -> None:
        """What every run does first: the source is registered, and what others left behind is cleared.

        To be committed before anything is refused: a doubt that was found here is one for a person to end.
        """
        guards.guard_source(
            connection,
            self._ledger,
            account=self._account,
            source=self._booking.source,
            lead_id_column=None,
            prior=prior,
        )
        leases.expire(connection, self._ledger, self._account)
        leases.end_leases_of_earlier_tries(connection, self._run.dag_run, self._run.try_number)
        leases.reclaim_planned(connection, self._ledger, self._account, self._sending.run)

    def _job(self, record: Record) -> BookingJob:
        booking = self._booking
        return BookingJob(
            record=record.id,
            lead_id=booking.lead_id,
            attempt=record.attempt,
            customer_id=booking.customer_id,
            slot=booking.slot,
            timezone=booking.timezone,
            agent=booking.agent,
            native=booking.native,
            url=booking.url,
        )

    def _booked_for_another_time(self) -> LeadHeldError:
        return LeadHeldError(
            f"{self._who()} is booked, but Popin confirmed another time than {self._booking.slot.time}: look "
            "the call up in Popin's dashboard",
            retry=False,
        )

    def _refuse_foreign_customer(self, connection: Connection) -> None:
        booking = self._booking
        holders = ledger_queries.holders_of_customers(connection, self._account, [booking.customer_id])
        for source, lead_id in holders.get(booking.customer_id, ()):
            if (source, lead_id) != (booking.source, booking.lead_id):
                raise LeadHeldError(
                    f"the customer_id given for {self._who()} belongs to lead {lead_id!r} of {source!r} in "
                    "the ledger: pass the customer_id that the capture of this lead returned",
                    retry=False,
                )

    def _known(self, connection: Connection) -> Sequence[Record]:
        """All generations of the lead; the first one is made if there is none."""
        booking = self._booking
        if not self._family(connection):
            ledger_queries.insert_leads(
                connection, self._account, booking.source, [{"lead_id": booking.lead_id, "generation": 1}]
            )
        return self._family(connection)

    def _family(self, connection: Connection) -> Sequence[Record]:
        booking = self._booking
        families = ledger_queries.families(
            connection, self._account, booking.source, [booking.lead_id], lock=True
        )
        return families.get(booking.lead_id, [])

    def _refuse_unsettled(self, record: Record) -> None:
        if CaptureState.SENDING in (record.capture_state, record.booking_state):
            raise LeadHeldError(f"{self._who()} is being sent by another task", retry=True)
        if record.booking_state == BookingState.IN_DOUBT:
            raise LeadHeldError(
                f"the booking of {self._who()} is in doubt ({record.reason}), slot {record.slot_time}: "
                "nothing was sent. Find out in Popin's dashboard whether the call exists, then say so with "
                f"{resolve_command(self._booking.source, record.lead_id)}",
                retry=False,
            )

    def _refuse_held(self, record: Record) -> None:
        if record.booking_state == BookingState.BOOKED:
            when = record.slot_time or "a time that was forgotten on request"
            raise LeadHeldError(
                f"{self._who()} is booked for {when} already; a booked call is never moved. To book the same "
                "lead again on purpose, use the bulk job with a higher generation",
                retry=False,
            )
        if record.capture_state == CaptureState.CAPTURED and record.customer_id is None:
            raise LeadHeldError(
                f"{self._who()} was forgotten on request: nothing is sent for it", retry=False
            )
        if record.customer_id not in (None, self._booking.customer_id):
            raise LeadHeldError(
                f"the ledger knows {self._who()} under another customer_id: pass the one that its "
                "capture returned",
                retry=False,
            )

    def _claim(self, connection: Connection, record: Record) -> list[Event]:
        live = leases.live_owners(connection)
        if record.claim_owner in live:
            raise LeadHeldError(f"{self._who()} is held by a bulk run that is under way", retry=True)
        start = int(self._booking.slot.start.timestamp())
        taken = ledger_queries.seats_taken(connection, self._account, [start]).get(start, set())
        # The caller chose the time; whether it has room is Popin's to say, so the first free number is ours.
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        owner, slot = self._sending.owner, self._booking.slot
        events: list[Event] = []
        if CaptureState.REJECTED in (record.capture_state, record.booking_state):
            events.append(Corrected(record.id))
        if record.customer_id is None:
            events.append(Adopted(record.id, self._booking.customer_id, self._sending.run))
        events.append(Claimed(record.id, record.attempt, owner, live, record.wish, record.fingerprint))
        events.append(
            Planned(record.id, record.attempt, owner, start, slot.time, self._booking.timezone, number)
        )
        return events

    def _send(self, job: BookingJob) -> tuple[Outcome, Settled]:
        started = boot_seconds()
        with self._ledger.write() as connection:
            self._apply(connection, [job.intent(self._sending)])
        job.attempt += 1
        try:
            outcome = self._exchange(job, started)
        except BaseException as error:
            # The one boundary round a POST whose intent is committed: whatever happened, it may be out.
            unknown = Outcome(Verdict.UNKNOWN, reason=f"unforeseen {type(error).__name__}")
            self._settle(job.settled(unknown, self._sending))
            raise
        settled = job.settled(outcome, self._sending, taken=self._is_taken(outcome))
        self._settle(settled)
        return outcome, settled

    def _exchange(self, job: BookingJob, started: float) -> Outcome:
        if boot_seconds() - started > LATEST_SEND_SECONDS:
            return Outcome(Verdict.NOT_SENT, reason="too_late")
        with RequestsSender(self._config) as sender:
            exchange = sender.send(
                job.request(self._config.postal_code_field),
                not_after=started + LATEST_SEND_SECONDS + self._config.connect_timeout_seconds,
            )
        outcome = classify(job.endpoint, exchange, now=datetime.now(UTC))
        if outcome.verdict is Verdict.RATE_LIMITED:
            limiter_for(self._config).penalize(min(outcome.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
        return outcome

    def _wait_for_permit(self) -> None:
        """Before the claim: nobody waits while a lead is held."""
        while (wait := limiter_for(self._config).try_acquire()) > 0:
            time.sleep(wait)

    def _is_taken(self, outcome: Outcome) -> bool:
        """A rejection that names the time, or nothing, is about the slot: another one may be booked."""
        return outcome.verdict is Verdict.REJECTED and (outcome.slot_blamed or outcome.no_field_named)

    def _settle(self, settled: Settled) -> None:
        for pause in (*KEEP_PAUSES_SECONDS, None):
            try:
                with self._ledger.write() as connection:
                    self._ledger.apply(connection, self._account, [settled])
            except LedgerError as error:
                if pause is None or not isinstance(error, LedgerUnreachableError):
                    raise LedgerError(
                        f"the ledger does not take the outcome {settled.answer.value!r} of the booking of "
                        f"{self._who()}, customer {self._booking.customer_id}, slot "
                        f"{self._booking.slot.time}: it will be in doubt"
                    ) from error
                time.sleep(pause)
            else:
                return

    def _apply(self, connection: Connection, events: Sequence[Event]) -> None:
        if not all(self._ledger.apply(connection, self._account, events)):
            raise LeadHeldError(f"{self._who()} was taken by another task just now", retry=True)

    def _end(self) -> None:
        try:
            with self._ledger.write() as connection:
                leases.end_lease(
                    connection, self._ledger, self._account, self._sending.owner, self._sending.run
                )
        except LedgerError as error:
            # The lease runs out by itself; what came of the booking matters more.
            log.warning("The lease of %s could not be given back: %s", self._who(), error)

    def _who(self) -> str:
        return f"lead {self._booking.lead_id!r} of {self._booking.source!r}"
