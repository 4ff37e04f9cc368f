"""Leads that a single booking must leave alone, and two tasks at once."""

from __future__ import annotations

import shlex
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_popin.client.client import PopinClient
from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import admin, single
from airflow_provider_popin.sync.errors import LeadHeldError, LedgerGuardError
from airflow_provider_popin.sync.ledger import guards, leases, schema
from airflow_provider_popin.sync.ledger.events import Refused
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import Prior, RunIdentity
from airflow_provider_popin.sync.single import SingleBooking, book_one
from tests.sync.ledgers import (
    OWNER,
    SOURCE,
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
)
from tests.sync.single.support import NAME, PHONE, RUN, Book, later, schedules, state


class TestHeld:
    def test_a_customer_of_another_lead_is_refused(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer
    ) -> None:
        book()
        for changes in ({"lead_id": "L2"}, {"source": "another source"}):
            with pytest.raises(LeadHeldError, match="belongs to lead 'L1'") as caught:
                book(**changes)
            assert not caught.value.retry
        assert schedules(sandbox) == 1

    def test_another_customer_than_the_ledger_knows_is_refused(self, ledger: Ledger, book: Book) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key), captured(key, customer_id="Mw=="))
        with pytest.raises(LeadHeldError, match="under another customer_id") as caught:
            book()
        assert not caught.value.retry

    def test_a_lead_that_a_bulk_run_holds(
        self, ledger: Ledger, booking: SingleBooking, book: Book, sandbox: SandboxServer
    ) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key), captured(key, customer_id=booking.customer_id))
        with ledger.write() as connection:
            leases.renew_lease(connection, OWNER, "bulk", 60)
        with pytest.raises(LeadHeldError, match="held by a bulk run") as caught:
            book()
        assert caught.value.retry
        with ledger.write() as connection:
            leases.end_lease(connection, ledger, "shop", OWNER, "bulk")
        book()
        assert schedules(sandbox) == 1

    def test_a_plan_of_a_dead_run_is_taken_over(
        self, ledger: Ledger, booking: SingleBooking, book: Book
    ) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key), captured(key, customer_id=booking.customer_id))
        apply(ledger, planned(key))
        book()
        assert record(ledger, key).slot_start == int(booking.slot.start.timestamp())

    def test_a_booking_whose_process_died_is_a_doubt_that_a_person_can_end(
        self, ledger: Ledger, booking: SingleBooking, book: Book, sandbox: SandboxServer
    ) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key), captured(key, customer_id=booking.customer_id))
        apply(ledger, planned(key), booking_intent(key, timeout_seconds=-60))
        with pytest.raises(LeadHeldError, match=r"is in doubt \(no_outcome_recorded\)") as caught:
            book()
        assert not caught.value.retry
        assert [doubt["lead_id"] for doubt in admin.list_in_doubt(ledger)] == ["L1"]
        admin.resolve(
            ledger, source=SOURCE, lead_id="L1", generation=None, outcome="not-booked", who="ann", why="-"
        )
        book()
        assert len(sandbox.bookings()) == 1

    def test_what_a_killed_try_held_is_taken_over(
        self, ledger: Ledger, config: ClientConfig, booking: SingleBooking, book: Book
    ) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key), captured(key, customer_id=booking.customer_id), planned(key))
        with ledger.write() as connection:
            leases.renew_lease(connection, OWNER, RUN.dag_run, 60)
        with pytest.raises(LeadHeldError, match="held by a bulk run"):
            book()
        second = RunIdentity(dag_run=RUN.dag_run, try_number=2)
        assert book_one(ledger=ledger, config=config, booking=booking, run=second).time

    def test_a_source_of_the_bulk_job_keeps_its_column_of_lead_ids(self, ledger: Ledger, book: Book) -> None:
        guarded: Any = {"account": "shop", "source": SOURCE, "lead_id_column": "Id", "prior": Prior()}
        with ledger.write() as connection:
            guards.guard_source(connection, ledger, **guarded)
        book()
        with ledger.write() as connection:
            guards.guard_source(connection, ledger, **guarded)

    def test_a_lead_whose_row_was_refused_is_booked_all_the_same(self, ledger: Ledger, book: Book) -> None:
        key = add_lead(ledger)
        apply(ledger, Refused(key, "phone_letters", "print", "bulk"))
        book()
        assert state(ledger) == ("captured", "booked")

    def test_a_forgotten_lead(self, ledger: Ledger, booking: SingleBooking, book: Book) -> None:
        book()
        admin.forget(ledger, source=SOURCE, lead_id="L1")
        with pytest.raises(LeadHeldError, match="a time that was forgotten on request already") as caught:
            book()
        assert not caught.value.retry
        key = add_lead(ledger, "L2")
        apply(ledger, capture_intent(key), captured(key))
        admin.forget(ledger, source=SOURCE, lead_id="L2")
        with pytest.raises(LeadHeldError, match="was forgotten on request") as caught:
            book(lead_id="L2")
        assert not caught.value.retry

    def test_the_guards_hold_here_too(
        self, ledger: Ledger, config: ClientConfig, booking: SingleBooking, sandbox: SandboxServer
    ) -> None:
        with pytest.raises(LedgerGuardError, match="this task ran before"):
            book_one(ledger=ledger, config=config, booking=booking, run=RUN, prior=Prior(earlier_try=True))
        book_one(ledger=ledger, config=config, booking=booking, run=RUN)
        with pytest.raises(LedgerGuardError, match="under the Popin account"):
            book_one(ledger=ledger, config=replace(config, account="other"), booking=booking, run=RUN)
        assert schedules(sandbox) == 1

    def test_the_newest_generation_counts_but_no_time_is_booked_twice(
        self,
        ledger: Ledger,
        booking: SingleBooking,
        book: Book,
        config: ClientConfig,
        sandbox: SandboxServer,
    ) -> None:
        book()
        key = add_lead(ledger, generation=2)
        book()  # cleared and run again
        assert schedules(sandbox) == 1
        book(slot=later(booking, config))
        assert record(ledger, key).booking_state == "booked"

    @pytest.mark.parametrize("doubt", ["sending", "in_doubt"])
    def test_an_older_generation_whose_call_nobody_can_vouch_for_holds_the_newer_one(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer, doubt: str
    ) -> None:
        """A call that was refused and took place after all, as a late answer or a webhook tells."""
        lead_in(ledger, doubt)
        add_lead(ledger, generation=2)
        with pytest.raises(LeadHeldError, match=r"is being sent|is in doubt"):
            book(customer_id="C1")
        assert schedules(sandbox) == 0

    def test_the_booking_shows_no_customer_and_no_link(self, booking: SingleBooking) -> None:
        shown = repr(replace(booking, url="https://example.com/ann"))
        assert booking.customer_id not in shown
        assert "ann" not in shown

    def test_the_command_that_ends_a_doubt_can_be_copied_whatever_the_names_are(self) -> None:
        command = shlex.split(single.resolve_command("crm's leads", "L 1;").strip("`"))
        assert command[command.index("--source") + 1] == "crm's leads"
        assert command[command.index("--lead") + 1] == "L 1;"

    def test_several_calls_share_a_slot_by_their_number(
        self, ledger: Ledger, book: Book, config: ClientConfig, sandbox: SandboxServer
    ) -> None:
        sandbox.reset(seats_per_slot=2)
        with PopinClient(config) as client:
            customers = [client.capture(make_lead(name=NAME, mobile=PHONE)).customer_id for _ in range(2)]
        for number, customer_id in enumerate(customers, 1):
            book(lead_id=f"L{number}", customer_id=customer_id)
        assert sorted(number for _, number in seats(ledger).values()) == [1, 2]


