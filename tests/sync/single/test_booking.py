"""One booking under the ledger, against the sandbox: what each answer of Popin leads to."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_provider_popin.client.client import PopinClient
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import (
    PopinAccessError,
    PopinNotSentError,
    PopinOutcomeUnknownError,
    PopinRateLimitError,
    PopinRejectedError,
)
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import admin, single
from airflow_provider_popin.sync.errors import LeadHeldError
from airflow_provider_popin.sync.ledger import leases
from airflow_provider_popin.sync.ledger.events import Answer
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.single import SingleBooking, book_one
from tests.conftest import API_KEY
from tests.privacy import assert_no_personal_data
from tests.sync.ledgers import (
    SOURCE,
    add_lead,
    apply,
    booking_intent,
    capture_intent,
    captured,
    claim,
    dump,
    planned,
    record,
    seats,
    settled,
)
from tests.sync.single.support import EMAIL, NAME, PHONE, RUN, Book, later, schedules, state


class TestBooked:
    def test_the_call_is_booked_and_the_ledger_knows(
        self, ledger: Ledger, booking: SingleBooking, book: Book, sandbox: SandboxServer
    ) -> None:
        call = book(agent=210, native=False, url="https://example.com/ring")
        assert (call.timezone, call.incomplete) == ("Asia/Kolkata", False)
        (booked,) = sandbox.bookings()
        assert (booked["time"], booked["agent"]) == (booking.slot.time, 210)
        assert booked["join_url"] == "https://example.com/ring"
        (line,) = admin.export(ledger)
        assert (line["booking"], line["slot"]) == ("booked", booking.slot.time)
        assert line["customer_id"] == booking.customer_id
        assert line["run"] == RUN.dag_run
        assert len(seats(ledger)) == 1

    def test_the_same_again_sends_nothing(self, book: Book, sandbox: SandboxServer) -> None:
        book()
        again = book()
        assert (again.time, again.timezone, again.incomplete) == (None, "Asia/Kolkata", False)
        assert schedules(sandbox) == 1

    def test_another_time_is_refused(
        self, booking: SingleBooking, book: Book, config: ClientConfig, sandbox: SandboxServer
    ) -> None:
        book()
        with pytest.raises(LeadHeldError, match="never moved") as caught:
            book(slot=later(booking, config))
        assert not caught.value.retry
        assert booking.slot.time in str(caught.value)
        assert schedules(sandbox) == 1

    def test_the_lease_is_given_back(self, ledger: Ledger, book: Book) -> None:
        book()
        with ledger.read() as connection:
            assert leases.live_owners(connection) == frozenset()

    def test_a_reply_without_its_parts_is_booked(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer
    ) -> None:
        sandbox.set_faults("schedule:missing_parts")
        assert book().incomplete
        assert record(ledger, 1).reply_incomplete

    def test_a_reply_that_names_another_time_is_booked_and_fails(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer
    ) -> None:
        sandbox.set_faults("schedule:wrong_time@1")
        with pytest.raises(LeadHeldError, match="confirmed another time") as caught:
            book()
        assert not caught.value.retry
        assert state(ledger) == ("captured", "booked")
        assert record(ledger, 1).time_mismatch
        with pytest.raises(LeadHeldError) as again:
            book()
        assert (str(again.value), again.value.retry) == (str(caught.value), False)
        assert schedules(sandbox) == 1

    def test_a_higher_generation_that_has_the_asked_time_is_booked(
        self, ledger: Ledger, booking: SingleBooking, book: Book, sandbox: SandboxServer
    ) -> None:
        sandbox.set_faults("schedule:wrong_time@1")
        with pytest.raises(LeadHeldError, match="confirmed another time"):
            book()
        key = add_lead(ledger, generation=2)
        start = int(booking.slot.start.timestamp())
        apply(ledger, capture_intent(key), captured(key, customer_id=booking.customer_id))
        apply(ledger, planned(key, slot=start, seat=2), booking_intent(key))
        apply(ledger, settled(key, Answer.SUCCESS, slot=start))
        assert book().time is None
        assert schedules(sandbox) == 1

    def test_nothing_personal_is_kept(self, ledger: Ledger, book: Book) -> None:
        book()
        assert_no_personal_data(dump(ledger), [NAME, PHONE, EMAIL, API_KEY])

    def test_a_lead_of_the_bulk_job_is_booked_by_its_own_record(
        self, ledger: Ledger, booking: SingleBooking, book: Book
    ) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key))
        with pytest.raises(LeadHeldError, match="being sent by another task") as caught:
            book()
        assert caught.value.retry
        apply(ledger, captured(key, customer_id=booking.customer_id))
        book()
        assert [line["booking"] for line in admin.export(ledger)] == ["booked"]

    def test_the_wish_of_the_bulk_job_outlives_a_booking_that_was_not_sent(
        self, ledger: Ledger, booking: SingleBooking, book: Book, sandbox: SandboxServer
    ) -> None:
        key = add_lead(ledger)
        apply(ledger, capture_intent(key), captured(key, customer_id=booking.customer_id), claim(key, 1))
        sandbox.set_faults("schedule:429(0)@1")
        with pytest.raises(PopinRateLimitError):
            book()
        left = record(ledger, key)
        assert (left.booking_state, left.wish, left.fingerprint) == ("waiting", "{}", "print")
        sandbox.set_faults("schedule:422(agent)@1")
        with pytest.raises(PopinRejectedError):
            book()
        sandbox.set_faults("schedule:429(0)@1")
        with pytest.raises(PopinRateLimitError):
            book()
        assert record(ledger, key).booking_state == "waiting"
        book()
        assert record(ledger, key).booking_state == "booked"


class TestNotBooked:
    def test_in_doubt_is_held_until_a_person_resolves_it(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer
    ) -> None:
        sandbox.set_faults("schedule:500_before_commit@1")
        with pytest.raises(PopinOutcomeUnknownError):
            book()
        assert state(ledger) == ("captured", "in_doubt")
        with pytest.raises(LeadHeldError, match="in doubt") as caught:
            book()
        assert not caught.value.retry
        assert f"in-doubt resolve --source {SOURCE} --lead L1 --outcome" in str(caught.value)
        assert schedules(sandbox) == 1
        admin.resolve(
            ledger, source=SOURCE, lead_id="L1", generation=None, outcome="not-booked", who="ann", why="-"
        )
        book()
        assert len(sandbox.bookings()) == 1

    @pytest.mark.parametrize(
        "fault", ["reset_after_commit", "500_after_commit", "cut_body", "html_after_commit"]
    )
    def test_a_lost_answer_is_never_sent_again(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer, fault: str
    ) -> None:
        sandbox.set_faults(f"schedule:{fault}@1")
        with pytest.raises(PopinOutcomeUnknownError):
            book()
        with pytest.raises(LeadHeldError):
            book()
        assert len(sandbox.bookings()) == 1
        assert len(seats(ledger)) == 1

    def test_what_was_not_sent_may_be_sent_again(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer
    ) -> None:
        sandbox.stop_listening()
        try:
            with pytest.raises(PopinNotSentError):
                book()
        finally:
            sandbox.start_listening()
        assert state(ledger) == ("captured", "waiting")
        assert seats(ledger) == {}
        book()
        assert len(sandbox.bookings()) == 1

    def test_a_wrong_key_blames_nobody(
        self, ledger: Ledger, config: ClientConfig, booking: SingleBooking
    ) -> None:
        with pytest.raises(PopinAccessError):
            book_one(ledger=ledger, config=replace(config, api_key="wrong"), booking=booking, run=RUN)
        assert state(ledger) == ("captured", "waiting")

    @pytest.mark.parametrize(("asked", "waited"), [(30, 30.0), (7200, 120.0)])
    def test_a_wait_that_popin_asks_for_is_one_for_all_calls_of_the_account_within_the_limit(
        self,
        ledger: Ledger,
        book: Book,
        sandbox: SandboxServer,
        monkeypatch: pytest.MonkeyPatch,
        asked: int,
        waited: float,
    ) -> None:
        penalties: list[float] = []
        limiter = SimpleNamespace(try_acquire=lambda: 0.0, penalize=penalties.append)
        monkeypatch.setattr(single, "limiter_for", lambda _: limiter)
        sandbox.set_faults(f"schedule:429({asked})@1")
        with pytest.raises(PopinRateLimitError):
            book()
        assert penalties == [waited]
        assert state(ledger) == ("captured", "waiting")

    @pytest.mark.parametrize("refusal", ["422", "status0"])
    def test_a_taken_slot_is_given_up_and_another_may_be_booked(
        self,
        ledger: Ledger,
        book: Book,
        booking: SingleBooking,
        config: ClientConfig,
        sandbox: SandboxServer,
        refusal: str,
    ) -> None:
        with PopinClient(config) as client:
            client.schedule(booking.customer_id, booking.slot.time)
        other = later(booking, config)
        sandbox.set_faults(*(["schedule:422_no_field@1"] if refusal == "status0" else []))
        with pytest.raises(PopinRejectedError):
            book()
        assert state(ledger) == ("captured", "waiting")
        assert seats(ledger) == {}
        book(slot=other)
        assert state(ledger) == ("captured", "booked")

    def test_a_rejected_lead_may_be_tried_again(
        self, ledger: Ledger, book: Book, sandbox: SandboxServer
    ) -> None:
        sandbox.set_faults("schedule:422(agent)@1")
        with pytest.raises(PopinRejectedError):
            book(agent=1)
        assert state(ledger) == ("captured", "rejected")
        book(agent=210)
        assert state(ledger) == ("captured", "booked")
