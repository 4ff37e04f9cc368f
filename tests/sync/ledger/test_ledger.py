"""Events applied to records and seats in a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger import ledger_queries, schema
from airflow_provider_popin.sync.ledger.events import (
    Adopted,
    Answer,
    BookingState,
    Corrected,
    Event,
    Expired,
    Released,
)
from airflow_provider_popin.sync.ledger.ledger import Ledger, locked
from tests.sync.ledgers import (
    ACCOUNT,
    OWNER,
    RUN,
    SLOT,
    SOURCE,
    Database,
    add_lead,
    apply,
    booking_intent,
    capture_intent,
    captured,
    claim,
    lead_in,
    not_booked,
    planned,
    record,
    seats,
    settled,
)


class TestApply:
    def test_from_new_to_booked(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        steps: list[Event] = [
            capture_intent(key),
            captured(key, customer_id="MzE1"),
            planned(key),
            booking_intent(key),
            settled(key, Answer.SUCCESS),
        ]
        for event in steps:
            assert apply(ledger, event) == [True]
        found = record(ledger, key)
        assert (found.capture_state, found.booking_state, found.attempt) == ("captured", "booked", 2)
        assert (found.customer_id, found.seat, found.slot_start) == ("MzE1", 1, SLOT)
        assert found.deadline is None
        assert (found.reply_incomplete, found.alarm) == (False, False)
        assert seats(ledger) == {key: (SLOT, 1)}

    def test_several_events_of_one_record_in_one_transaction(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        assert apply(ledger, capture_intent(key), captured(key), captured(key)) == [True, True, True]
        assert record(ledger, key).capture_state == "captured"

    def test_an_intent_writes_its_attempt_and_its_deadline_by_the_database_clock(
        self, ledger: Ledger
    ) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key, timeout_seconds=30.0))
        found = record(ledger, key)
        assert found.attempt == 1
        assert found.deadline is not None
        assert found.deadline - found.updated_at == pytest.approx(40.0)

    def test_an_unknown_record_refuses_everything(self, ledger: Ledger) -> None:
        assert apply(ledger, capture_intent(4711), planned(4711), Expired(4711)) == [False, False, False]
        assert seats(ledger) == {}

    def test_a_refused_event_writes_nothing(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "booked")
        before = record(ledger, key)
        assert apply(ledger, planned(key, attempt=2), Corrected(key), not_booked(key)) == [False] * 3
        assert record(ledger, key) == before
        assert seats(ledger) == {key: (SLOT, 1)}

    def test_notes_go_to_the_history(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        with ledger.read() as connection:
            (row,) = connection.execute(sa.select(schema.history)).fetchall()
        assert (row.lead, row.attempt, row.kind, row.why) == (key, 2, "in_doubt", "so")

    def test_nothing_is_written_when_the_transaction_fails(self, ledger: Ledger) -> None:
        key = add_lead(ledger)

        def fail() -> None:
            with ledger.write() as connection:
                ledger.apply(connection, ACCOUNT, [capture_intent(key)])
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert record(ledger, key).capture_state == "new"

    def test_an_id_is_never_given_to_another_lead(self, ledger: Ledger) -> None:
        first = add_lead(ledger, "L1")
        with ledger.write() as connection:
            connection.execute(schema.leads.delete())
        # An event for the deleted lead may still be on its way.
        assert add_lead(ledger, "L2") > first

    def test_more_records_than_one_statement_takes(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(3)]
        with ledger.write() as connection:
            assert list(locked(connection, [*keys, *range(10_000, 11_500)])) == keys

    def test_records_that_change_in_different_ways(self, ledger: Ledger) -> None:
        """The columns of all are written, not those of the first one only."""
        first, second = lead_in(ledger, "capture_sending", "L1"), lead_in(ledger, "captured", "L2")
        assert apply(ledger, captured(first, customer_id="MzE1"), planned(second)) == [True, True]
        assert (record(ledger, first).customer_id, record(ledger, first).seat) == ("MzE1", None)
        found = record(ledger, second)
        assert (found.booking_state, found.slot_start, found.seat) == ("planned", SLOT, 1)


class TestSeats:
    def test_a_seat_has_one_holder(self, ledger: Ledger) -> None:
        first, second = lead_in(ledger, "captured", "L1"), lead_in(ledger, "captured", "L2")
        assert apply(ledger, planned(first), planned(second)) == [True, False]
        assert record(ledger, second).booking_state == "waiting"
        assert apply(ledger, planned(second, seat=2)) == [True]
        assert seats(ledger) == {first: (SLOT, 1), second: (SLOT, 2)}

    def test_seats_of_two_accounts_do_not_meet(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "planned")
        other = lead_in(ledger, "captured", "L2")
        with ledger.write() as connection:
            assert ledger.apply(connection, "another shop", [planned(other)]) == [True]
        assert seats(ledger) == {key: (SLOT, 1), other: (SLOT, 1)}

    @pytest.mark.parametrize(
        ("answer", "held"),
        [
            (Answer.SUCCESS, True),
            (Answer.UNKNOWN, True),
            (Answer.NOT_SENT, True),
            (Answer.REJECTED, False),
            (Answer.TAKEN, False),
        ],
    )
    def test_which_outcome_gives_the_seat_back(self, ledger: Ledger, answer: Answer, held: bool) -> None:
        key = lead_in(ledger, "sending")
        assert apply(ledger, settled(key, answer)) == [True]
        assert (key in seats(ledger)) == held

    def test_a_resolved_doubt_gives_the_seat_back(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        apply(ledger, not_booked(key))
        assert seats(ledger) == {}

    @pytest.mark.parametrize("state", ["planned", "sending", "in_doubt", "booked"])
    def test_a_plan_that_comes_too_late_frees_no_seat(self, ledger: Ledger, state: str) -> None:
        key = lead_in(ledger, state)
        # The very seat that it holds: the insert finds it taken, by itself.
        assert apply(ledger, planned(key, attempt=record(ledger, key).attempt)) == [False]
        assert seats(ledger) == {key: (SLOT, 1)}

    def test_a_plan_that_is_refused_holds_no_seat(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "captured")
        assert apply(ledger, planned(key, attempt=7)) == [False]
        assert seats(ledger) == {}

    def test_released_and_planned_again_in_one_transaction(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "planned")
        apply(ledger, Released(key, OWNER, BookingState.WAITING, RUN), planned(key))
        found = record(ledger, key)
        assert (found.booking_state, found.seat) == ("planned", 1)
        assert seats(ledger) == {key: (SLOT, 1)}

    def test_a_late_success_takes_a_seat_beyond_the_plan(self, ledger: Ledger) -> None:
        late = lead_in(ledger, "in_doubt", "L1")
        apply(ledger, not_booked(late))
        other = lead_in(ledger, "booked", "L2")
        assert apply(ledger, settled(late, Answer.SUCCESS)) == [True]
        found = record(ledger, late)
        assert (found.booking_state, found.alarm, found.seat) == ("in_doubt", True, 2)
        assert seats(ledger) == {other: (SLOT, 1), late: (SLOT, 2)}

    def test_a_late_success_for_a_lead_that_is_planned_elsewhere(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        apply(ledger, not_booked(key))
        apply(ledger, claim(key, 2))
        assert apply(ledger, planned(key, 2, slot=SLOT + 900)) == [True]
        assert apply(ledger, settled(key, Answer.SUCCESS)) == [True]
        assert seats(ledger) == {key: (SLOT, 1)}
        assert apply(ledger, booking_intent(key, 2)) == [False]

    def test_two_connections_race_for_the_same_seats(self, ledger: Ledger, database: Database) -> None:
        ledgers = [ledger, Ledger.open(database.engine())]
        keys = [
            [lead_in(ledger, "captured", f"{side}-{number}") for number in range(12)] for side in range(2)
        ]
        start = threading.Barrier(2)

        def plan(side: int) -> list[bool]:
            # The other way round, so that the two would wait for each other if nobody sorted.
            order = list(range(12))[:: 1 if side else -1]
            start.wait()
            return apply(ledgers[side], *(planned(keys[side][n], slot=SLOT + 900 * n, seat=1) for n in order))

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(plan, range(2))
        assert sum(first) + sum(second) == 12
        held = seats(ledger)
        assert sorted(held.values()) == [(SLOT + 900 * n, 1) for n in range(12)]
        for side in keys:
            for key in side:
                assert (record(ledger, key).booking_state == "planned") == (key in held)

    def test_two_late_successes_race_for_a_seat_beyond_the_plan(
        self, ledger: Ledger, database: Database
    ) -> None:
        ledgers = [ledger, Ledger.open(database.engine())]
        keys = [lead_in(ledger, "in_doubt", f"L{side}", seat=side + 1) for side in range(2)]
        apply(ledger, *map(not_booked, keys))
        start = threading.Barrier(2)

        def tell(side: int) -> list[bool]:
            start.wait()
            return apply(ledgers[side], settled(keys[side], Answer.SUCCESS))

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(tell, range(2))) == [[True], [True]]
        assert sorted(seats(ledger).values()) == [(SLOT, 1), (SLOT, 2)]


_KEYS = st.integers(0, 2)
_ATTEMPTS = st.integers(0, 4)
_EVENTS = st.one_of(
    st.builds(lambda k, a: ("claim", k, a), _KEYS, _ATTEMPTS),
    st.builds(lambda k, a, n: ("plan", k, a, n), _KEYS, _ATTEMPTS, st.integers(1, 2)),
    st.builds(lambda k, a: ("send", k, a), _KEYS, _ATTEMPTS),
    st.builds(lambda k, a, answer: ("settle", k, a, answer), _KEYS, _ATTEMPTS, st.sampled_from(Answer)),
    st.builds(lambda k: ("release", k), _KEYS),
    st.builds(lambda k: ("resolve", k), _KEYS),
    st.builds(lambda k: ("correct", k), _KEYS),
)


def _event(told: tuple[object, ...], keys: list[int]) -> Event:
    kind, key, *rest = told
    assert isinstance(key, int)
    makers: dict[object, Callable[..., Event]] = {
        "claim": lambda k, a: claim(k, a),
        "plan": lambda k, a, n: planned(k, a, seat=n),
        "send": lambda k, a: booking_intent(k, a),
        "settle": lambda k, a, answer: settled(k, answer, a),
        "release": lambda k: Released(k, OWNER, BookingState.WAITING, RUN),
        "resolve": not_booked,
        "correct": Corrected,
    }
    return makers[kind](keys[key], *rest)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(_EVENTS, min_size=1, max_size=4), max_size=8))
def test_seats_and_records_never_part(sqlite_ledger: Ledger, groups: list[list[tuple[object, ...]]]) -> None:
    """Whatever happens, in whatever groups: a record has a seat exactly if the seat table says so."""
    with sqlite_ledger.write() as connection:
        connection.execute(schema.leads.delete())
        connection.execute(schema.seats.delete())
        leads = [{"lead_id": f"L{n}", "generation": 1, "claim_owner": OWNER} for n in range(3)]
        ledger_queries.insert_leads(connection, ACCOUNT, SOURCE, leads)
        keys = sorted(row[0] for row in connection.execute(sa.select(schema.leads.c.id)))
        sqlite_ledger.apply(connection, ACCOUNT, [Adopted(key, f"C{key}", RUN) for key in keys])
        for group in groups:
            sqlite_ledger.apply(connection, ACCOUNT, [_event(told, keys) for told in group])
            held = {row.lead: (row.slot_start, row.number) for row in connection.execute(_SEATS)}
            for key, found in locked(connection, keys).items():
                seated = found.booking_state in ("planned", "sending", "in_doubt", "booked")
                assert held.get(key) == ((found.slot_start, found.seat) if seated else None)


_SEATS = sa.select(schema.seats)


class TestErrors:
    def test_no_value_of_a_statement_gets_into_the_error(
        self, database: Database, engines: Callable[[str], Engine]
    ) -> None:
        ledger = Ledger.open(database.engine())
        add_lead(ledger)
        row = {"account": ACCOUNT, "source": SOURCE, "lead_id": "L1", "generation": 1, "attempt": 0}
        row |= dict.fromkeys(("capture_state", "booking_state"), "new")
        flags = ("capture_doubted", "booking_doubted", "reply_incomplete", "time_mismatch", "alarm")
        row |= dict.fromkeys(flags, False) | dict.fromkeys(("resends", "change", "written", "updated_at"), 0)
        with pytest.raises(LedgerError) as caught, ledger.write() as connection:
            connection.execute(schema.leads.insert(), {**row, "customer_id": "SECRET-CUSTOMER"})
        assert "SECRET-CUSTOMER" not in str(caught.value)
        assert "SECRET-CUSTOMER" not in str(caught.value.__cause__)
        assert "IntegrityError" in str(caught.value) or "UniqueViolation" in str(caught.value)
