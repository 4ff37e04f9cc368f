"""One booking under the ledger, against the sandbox."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

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
from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.models import ScheduledCall, Slot
from airflow_provider_popin.client.requests_sender import RequestsSender
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import admin, ledger_queries, single
from airflow_provider_popin.sync import ledger as ledger_module
from airflow_provider_popin.sync.errors import LeadHeldError, LedgerError, LedgerGuardError
from airflow_provider_popin.sync.events import Refused
from airflow_provider_popin.sync.ledger import Ledger
from airflow_provider_popin.sync.settings import Prior, RunIdentity
from airflow_provider_popin.sync.single import SingleBooking, book_one
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.privacy import assert_no_personal_data, register_personal
from tests.sync.ledgers import (
    OWNER,
    SOURCE,
    Database,
    add_lead,
    apply,
    capture_intent,
    captured,
    dump,
    planned,
    record,
    seats,
)

NAME, PHONE, EMAIL = "Zelda Exampleson", "+919876512399", "zelda@example.com"
register_personal(NAME, PHONE, EMAIL)
RUN = RunIdentity(dag_run="dag/run 1/book", try_number=1)


@pytest.fixture
def config(sandbox: SandboxServer) -> ClientConfig:
    return ClientConfig(
        base_url=sandbox.url,
        seller_token=SELLER_TOKEN,
        api_key=API_KEY,
        account="shop",
        timeout_seconds=5,
        requests_per_second=0,
    )


@pytest.fixture
def booking(config: ClientConfig) -> SingleBooking:
    """Return the first free slot for a lead that was captured at Popin, unknown to the ledger."""
    with PopinClient(config) as client:
        customer = client.capture(make_lead(name=NAME, mobile=PHONE, email=EMAIL))
        calendar = client.get_slots()
    return SingleBooking(
        source=SOURCE,
        lead_id="L1",
        customer_id=customer.customer_id,
        slot=calendar.slots[3],
        timezone=calendar.timezone,
    )


Book = Callable[..., ScheduledCall]


@pytest.fixture
def book(ledger: Ledger, config: ClientConfig, booking: SingleBooking) -> Book:
    """Return ``book(**changes of the booking)``."""

    def book(**changes: Any) -> ScheduledCall:
        return book_one(ledger=ledger, config=config, booking=replace(booking, **changes), run=RUN)

    return book


def state(ledger: Ledger) -> tuple[str, str]:
    (line,) = admin.export(ledger)
    return str(line["capture"]), str(line["booking"])


def schedules(sandbox: SandboxServer) -> int:
    return len(sandbox.requests(endpoint="schedule"))


def later(booking: SingleBooking, config: ClientConfig) -> Slot:
    with PopinClient(config) as client:
        return next(slot for slot in client.get_slots().slots if slot.start > booking.slot.start)


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
        assert (again.time, again.timezone) == (None, "Asia/Kolkata")
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
            assert ledger_queries.live_owners(connection) == frozenset()

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
        apply(ledger, capture_intent(key), captured(key, customer_id=booking.customer_id))
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
            ledger_queries.renew_lease(connection, OWNER, "bulk", 60)
        with pytest.raises(LeadHeldError, match="held by a bulk run") as caught:
            book()
        assert caught.value.retry
        with ledger.write() as connection:
            ledger_queries.end_lease(connection, ledger, "shop", OWNER, "bulk")
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
        with pytest.raises(LedgerGuardError, match="another Popin account"):
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

    def test_the_booking_shows_no_customer(self, booking: SingleBooking) -> None:
        assert booking.customer_id not in repr(booking)

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


@contextmanager
def locked_while_answering(sandbox: SandboxServer, database: Database) -> Iterator[threading.Event]:
    """Hold the write lock from the moment Popin has the request until the event is set."""
    release = threading.Event()
    other = Ledger.open(database.engine())

    def hold() -> None:
        while not sandbox.requests(endpoint="schedule"):
            release.wait(0.005)
        with other.write():
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield release
    finally:
        release.set()
        holder.join()


class TestLedgerTrouble:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger_module, "SQLITE_BUSY_SECONDS", 0.05)

    def test_an_outcome_is_offered_until_the_ledger_takes_it(
        self,
        sqlite_database: Database,
        config: ClientConfig,
        booking: SingleBooking,
        sandbox: SandboxServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ledger = Ledger.open(sqlite_database.engine())
        sandbox.set_faults("schedule:slow_before_commit(0.2)@1")
        with locked_while_answering(sandbox, sqlite_database) as release:
            # The second offer finds the lock gone.
            monkeypatch.setattr(single, "time", SimpleNamespace(sleep=lambda _: release.set()))
            assert book_one(ledger=ledger, config=config, booking=booking, run=RUN).time
        assert state(ledger) == ("captured", "booked")

    def test_an_outcome_that_is_never_taken_ends_in_doubt(
        self,
        sqlite_database: Database,
        config: ClientConfig,
        booking: SingleBooking,
        sandbox: SandboxServer,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(single, "KEEP_PAUSES_SECONDS", (0.0,))
        ledger = Ledger.open(sqlite_database.engine())
        sandbox.set_faults("schedule:slow_before_commit(0.2)@1")
        with (
            locked_while_answering(sandbox, sqlite_database),
            pytest.raises(LedgerError, match="it will be in doubt") as caught,
        ):
            book_one(ledger=ledger, config=config, booking=booking, run=RUN)
        assert booking.customer_id in str(caught.value)
        assert booking.slot.time in str(caught.value)
        assert "could not be given back" in caplog.text
        assert state(ledger) == ("captured", "sending")
        with pytest.raises(LeadHeldError, match="being sent by another task"):
            book_one(ledger=ledger, config=config, booking=booking, run=RUN)

    def test_whatever_happens_after_the_intent_is_a_doubt(
        self, ledger: Ledger, book: Book, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(RequestsSender, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            book()
        assert state(ledger) == ("captured", "in_doubt")
        assert record(ledger, 1).reason == "unforeseen KeyboardInterrupt"

    def test_a_process_that_was_held_up_does_not_send(
        self, ledger: Ledger, book: Book, monkeypatch: pytest.MonkeyPatch, sandbox: SandboxServer
    ) -> None:
        moments = iter([100.0, 102.1])
        monkeypatch.setattr(single, "boot_seconds", lambda: next(moments))
        with pytest.raises(PopinNotSentError, match="too_late"):
            book()
        assert schedules(sandbox) == 0
        assert state(ledger) == ("captured", "waiting")


def test_a_permit_is_waited_for_before_the_lead_is_held(
    sqlite_ledger: Ledger,
    config: ClientConfig,
    booking: SingleBooking,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = replace(config, requests_per_second=50.0)
    waited: list[float] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        with sqlite_ledger.read() as connection:
            assert ledger_queries.live_owners(connection) == frozenset()
        real(seconds)

    monkeypatch.setattr(single, "time", SimpleNamespace(sleep=sleep))
    book_one(ledger=sqlite_ledger, config=slow, booking=booking, run=RUN)
    for _ in range(3):
        book_one(ledger=sqlite_ledger, config=slow, booking=booking, run=RUN)
    assert waited
    assert max(waited) <= 0.05
