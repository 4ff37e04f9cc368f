"""What the ledger holds of a lead, and the events that may change it; ``states`` says which may when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple


class CaptureState(StrEnum):
    """Where the registration of a lead at Popin stands."""

    NEW = "new"
    SENDING = "sending"
    CAPTURED = "captured"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"


class BookingState(StrEnum):
    """Where the call of a lead stands."""

    WAITING = "waiting"
    PLANNED = "planned"
    SENDING = "sending"
    BOOKED = "booked"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    UNASSIGNED = "unassigned"


class Step(StrEnum):
    """The two POSTs."""

    CAPTURE = "capture"
    BOOKING = "booking"


class Answer(StrEnum):
    """What came of one POST, as far as the ledger cares (see ``client.outcomes`` for the classification)."""

    SUCCESS = "success"
    REJECTED = "rejected"
    TAKEN = "taken"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Record:
    """One lead of one generation, as the ledger holds it. Field order is column order of ``schema.leads``.

    Times are seconds since the epoch by the database's clock; ``slot_start`` is whole seconds, UTC.
    ``evidence_slot`` is the slot of an attempt under way that a webhook has confirmed already, and
    ``confirmed_at`` when a webhook said that the booking exists.
    """

    id: int
    lead_id: str
    generation: int
    capture_state: str = CaptureState.NEW
    booking_state: str = BookingState.WAITING
    attempt: int = 0
    deadline: float | None = None
    capture_doubted: bool = False
    booking_doubted: bool = False
    resends: int = 0
    customer_id: str | None = field(default=None, repr=False)
    second_customer: str | None = field(default=None, repr=False)
    join_url: str | None = field(default=None, repr=False)
    slot_start: int | None = None
    slot_time: str | None = None
    slot_timezone: str | None = None
    seat: int | None = None
    reply_incomplete: bool = False
    time_mismatch: bool = False
    alarm: bool = False
    reason: str | None = None
    fingerprint: str | None = None
    wish: str | None = None
    claim_owner: str | None = None
    run: str | None = None
    doubt_run: str | None = None
    change: int = 0
    written: int = 0
    updated_at: float = 0.0
    evidence_slot: int | None = None
    confirmed_at: float | None = None

    @property
    def version(self) -> str:
        """Tells one state of the record from the next. Text: a form carries it there and back unchanged."""
        return repr(self.updated_at)

    def values(self) -> tuple[Any, ...]:
        """What it holds now, field by field; ``dataclasses.astuple`` takes fifty times as long (measured)."""
        return _values(self)


class Ending(NamedTuple):
    """What tells where a lead ended: a third of a :class:`Record`, for every row of a run wants one."""

    id: int
    capture_state: str
    booking_state: str
    reason: str | None
    slot_start: int | None
    slot_time: str | None
    slot_timezone: str | None


_values: Callable[[Record], tuple[Any, ...]] = attrgetter(*[item.name for item in fields(Record)])


# Two of each for every lead: frozen, one takes almost four times as long to make (measured).
@dataclass(slots=True)
class Intent:
    """About to send: the record goes to ``sending`` under a new attempt number.

    :param attempt: the attempt number that the sender read; another number means that somebody else acted.
    :param owner: the lease owner that must hold the claim.
    :param run: the Dag run on whose behalf it is sent.
    :param timeout_seconds: whole-exchange timeout; the deadline is this plus
        :data:`states.DEADLINE_MARGIN_SECONDS`.
    :param resend: a booking in doubt is sent again on purpose (``on_in_doubt="resend"``).
    """

    id: int
    step: Step
    attempt: int
    owner: str
    run: str
    timeout_seconds: float
    resend: bool = False


@dataclass(slots=True)
class Settled:
    """The outcome of attempt ``attempt``. ``slot_*`` name the slot that was sent, for late answers."""

    id: int
    step: Step
    attempt: int
    answer: Answer
    run: str
    reason: str | None = None
    customer_id: str | None = field(default=None, repr=False)
    join_url: str | None = field(default=None, repr=False)
    incomplete: bool = False
    time_mismatch: bool = False
    slot_start: int | None = None
    slot_time: str | None = None
    slot_timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner chose a slot; accepted only if the seat is free (its unique key decides)."""

    id: int
    attempt: int
    owner: str
    slot_start: int
    slot_time: str
    slot_timezone: str
    seat: int


@dataclass(frozen=True, slots=True)
class Released:
    """A planned seat is given back, or a waiting lead is told why no slot fits (``unassigned``)."""

    id: int
    owner: str
    to: BookingState
    run: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """Somebody saw ``sending``; accepted once the deadline has passed."""

    id: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """A person, or evidence, ends the doubt about a booking."""

    id: int
    booked: bool
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run takes the lead: until its lease ends nobody else sends it.

    :param attempt: the attempt number that was read.
    :param live_owners: owners whose lease has not run out; a claim of another one may be taken over.
    :param wish: the window of an unfinished lead, see ``source.booking_wish``.
    :param fingerprint: HMAC of the row, to know it again after a rejection.
    """

    id: int
    attempt: int
    owner: str
    live_owners: frozenset[str]
    wish: str | None
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The row itself is unusable: nothing is sent. Never ends a doubt and never touches a booking."""

    id: int
    reason: str
    fingerprint: str
    run: str


@dataclass(frozen=True, slots=True)
class Corrected:
    """The row of a rejected lead has changed: it may be tried again."""

    id: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """The source names the customer already: there is nothing to capture."""

    id: int
    customer_id: str = field(repr=False)
    run: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A webhook says that a call of this customer exists. Never refused; see ``evidence``.

    :param slot_start: the call's start, epoch seconds; None where its instant cannot be told. So
        ``slot_time``, Popin's string for it, and ``slot_timezone``.
    :param why: names the webhook event, for the history.
    """

    id: int
    slot_start: int | None
    slot_time: str | None
    slot_timezone: str | None
    why: str


@dataclass(frozen=True, slots=True)
class AlarmCleared:
    """A person says that a double-booking alarm was dealt with."""

    id: int
    who: str
    why: str


Event = (
    Intent
    | Settled
    | Planned
    | Released
    | Expired
    | Resolved
    | Claimed
    | Refused
    | Corrected
    | Adopted
    | Evidence
    | AlarmCleared
)


@dataclass(slots=True)
class Effects:
    """What a step asks of the database beside the record itself.

    :param take_seats: ids of records that hold a seat from now on.
    :param release_seats: ids of records whose seat is given back.
    :param notes: ``(record id, attempt, kind, who, why)`` for the history table.
    """

    take_seats: list[int] = field(default_factory=list)
    release_seats: list[int] = field(default_factory=list)
    notes: list[tuple[int, int, str, str | None, str | None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.take_seats or self.release_seats or self.notes)
