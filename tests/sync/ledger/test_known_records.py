"""The writer's memory: it may spare a read, and never decides anything that a lock would decide otherwise."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync import admin
from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger import database as database_module
from airflow_provider_popin.sync.ledger import record_sql, schema
from airflow_provider_popin.sync.ledger.events import Answer, Event, Evidence, Expired
from airflow_provider_popin.sync.ledger.known_records import KnownRecords
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.ledger.writer import Writer
from tests.sync.ledgers import (
    ACCOUNT,
    SLOT,
    SOURCE,
    TIME,
    ZONE,
    Database,
    add_lead,
    apply,
    booking_intent,
    capture_intent,
    captured,
    lead_in,
    planned,
    record,
    seats,
    settled,
)


def known_to(ledger: Ledger, *keys: int) -> KnownRecords:
    known = KnownRecords(ledger)
    known.remember(record(ledger, key) for key in keys)
    return known


def tell(ledger: Ledger, known: KnownRecords, *events: Event) -> list[bool]:
    connection = ledger.connect_for_statements()
    try:
        with ledger.write(connection):
            return known.apply(connection, events)
    finally:
        connection.close()


def write(ledger: Ledger, *groups: list[Event], known: list[int] | None = None) -> list[bool | LedgerError]:
    """Hand groups of events to a writer that knows some records."""

    async def work() -> list[bool | LedgerError]:
        writer = Writer(ledger, ACCOUNT)
        writer.remember(record(ledger, key) for key in known or [])
        try:
            told: list[bool | LedgerError] = []
            for group in groups:
                waiting = [writer.apply(event) for event in group]
                for answer in await asyncio.gather(*waiting, return_exceptions=True):
                    assert isinstance(answer, tuple | LedgerError), answer
                    told.append(answer[0] if isinstance(answer, tuple) else answer)
            return told
        finally:
            await asyncio.to_thread(writer.close)

    return asyncio.run(work())


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """The driver's statements about leads, as ``record_sql`` sends them."""
    seen: list[str] = []
    real = record_sql.driver_cursor

    @contextmanager
    def listening(connection: Connection) -> Iterator[object]:
        with real(connection) as cursor:
            yield _Listening(cursor, seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_sql, "driver_cursor", listening)
        yield seen


class _Listening:
    def __init__(self, cursor: object, seen: list[str]) -> None:
        self._cursor = cursor
        self._seen = seen

    def execute(self, statement: str, *values: object) -> object:
        self._seen.append(statement)
        return self._cursor.execute(statement, *values)  # type: ignore[attr-defined]

    def executemany(self, statement: str, *values: object) -> object:
        self._seen.append(statement)
        return self._cursor.executemany(statement, *values)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)


