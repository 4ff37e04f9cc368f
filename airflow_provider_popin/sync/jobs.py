"""What the exchange loop sends: one capture or one booking, and what its outcome means for the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_provider_popin.client.exchange import Endpoint, Request
from airflow_provider_popin.client.models import Customer, Lead, ScheduledCall, Slot
from airflow_provider_popin.client.outcomes import Outcome, Verdict
from airflow_provider_popin.client.protocol import build_capture, build_schedule
from airflow_provider_popin.client.slots import reply_matches_slot
from airflow_provider_popin.sync.ledger.events import Answer, Intent, Settled, Step
from airflow_provider_popin.sync.source.booking_wish import BookingWish

_ANSWERS = {
    Verdict.OK: Answer.SUCCESS,
    Verdict.NOT_SENT: Answer.NOT_SENT,
    Verdict.RATE_LIMITED: Answer.NOT_SENT,
    Verdict.STOP: Answer.NOT_SENT,
    Verdict.REJECTED: Answer.REJECTED,
    Verdict.UNKNOWN: Answer.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Sending:
    """On whose behalf a run sends: what every intent carries."""

    owner: str
    run: str
    timeout_seconds: float


@dataclass(slots=True)
class CaptureJob:
    """Register one lead.

    :param record: the ledger's record
    :param attempt: its attempt number as last read
    :param unknowns: how often this run lost the answer
    """

    record: int
    lead_id: str
    attempt: int
    lead: Lead
    wish: BookingWish
    tries: int = 0
    unknowns: int = 0

    endpoint = Endpoint.CAPTURE

    def request(self, postal_code_field: str) -> Request:
        """The POST.

        :param postal_code_field: from the connection
        """
        return build_capture(self.lead, postal_code_field=postal_code_field)

    def personal(self) -> tuple[str, ...]:
        """What must not appear in a reason."""
        return self.lead.personal_values()

    def intent(self, sending: Sending) -> Intent:
        """The event before the POST."""
        return Intent(
            self.record, Step.CAPTURE, self.attempt, sending.owner, sending.run, sending.timeout_seconds
        )

    def settled(self, outcome: Outcome, sending: Sending, *, taken: bool = False) -> Settled:
        """The event after it."""
        customer = outcome.value if isinstance(outcome.value, Customer) else None
        return Settled(
            self.record,
            Step.CAPTURE,
            self.attempt,
            _ANSWERS[outcome.verdict],
            sending.run,
            reason=outcome.reason or None,
            customer_id=customer.customer_id if customer else None,
            join_url=customer.url if customer else None,
            incomplete=customer.incomplete if customer else False,
        )

    def describe(self) -> str:
        """For a log line about an outcome that the ledger could not take."""
        return f"capture of lead {self.lead_id}"


@dataclass(slots=True)
class BookingJob:
    """Book one planned seat.

    :param slot: what to send, and its instant
    :param timezone: the seller's timezone when the slot was read
    :param resend: a booking in doubt that is sent once more
    """

    record: int
    lead_id: str
    attempt: int
    customer_id: str = field(repr=False)
    slot: Slot
    timezone: str
    agent: int | None = None
    native: bool | None = None
    url: str | None = field(default=None, repr=False)
    resend: bool = False
    tries: int = 0

    endpoint = Endpoint.SCHEDULE

    def request(self, postal_code_field: str) -> Request:
        """The POST."""
        return build_schedule(
            self.customer_id, self.slot.time, agent=self.agent, native=self.native, url=self.url
        )

    def personal(self) -> tuple[str, ...]:
        """Nothing is known here: name and phone were never kept."""
        return ()

    def intent(self, sending: Sending) -> Intent:
        """The event before the POST."""
        return Intent(
            self.record,
            Step.BOOKING,
            self.attempt,
            sending.owner,
            sending.run,
            sending.timeout_seconds,
            resend=self.resend,
        )

    def settled(self, outcome: Outcome, sending: Sending, *, taken: bool = False) -> Settled:
        """The event after it.

        :param taken: the rejection was about the slot, not about the lead
        """
        call = outcome.value if isinstance(outcome.value, ScheduledCall) else None
        # The seller may have moved since the list was read: then the same words name another time.
        matches = reply_matches_slot(call.time, call.timezone or self.timezone, self.slot) if call else None
        return Settled(
            self.record,
            Step.BOOKING,
            self.attempt,
            Answer.TAKEN if taken else _ANSWERS[outcome.verdict],
            sending.run,
            reason=outcome.reason or None,
            # A time that cannot be read confirms nothing.
            incomplete=call is not None and (call.incomplete or matches is None),
            time_mismatch=matches is False,
            slot_start=int(self.slot.start.timestamp()),
            slot_time=self.slot.time,
            slot_timezone=self.timezone,
        )

    def describe(self) -> str:
        """For a log line about an outcome that the ledger could not take."""
        return f"booking of lead {self.lead_id}, customer {self.customer_id}, slot {self.slot.time}"


Job = CaptureJob | BookingJob
