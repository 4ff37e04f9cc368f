"""Any booking history of one customer, and its webhooks in any order, any number of times, or never.

Popin answers, stays silent or answers late, and never lies; so do its webhooks. Two generations of one lead
share the customer. The ledger is real; what exists at Popin is written down beside it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_provider_popin.sync.ledger import ledger_queries
from airflow_provider_popin.sync.ledger.events import (
    Answer,
    Expired,
    Planned,
    Record,
    Resolved,
    Settled,
    Step,
)
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.processing import process_waiting
from tests.sync.ledgers import (
    ACCOUNT,
    OWNER,
    RUN,
    SLOT,
    ZONE,
    add_lead,
    apply,
    booking_intent,
    capture_intent,
    captured,
    claim,
)
from tests.webhooks.deliveries import body, change, deliver, generations, scheduled

SLOTS = st.sampled_from([SLOT, SLOT + 900, SLOT + 1800])
REFUSALS = [Answer.REJECTED, Answer.TAKEN, Answer.NOT_SENT]
# Thousands of commits: on a disk they would take most of the time.
IN_MEMORY = Path("/dev/shm")
HOLDING = ("sending", "in_doubt", "booked")


@dataclass
class Attempt:
    """One POST, as Popin saw it."""

    lead: int
    number: int
    slot: int
    exists: bool
    open: bool = True


class Histories(RuleBasedStateMachine):
    """Nobody asks for resends, and people look closely: the promise."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.engine = sa.create_engine(f"sqlite:///{Path(self.folder.name) / 'ledger.db'}", future=True)
        self.ledger = Ledger.open(self.engine)
        self.attempts: list[Attempt] = []
        self.deliveries = 0
        for generation in (1, 2):
            key = add_lead(self.ledger, generation=generation)
            apply(self.ledger, capture_intent(key), captured(key, customer_id="MzE1"))

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    def records(self) -> list[Record]:
        return generations(self.ledger)

    def calls(self, key: int) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.lead == key and attempt.exists]

    @rule(slot=SLOTS, exists=st.booleans(), answered=st.booleans())
    def book(self, slot: int, exists: bool, answered: bool) -> None:
        """A run books the lowest generation that needs it, as long as no lower one is held."""
        for record in self.records():
            if record.booking_state in ("booked", "rejected"):
                continue
            seat = 1 + record.generation  # each its own, also at the same slot
            apply(self.ledger, claim(record.id, record.attempt))
            text = "then"
            plan = Planned(record.id, record.attempt, OWNER, slot, text, ZONE, seat)
            sent = apply(self.ledger, plan, booking_intent(record.id, record.attempt))[-1]
            if sent:
                attempt = Attempt(record.id, record.attempt + 1, slot, exists)
                self.attempts.append(attempt)
                if answered:
                    self.tell(attempt, Answer.SUCCESS if exists else Answer.TAKEN)
            return

    @precondition(lambda self: any(attempt.open for attempt in self.attempts))
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """In time or late, known or lost."""
        attempt = data.draw(st.sampled_from([one for one in self.attempts if one.open]))
        truth = [Answer.SUCCESS] if attempt.exists else REFUSALS
        self.tell(attempt, data.draw(st.sampled_from([*truth, Answer.UNKNOWN])))

    def tell(self, attempt: Attempt, answer: Answer) -> None:
        attempt.open = False
        event = Settled(
            attempt.lead,
            Step.BOOKING,
            attempt.number,
            answer,
            RUN,
            slot_start=attempt.slot,
            slot_time="then",
            slot_timezone=ZONE,
        )
        apply(self.ledger, event)

    @rule()
    def time_passes(self) -> None:
        for record in self.records():
            if record.deadline is not None:
                change(self.ledger, record.id, deadline=1.0)
                apply(self.ledger, Expired(record.id))

    @precondition(lambda self: any(attempt.exists for attempt in self.attempts))
    @rule(data=st.data(), repeated=st.booleans())
    def webhook(self, data: st.DataObject, repeated: bool) -> None:
        """Of a call that exists: now, again, or after everything else."""
        attempt = data.draw(st.sampled_from([one for one in self.attempts if one.exists]))
        self.deliveries += 1
        # Another envelope of the same event is no identical body.
        stamp = None if repeated else 1_771_832_273 + self.deliveries
        deliver(self.ledger, scheduled(attempt.slot, timestamp=stamp))

    @rule(name=st.sampled_from(["popin_call_successful", "popin_call_missed", "popin_user_captured"]))
    def another_webhook(self, name: str) -> None:
        self.deliveries += 1
        deliver(self.ledger, body(name, timestamp=SLOT + 3_600 + self.deliveries))

    @rule(limit=st.sampled_from([1, 100]))
    def process(self, limit: int) -> None:
        process_waiting(self.ledger, limit=limit)

    @rule()
    def a_person_looks_it_up(self) -> None:
        for record in self.records():
            if record.booking_state == "in_doubt":
                apply(self.ledger, Resolved(record.id, bool(self.calls(record.id)), "ann", "looked it up"))

    @invariant()
    def nobody_is_booked_twice(self) -> None:
        for record in self.records():
            assert len(self.calls(record.id)) <= 1

    @invariant()
    def a_call_that_exists_is_never_not_booked(self) -> None:
        for record in self.records():
            if self.calls(record.id):
                assert record.booking_state in HOLDING

    @invariant()
    def no_doubt_ends_wrongly(self) -> None:
        for record in self.records():
            if record.booking_state == "booked":
                (call,) = self.calls(record.id)
                assert record.slot_start == call.slot

    @invariant()
    def a_confirmed_booking_is_one_that_popin_told_of(self) -> None:
        for record in self.records():
            assert record.confirmed_at is None or self.calls(record.id)

    @invariant()
    def seats_are_those_of_the_records(self) -> None:
        with self.ledger.read() as connection:
            taken = ledger_queries.seats_taken(connection, ACCOUNT, [SLOT, SLOT + 900, SLOT + 1800])
        held = [record.slot_start or 0 for record in self.records() if record.seat is not None]
        assert sorted(held) == sorted(start for start, numbers in taken.items() for _ in numbers)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