class TestWhatIsKnown:
    def test_the_steps_of_a_lead_are_written_one_after_the_other(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        known = known_to(ledger, key)
        assert tell(ledger, known, capture_intent(key)) == [True]
        assert record(ledger, key).capture_state == "sending"
        assert tell(ledger, known, captured(key)) == [True]
        written = record(ledger, key)
        assert (written.capture_state, written.customer_id, written.deadline) == ("captured", f"C{key}", None)

    def test_it_writes_what_the_lock_would_have_written(self, ledger: Ledger) -> None:
        one, other = lead_in(ledger, "planned", "L1"), lead_in(ledger, "planned", "L2", seat=2)
        known = known_to(ledger, one)
        assert tell(ledger, known, booking_intent(one), settled(one, Answer.SUCCESS)) == [True, True]
        assert apply(ledger, booking_intent(other), settled(other, Answer.SUCCESS)) == [True, True]
        differ = {"id", "lead_id", "customer_id", "join_url", "seat", "updated_at"}
        mine, theirs = asdict(record(ledger, one)), asdict(record(ledger, other))
        assert {name for name in mine if mine[name] != theirs[name]} <= differ
        assert mine["booking_state"] == "booked"

    def test_many_at_once(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(40)]
        known = known_to(ledger, *keys)
        assert all(tell(ledger, known, *(capture_intent(key) for key in keys)))
        assert all(tell(ledger, known, *(captured(key) for key in keys)))
        assert {record(ledger, key).capture_state for key in keys} == {"captured"}

    def test_what_is_handed_in_together_is_not_torn(self, ledger: Ledger) -> None:
        """One of them needs the lock, so all take it: the intent must not be durable before the outcome."""
        rejected, following = lead_in(ledger, "sending", "L1"), lead_in(ledger, "planned", "L2", seat=2)
        known = known_to(ledger, rejected, following)
        events: list[Event] = [booking_intent(following), settled(rejected, Answer.REJECTED)]
        assert tell(ledger, known, *events) == [False, False]
        assert record(ledger, following).booking_state == "planned"
        assert write(ledger, events, known=[rejected, following]) == [True, True]
        assert [record(ledger, key).booking_state for key in (rejected, following)] == ["rejected", "sending"]

    @pytest.mark.parametrize("obstacle", ["unknown", "refused", "refused_second", "other_kind"])
    def test_one_event_that_needs_the_lock_keeps_all_from_being_written(
        self, ledger: Ledger, obstacle: str
    ) -> None:
        good, other = add_lead(ledger, "L1"), add_lead(ledger, "L2")
        known = known_to(ledger, *([good] if obstacle == "unknown" else [good, other]))
        events: dict[str, Event] = {
            "unknown": capture_intent(other),
            "refused": booking_intent(other),
            "refused_second": capture_intent(good),
            "other_kind": planned(other),
        }
        assert tell(ledger, known, capture_intent(good), events[obstacle]) == [False, False]
        assert [record(ledger, key).capture_state for key in (good, other)] == ["new", "new"]

    def test_a_stranger_is_left_to_the_lock(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        assert tell(ledger, KnownRecords(ledger), capture_intent(key)) == [False]
        assert record(ledger, key).capture_state == "new"

    @pytest.mark.parametrize("answer", [Answer.REJECTED, Answer.TAKEN, Answer.UNKNOWN])
    def test_what_concerns_more_than_the_record_is_left_to_the_lock(
        self, ledger: Ledger, answer: Answer
    ) -> None:
        key = lead_in(ledger, "sending")
        assert tell(ledger, known_to(ledger, key), settled(key, answer)) == [False]
        assert record(ledger, key).booking_state == "sending"
        assert write(ledger, [settled(key, answer)], known=[key]) == [True]
        assert record(ledger, key).booking_state != "sending"
        assert (key in seats(ledger)) is (answer is Answer.UNKNOWN)

    def test_other_events_are_left_to_the_lock(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "captured")
        assert tell(ledger, known_to(ledger, key), planned(key)) == [False]
        assert write(ledger, [planned(key)], known=[key]) == [True]
        assert seats(ledger) == {key: (SLOT, 1)}


class TestStatements:
    """What is handed in together."""

    @pytest.mark.parametrize("leads", [1, 2, 5, 32])
    def test_one_for_all_on_postgres(self, ledger: Ledger, leads: int) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(leads)]
        known = known_to(ledger, *keys)
        with statements(ledger) as seen:
            assert tell(ledger, known, *(capture_intent(key) for key in keys)) == [True] * leads
        updates = [one for one in seen if one.startswith("UPDATE popin_leads")]
        assert len(updates) == (leads if ledger.engine.dialect.name == "sqlite" else 1)
        assert {record(ledger, key).capture_state for key in keys} == {"sending"}

    def test_each_keeps_its_own_values(self, ledger: Ledger) -> None:
        outcomes = [lead_in(ledger, "capture_sending", f"O{number}") for number in range(3)]
        intents = [add_lead(ledger, f"I{number}") for number in range(3)]
        known = known_to(ledger, *outcomes, *intents)
        events: list[Event] = [*map(captured, outcomes), *map(capture_intent, intents)]
        assert tell(ledger, known, *events) == [True] * 6
        for key in outcomes:
            found = record(ledger, key)
            assert (found.capture_state, found.customer_id, found.attempt) == ("captured", f"C{key}", 1)
        for key in intents:
            found = record(ledger, key)
            assert (found.capture_state, found.customer_id, found.attempt) == ("sending", None, 1)
            assert found.deadline is not None

    def test_who_was_changed_by_somebody_else_is_told_apart(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(5)]
        known = known_to(ledger, *keys)
        theirs = [keys[1], keys[4]]
        assert apply(ledger, *map(capture_intent, theirs), *map(captured, theirs)) == [True] * 4
        told = tell(ledger, known, *(capture_intent(key) for key in keys))
        assert told == [True, False, True, True, False]
        assert [record(ledger, key).capture_state for key in theirs] == ["captured", "captured"]
        assert [key in known for key in keys] == told

    def test_what_cannot_be_stored_does_not_take_its_neighbours(self, ledger: Ledger) -> None:
        keys = [lead_in(ledger, "capture_sending", f"L{number}") for number in range(3)]
        told = write(
            ledger,
            [captured(key, customer_id="C\ud800" if key == keys[1] else None) for key in keys],
            known=keys,
        )
        assert [told[0], told[2]] == [True, True]
        assert isinstance(told[1], LedgerError)
        assert record(ledger, keys[1]).capture_state == "sending"


class TestSomebodyElse:
    def test_who_came_first_wins(self, ledger: Ledger, database: Database) -> None:
        """Two senders that both know the lead: one of them may send."""
        key = add_lead(ledger)
        one, other = known_to(ledger, key), known_to(ledger, key)
        assert tell(ledger, one, capture_intent(key)) == [True]
        assert tell(Ledger.open(database.engine()), other, capture_intent(key)) == [False]
        assert record(ledger, key).attempt == 1

    def test_within_one_tick_of_the_clock(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        """What tells one version from the next must not depend on how finely a database tells the time."""
        monkeypatch.setattr(record_sql, "read_clock", lambda _: 1_750_000_000.0)
        monkeypatch.setattr("airflow_provider_popin.sync.ledger.ledger.boot_seconds", lambda: 5.0)
        key = lead_in(ledger, "sending")
        known = known_to(ledger, key)
        before = record(ledger, key)
        assert apply(ledger, Evidence(key, SLOT, TIME, ZONE, "webhook event 1")) == [True]
        assert record(ledger, key).evidence_slot == SLOT
        assert record(ledger, key).updated_at > before.updated_at
        assert tell(ledger, known, settled(key, Answer.UNKNOWN)) == [False]
        assert tell(ledger, known_to(ledger, key), settled(key, Answer.SUCCESS)) == [True]
        booked = record(ledger, key)
        assert (booked.booking_state, booked.evidence_slot) == ("booked", None)
        assert booked.confirmed_at is not None

    def test_an_answer_after_its_attempt_was_given_up(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = lead_in(ledger, "sending")
        as_sent = record(ledger, key)
        with monkeypatch.context() as later:
            later.setattr(ledger, "now", lambda _: as_sent.updated_at + 3600)
            assert apply(ledger, Expired(key)) == [True]
        assert record(ledger, key).booking_state == "in_doubt"
        known = KnownRecords(ledger)
        known.remember([as_sent])
        assert tell(ledger, known, settled(key, Answer.NOT_SENT)) == [False]
        assert record(ledger, key).booking_state == "in_doubt"

    def test_a_lead_that_was_deleted(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        gone = record(ledger, key)
        with ledger.write() as connection:
            connection.execute(schema.leads.delete())
        known = KnownRecords(ledger)
        known.remember([gone])
        assert tell(ledger, known, capture_intent(key)) == [False]
        assert key not in known

    def test_a_lead_whose_data_was_erased(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "booked")
        known = known_to(ledger, key)
        assert admin.forget(ledger, source=SOURCE, lead_id="L1") == 1
        # Told again after a commit whose answer was lost.
        assert tell(ledger, known, settled(key, Answer.SUCCESS)) == [False]
        assert record(ledger, key).customer_id is None

    def test_a_neighbour_that_changed_keeps_nobody_from_being_written(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(3)]
        known = known_to(ledger, *keys)
        assert apply(ledger, capture_intent(keys[1])) == [True]
        assert tell(ledger, known, *(capture_intent(key) for key in keys)) == [True, False, True]
        assert [record(ledger, key).attempt for key in keys] == [1, 1, 1]


class TestWriter:
    def test_what_it_has_read_once_it_does_not_read_again(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        with statements(ledger) as seen:
            assert write(ledger, [capture_intent(key)], [captured(key)]) == [True, True]
        assert len([one for one in seen if "FROM popin_leads" in one]) == 1
        assert len([one for one in seen if one.startswith("UPDATE popin_leads")]) >= 1

    def test_a_locked_database_is_told_and_forgotten(
        self, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database_module, "SQLITE_BUSY_SECONDS", 0.05)
        ledger, other = Ledger.open(sqlite_database.engine()), Ledger.open(sqlite_database.engine())
        keys = [add_lead(ledger, f"L{number}") for number in range(2)]
        with other.write():
            told = write(ledger, [capture_intent(key) for key in keys], known=keys)
        assert [type(answer) for answer in told] == [LedgerUnreachableError] * 2
        assert [record(ledger, key).attempt for key in keys] == [0, 0]

    def test_text_that_cannot_be_stored_does_not_take_its_neighbours(self, ledger: Ledger) -> None:
        keys = [lead_in(ledger, "capture_sending", f"L{number}") for number in range(3)]
        events: list[Event] = [
            captured(key, customer_id="C\ud800" if number == 1 else None) for number, key in enumerate(keys)
        ]
        told = write(ledger, events, known=keys)
        assert [told[0], told[2]] == [True, True]
        assert isinstance(told[1], LedgerError)
        assert [record(ledger, key).capture_state for key in keys] == ["captured", "sending", "captured"]

    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("poison", ["SECRET\0", "SECRET\ud800", "SECRET" * 60 + "\0"])
    def test_what_cannot_be_stored_is_not_quoted(self, ledger: Ledger, poison: str, known: bool) -> None:
        key = lead_in(ledger, "capture_sending")
        (told,) = write(ledger, [captured(key, customer_id=poison)], known=[key] if known else None)
        if told is not True:  # SQLite stores a NUL
            assert isinstance(told, LedgerError)
            assert "SECRET" not in "".join(traceback.format_exception(told))
            assert record(ledger, key).capture_state == "sending"

    def test_text_of_any_kind_comes_back_as_it_went(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(4)]
        customers = ["Ünïcode ☎ 東京", 'quo"te\\back \\u0000', "%s {0} ?", "\t\n\u2028"]
        write(ledger, [capture_intent(key) for key in keys], known=keys)
        told = [captured(key, customer_id=text) for key, text in zip(keys, customers, strict=True)]
        assert write(ledger, list(told), known=keys) == [True] * 4
        assert [record(ledger, key).customer_id for key in keys] == customers

    def test_more_than_one_transaction_holds(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(100)]
        intents: list[Event] = [capture_intent(key) for key in keys]
        answers: list[Event] = [captured(key) for key in keys]
        assert write(ledger, intents, answers) == [True] * 200


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["intent", "success", "rejected", "taken", "not_sent", "unknown", "evidence", "plan"]
        ),
        st.integers(0, 2),
        st.integers(-1, 1),
    ),
    max_size=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=_STEPS)
def test_memory_changes_no_outcome(sqlite_ledger: Ledger, steps: list[tuple[str, int, int]]) -> None:
    """The same events to leads that are known and to leads that are not end in the same records."""
    with sqlite_ledger.write() as connection:
        connection.execute(schema.leads.delete())
        connection.execute(schema.seats.delete())
    outcomes = []
    for side, known in enumerate((True, False)):
        keys = [
            lead_in(sqlite_ledger, "planned", f"{side}-{n}", slot=SLOT + 3600 * side, seat=n + 1)
            for n in range(3)
        ]
        told = []
        for kind, lead, shift in steps:
            event = _event(sqlite_ledger, kind, keys[lead], shift, SLOT + 3600 * side)
            told.append(write(sqlite_ledger, [event], known=keys if known else None)[0])
        outcomes.append((told, [_comparable(sqlite_ledger, key) for key in keys]))
    assert outcomes[0] == outcomes[1]


def _event(ledger: Ledger, kind: str, key: int, shift: int, slot: int) -> Event:
    attempt = max(record(ledger, key).attempt + min(shift, 0), 0)
    match kind:
        case "intent":
            return booking_intent(key, attempt)
        case "evidence":
            return Evidence(key, slot, TIME, ZONE, "webhook event 1")
        case "plan":
            return planned(key, attempt, slot=slot, seat=9)
        case _:
            return settled(key, Answer(kind), attempt, slot=slot)


def _comparable(ledger: Ledger, key: int) -> dict[str, object]:
    found = asdict(record(ledger, key))
    different = ("id", "lead_id", "customer_id", "join_url", "slot_start", "updated_at")
    for name in (*different, "deadline", "evidence_slot", "confirmed_at"):
        value = found.pop(name)
        if name in ("deadline", "evidence_slot", "confirmed_at"):
            found[name] = value is not None
    with ledger.read() as connection:
        notes = connection.execute(
            sa.select(schema.history.c.kind).where(schema.history.c.lead == key).order_by(schema.history.c.id)
        ).scalars()
        found["notes"] = list(notes)
    found["seated"] = key in seats(ledger)
    return found
