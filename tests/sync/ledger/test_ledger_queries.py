"""Reads of the ledger, and writes that concern many rows at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync.ledger import ledger_queries, schema
from airflow_provider_popin.sync.ledger.events import Answer
from airflow_provider_popin.sync.ledger.ledger import CHUNK, Ledger
from tests.sync.ledgers import (
    ACCOUNT,
    OWNER,
    RUN,
    SLOT,
    SOURCE,
    Database,
    add_lead,
    apply,
    capture_intent,
    captured,
    lead_in,
    record,
    settled,
)


class TestLeads:
    def test_families_are_all_generations_in_order(self, ledger: Ledger) -> None:
        for generation in (3, 1, 2):
            add_lead(ledger, "L1", generation=generation)
        add_lead(ledger, "L2")
        add_lead(ledger, "L1", source="another source")
        for lock in (True, False):
            with ledger.write() as connection:
                found = ledger_queries.families(
                    connection, ACCOUNT, SOURCE, ["L1", "L1", "L2", "L3"], lock=lock
                )
            told = {lead: [known.generation for known in family] for lead, family in found.items()}
            assert told == {"L1": [1, 2, 3], "L2": [1]}

    def test_more_leads_than_one_statement_takes(self, ledger: Ledger) -> None:
        ids = [f"L{number:04}" for number in range(CHUNK + 7)]
        with ledger.write() as connection:
            leads = [{"lead_id": lead, "generation": 1} for lead in ids]
            ledger_queries.insert_leads(connection, ACCOUNT, SOURCE, leads)
        with ledger.read() as connection:
            assert len(ledger_queries.families(connection, ACCOUNT, SOURCE, ids, lock=False)) == CHUNK + 7

    def test_whoever_adds_a_lead_second_adds_nothing(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "captured")
        assert add_lead(ledger, "L1") == key
        assert record(ledger, key).capture_state == "captured"
        with ledger.write() as connection:
            ledger_queries.insert_leads(connection, ACCOUNT, SOURCE, [])

    def test_what_is_added_is_told_as_it_is_stored(self, ledger: Ledger) -> None:
        add_lead(ledger, "L2")
        leads = [
            {"lead_id": "L3", "generation": 2},
            {"lead_id": "L1", "generation": 1, "claim_owner": OWNER, "wish": '{"a":7}', "fingerprint": "f"},
            {"lead_id": "Lé 's \\u0000 %s", "generation": 2**31 - 1, "claim_owner": OWNER, "wish": "{}"},
        ]
        with ledger.write() as connection:
            told = ledger_queries.insert_leads(connection, ACCOUNT, SOURCE, leads)
        assert {(lead["lead_id"], lead["generation"]) for lead in leads} == told.keys()
        for one in told.values():
            assert one == record(ledger, one.id)

    def test_what_was_added_before_is_told_as_well(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "captured")
        leads = [{"lead_id": lead, "generation": 1} for lead in ("L0", "L1", "L2")]
        with ledger.write() as connection:
            told = ledger_queries.insert_leads(connection, ACCOUNT, SOURCE, leads)
        assert told["L1", 1] == record(ledger, key)
        assert [told[lead, 1].capture_state for lead in ("L0", "L2")] == ["new", "new"]

    @pytest.mark.postgres
    def test_postgres_is_given_no_nul(self, postgres_database: Database) -> None:
        ledger = Ledger.open(postgres_database.engine())
        with pytest.raises(ValueError, match="NUL"), ledger.write() as connection:
            ledger_queries.insert_leads(
                connection, ACCOUNT, SOURCE, [{"lead_id": "L\0", "generation": 1, "wish": "{}"}]
            )

    def test_two_processes_add_the_same_leads_in_any_order(self, ledger: Ledger, database: Database) -> None:
        leads = [{"lead_id": f"L{number}", "generation": 1} for number in range(300)]
        ledgers = [ledger, Ledger.open(database.engine())]

        def add(side: int) -> None:
            for _ in range(3):
                with ledgers[side].write() as connection:
                    ordered = leads if side else leads[::-1]
                    ledger_queries.insert_leads(connection, ACCOUNT, SOURCE, ordered)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(add, range(2)))
        with ledger.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(schema.leads)).scalar() == 300

    def test_who_holds_a_customer(self, ledger: Ledger) -> None:
        key, other = add_lead(ledger, "L1"), add_lead(ledger, "L2", source="another source")
        apply(ledger, capture_intent(key), captured(key, customer_id="C1"))
        apply(ledger, capture_intent(other), captured(other, customer_id="C1"))
        with ledger.read() as connection:
            found = ledger_queries.holders_of_customers(connection, ACCOUNT, ["C1", "C2"])
            assert ledger_queries.holders_of_customers(connection, "another shop", ["C1"]) == {}
        assert {customer: sorted(held) for customer, held in found.items()} == {
            "C1": [("another source", "L2"), (SOURCE, "L1")]
        }


class TestPages:
    def test_unfinished_are_captured_without_call_or_doubt(self, ledger: Ledger) -> None:
        states = ["new", "captured", "unassigned", "planned", "in_doubt", "booked", "rejected"]
        keys = {state: lead_in(ledger, state, state, seat=number) for number, state in enumerate(states)}
        lead_in(ledger, "capture_rejected", "capture_rejected")
        with ledger.read() as connection:
            found = ledger_queries.unfinished(connection, ACCOUNT, SOURCE, 0)
            assert [known.id for known in found] == [keys["captured"], keys["unassigned"]]
            rest = ledger_queries.unfinished(connection, ACCOUNT, SOURCE, keys["captured"])
            assert [known.id for known in rest] == [keys["unassigned"]]
            assert ledger_queries.unfinished(connection, ACCOUNT, "another source", 0) == []
            assert ledger_queries.unfinished(connection, "another shop", SOURCE, 0) == []
            owner = found[0].claim_owner
            assert owner is not None
            assert ledger_queries.unfinished(connection, ACCOUNT, SOURCE, 0, owner) == []
            assert len(ledger_queries.unfinished(connection, ACCOUNT, SOURCE, 0, "another run")) == 2

    def test_unwritten_are_those_with_news_that_are_not_under_way(self, ledger: Ledger) -> None:
        states = ["new", "captured", "planned", "sending", "in_doubt", "booked", "rejected"]
        states += ["capture_sending", "capture_rejected", "capture_in_doubt"]
        keys = {state: lead_in(ledger, state, state, seat=number) for number, state in enumerate(states)}
        with ledger.read() as connection:
            page = ledger_queries.unwritten(connection, ACCOUNT, SOURCE, 0)
        expected = {"captured", "in_doubt", "booked", "rejected", "capture_rejected", "capture_in_doubt"}
        assert {known.id for known in page} == {keys[state] for state in expected}
        with ledger.write() as connection:
            ledger_queries.mark_written(connection, [(known.id, known.change) for known in page])
            assert ledger_queries.unwritten(connection, ACCOUNT, SOURCE, 0) == []
            ledger_queries.mark_written(connection, [])

    def test_an_older_note_of_writing_does_not_undo_a_newer_one(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "booked")
        with ledger.write() as connection:
            ledger_queries.mark_written(connection, [(key, 2)])
            ledger_queries.mark_written(connection, [(key, 1)])
        assert record(ledger, key).written == 2


class TestTroubles:
    def test_doubts_are_counted_in_all_and_by_the_run_that_made_them(self, ledger: Ledger) -> None:
        lead_in(ledger, "in_doubt", "L1")
        other = lead_in(ledger, "sending", "L2", seat=2)
        with ledger.write() as connection:
            event = settled(other, Answer.UNKNOWN)
            ledger.apply(connection, ACCOUNT, [event])
            connection.execute(
                schema.leads.update().where(schema.leads.c.id == other).values(doubt_run="another run")
            )
        with ledger.read() as connection:
            assert ledger_queries.count_in_doubt(connection, ACCOUNT, SOURCE) == 2
            told = ledger_queries.troubles(connection, ACCOUNT, SOURCE, RUN, OWNER, 10)
            assert told.in_doubt == (1, ["L1"])
            assert ledger_queries.count_in_doubt(connection, ACCOUNT, "another source") == 0

    def test_which_seats_are_taken(self, ledger: Ledger) -> None:
        lead_in(ledger, "booked", "L1", seat=2)
        lead_in(ledger, "planned", "L2", seat=5)
        lead_in(ledger, "planned", "L3", slot=SLOT + 900)
        with ledger.read() as connection:
            taken = ledger_queries.seats_taken(connection, ACCOUNT, [SLOT, SLOT + 1800])
            assert ledger_queries.seats_taken(connection, "another shop", [SLOT]) == {}
        assert taken == {SLOT: {2, 5}}


def test_a_lead_id_is_as_long_as_the_table_says(ledger: Ledger) -> None:
    assert add_lead(ledger, "é" * 255) > 0
    with pytest.raises(KeyError):
        record(ledger, 0)
