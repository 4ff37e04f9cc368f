"""Any sequence of events, with a Popin that answers, stays silent or answers late, but never lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_popin.sync.ledger import states
from airflow_provider_popin.sync.ledger.events import (
    Adopted,
    Answer,
    BookingState,
    CaptureState,
    Claimed,
    Corrected,
    Effects,
    Event,
    Evidence,
    Expired,
    Intent,
    Planned,
    Record,
    Refused,
    Released,
    Resolved,
    Settled,
    Step,
)

OWNERS = st.sampled_from(["a", "b"])
RUNS = st.sampled_from(["run 1", "run 2"])
SEATED = {BookingState.PLANNED, BookingState.SENDING, BookingState.IN_DOUBT, BookingState.BOOKED}
NEGATIVE = [Answer.REJECTED, Answer.TAKEN, Answer.NOT_SENT]


@dataclass
class Sent:
    """One attempt as Popin saw it.

    :param done: whether Popin registered the customer or booked the call
    :param open: whether its sender may still tell the ledger
    """

    step: Step
    attempt: int
    slot: int | None
    done: bool
    open: bool = True


@dataclass
class World:
    record: Record = field(default_factory=lambda: Record(1, "L1", 1))
    seated: bool = False
    sent: list[Sent] = field(default_factory=list)

    def calls(self) -> int:
        return sum(sent.done for sent in self.sent if sent.step is Step.BOOKING)


class Leads(RuleBasedStateMachine):
    """One lead, two owners, any order of events.

    ``may_resend`` is ``on_in_doubt="resend"``; ``person_errs`` lets a person overlook a call.
    """

    may_resend = True
    person_errs = True

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.now = 1_000.0
        self.was_booked = False
        self.last_attempt = 0
        self.mistakes = 0

    def happens(self, event: Event) -> bool:
        record, effects = self.world.record, Effects()
        accepted = states.apply(record, event, effects, self.now)
        if not accepted:
            assert effects == Effects()
        if effects.release_seats:
            assert self.world.seated
            self.world.seated = False
        if effects.take_seats:
            assert not self.world.seated
            self.world.seated = True
            record.seat = record.seat or 99  # what the ledger does for a call beyond the plan
        return accepted

    @initialize(captured=st.booleans())
    def begin(self, captured: bool) -> None:
        """Half of the examples begin with a captured lead: what follows is what matters most."""
        if captured:
            self.happens(Adopted(1, "C0", "run 1"))

    @rule(owner=OWNERS, run=RUNS, slot=st.integers(1, 3), done=st.booleans())
    def book(self, owner: str, run: str, slot: int, done: bool) -> None:
        """What a run does with a waiting lead, without anybody between."""
        self.claim(owner, frozenset())
        self.plan(owner, slot, stale=False)
        self.send(owner, run, resend=False, step=Step.BOOKING, done=done)

    @precondition(lambda self: self.may_resend)
    @rule(owner=OWNERS, done=st.booleans())
    def resend(self, owner: str, done: bool) -> None:
        """What a later run does with a doubt under ``on_in_doubt="resend"``."""
        self.claim(owner, frozenset())
        self.send(owner, "later run", resend=True, step=Step.BOOKING, done=done)

    @rule(data=st.data())
    def something_else(self, data: st.DataObject) -> None:
        """One event out of any context. One rule for all, so that they do not drown what matters."""
        owner, live = data.draw(OWNERS), data.draw(st.frozensets(OWNERS))
        run, resend, done = data.draw(RUNS), data.draw(st.booleans()), data.draw(st.booleans())
        others: list[Callable[[], object]] = [
            lambda: self.claim(owner, live),
            lambda: self.send(owner, run, resend=resend, step=data.draw(st.sampled_from(Step)), done=done),
            lambda: self.plan(owner, data.draw(st.integers(1, 3)), stale=done),
            lambda: self.happens(Released(1, owner, data.draw(st.sampled_from(BookingState)), run)),
            lambda: self.happens(Refused(1, "phone_letters", "print", run)),
            lambda: self.happens(Corrected(1)),
            lambda: self.happens(Adopted(1, "C0", run)),
        ]
        data.draw(st.sampled_from(others))()

    def claim(self, owner: str, live: frozenset[str]) -> None:
        self.happens(Claimed(1, self.world.record.attempt, owner, live, "{}", "print"))

    def send(self, owner: str, run: str, resend: bool, step: Step, done: bool) -> None:
        record = self.world.record
        before = record.attempt
        resend = resend and self.may_resend and step is Step.BOOKING
        if self.happens(Intent(1, step, record.attempt, owner, run, 30.0, resend=resend)):
            assert record.attempt == before + 1
            self.world.sent.append(Sent(step, record.attempt, record.slot_start, done))

    @precondition(lambda self: any(sent.open for sent in self.world.sent))
    @rule(data=st.data(), run=RUNS)
    def answer(self, data: st.DataObject, run: str) -> None:
        """In time or late, known or lost; Popin says what is true, if it says anything."""
        sent = data.draw(st.sampled_from([sent for sent in self.world.sent if sent.open]))
        truth = [Answer.SUCCESS] if sent.done else NEGATIVE
        answer = data.draw(st.sampled_from([*truth, Answer.UNKNOWN]))
        # A sender tells one outcome, sometimes twice: the connection may be lost during the commit.
        sent.open = data.draw(st.booleans())
        self.happens(
            Settled(
                1,
                sent.step,
                sent.attempt,
                answer,
                run,
                customer_id=f"C{sent.attempt}",
                slot_start=sent.slot,
                slot_time="then",
                slot_timezone="UTC",
            )
        )
        if answer is Answer.UNKNOWN:
            sent.open = False

    def plan(self, owner: str, slot: int, stale: bool) -> None:
        attempt = self.world.record.attempt - stale
        self.happens(Planned(1, attempt, owner, slot, "then", "UTC", 1))

    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.happens(Expired(1))

    @precondition(lambda self: self.world.calls())
    @rule(data=st.data())
    def a_webhook_tells(self, data: st.DataObject) -> None:
        """Of any call that exists, at any time, any number of times, or never."""
        calls = [sent for sent in self.world.sent if sent.step is Step.BOOKING and sent.done]
        call = data.draw(st.sampled_from(calls))
        assert self.happens(Evidence(1, call.slot, "then", "UTC", "webhook event 1"))

    @rule()
    def a_person_looks_it_up(self) -> None:
        self.happens(Resolved(1, self.world.calls() > 0, "ann", "looked it up"))

    @precondition(lambda self: self.person_errs and self.world.calls())
    @rule()
    def a_person_overlooks_the_call(self) -> None:
        self.mistakes += self.happens(Resolved(1, False, "ann", "not there"))

    @invariant()
    def booked_is_never_left(self) -> None:
        self.was_booked = self.was_booked or self.world.record.booking_state == BookingState.BOOKED
        assert not self.was_booked or self.world.record.booking_state == BookingState.BOOKED

    @invariant()
    def a_seat_is_held_exactly_while_there_may_be_a_call(self) -> None:
        record = self.world.record
        assert self.world.seated == (record.booking_state in SEATED)
        assert (record.seat is not None) == self.world.seated
        assert (record.slot_start is not None) == self.world.seated

    @invariant()
    def the_attempt_never_falls(self) -> None:
        assert self.world.record.attempt >= self.last_attempt
        self.last_attempt = self.world.record.attempt

    @invariant()
    def a_doubt_is_left_by_booking_or_a_person_only(self) -> None:
        record = self.world.record
        if record.booking_doubted:
            assert record.booking_state in (BookingState.IN_DOUBT, BookingState.SENDING)
        if record.booking_state == BookingState.IN_DOUBT:
            assert record.booking_doubted

    @invariant()
    def only_captured_leads_get_beyond_waiting(self) -> None:
        record = self.world.record
        assert record.booking_state == BookingState.WAITING or record.capture_state == CaptureState.CAPTURED

    @invariant()
    def only_sending_has_a_deadline(self) -> None:
        record = self.world.record
        sending = CaptureState.SENDING in (record.capture_state, record.booking_state)
        assert (record.deadline is not None) == sending

    @invariant()
    def every_call_is_accounted_for(self) -> None:
        """I2: what Popin booked is booked, in doubt, or being sent."""
        open_or_lost = [BookingState.BOOKED, BookingState.IN_DOUBT, BookingState.SENDING]
        if self.world.calls() and not self.mistakes:
            assert self.world.record.booking_state in open_or_lost

    @invariant()
    def nobody_is_booked_without_a_call(self) -> None:
        assert self.world.record.booking_state != BookingState.BOOKED or self.world.calls()

    @invariant()
    def evidence_is_remembered_only_while_sending(self) -> None:
        record = self.world.record
        assert record.evidence_slot is None or record.booking_state == BookingState.SENDING

    @invariant()
    def nobody_is_booked_twice(self) -> None:
        """I1; whoever asks for resends takes the risk of one second call, and so does who errs."""
        assert self.world.calls() <= 1 + self.world.record.resends + self.mistakes

    @invariant()
    def an_alarm_means_two_calls_or_a_mistake(self) -> None:
        assert not self.world.record.alarm or self.mistakes or self.world.record.resends

    @invariant()
    def a_lead_under_alarm_is_held(self) -> None:
        record = self.world.record
        if record.alarm:
            # Not `was_booked`: in the step that books it, that may be noted after this.
            assert record.booking_doubted or record.booking_state == BookingState.BOOKED


class LeadsOnHold(Leads):
    """``on_in_doubt="hold"``: the promise."""

    may_resend = False
    person_errs = False


class LeadsOnHoldOfFalliblePeople(Leads):
    """The promise where a person may err: every mistake costs one call at most, and none is silent."""

    may_resend = False


_settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestResending = Leads.TestCase
TestResending.settings = _settings
TestHolding = LeadsOnHold.TestCase
TestHolding.settings = _settings
TestHoldingAmongFalliblePeople = LeadsOnHoldOfFalliblePeople.TestCase
TestHoldingAmongFalliblePeople.settings = _settings