class TestAtOnce:
    def test_until_its_intent_is_committed_a_lead_is_held_by_the_lease_of_this_try(
        self, ledger: Ledger, config: ClientConfig, booking: SingleBooking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[str, int, bool]] = []

        def look() -> float:
            with ledger.read() as connection:
                live = leases.live_owners(connection)
                for owner, _, run, try_number in connection.execute(schema.owners.select()):
                    seen.append((run, try_number, owner in live))
            return boot_seconds()

        monkeypatch.setattr(single, "boot_seconds", look)
        third = RunIdentity(dag_run="dag/run 1/book", try_number=3)
        book_one(ledger=ledger, config=config, booking=booking, run=third)
        # Before the intent, and before it is sent.
        assert seen == [("dag/run 1/book", 3, True)] * 2

    def test_two_tasks_book_one_call(
        self,
        ledger: Ledger,
        database: Database,
        config: ClientConfig,
        booking: SingleBooking,
        sandbox: SandboxServer,
    ) -> None:
        ledgers = [ledger, Ledger.open(database.engine())]
        start = threading.Barrier(2)

        def book(side: int) -> str:
            start.wait()
            try:
                call = book_one(ledger=ledgers[side], config=config, booking=booking, run=RUN)
            except LeadHeldError as error:
                return "held, try again" if error.retry else str(error)
            return "booked" if call.time else "booked before"

        with ThreadPoolExecutor(2) as pool:
            told = sorted(pool.map(book, range(2)))
        assert told in (["booked", "held, try again"], ["booked", "booked before"])
        assert len(sandbox.bookings()) == schedules(sandbox) == 1

    def test_a_claim_that_is_lost_at_the_last_moment(
        self, ledger: Ledger, book: Book, monkeypatch: pytest.MonkeyPatch, sandbox: SandboxServer
    ) -> None:
        monkeypatch.setattr(ledger, "apply", lambda *_: [False])
        with pytest.raises(LeadHeldError, match="taken by another task just now") as caught:
            book()
        assert caught.value.retry
        assert schedules(sandbox) == 0
