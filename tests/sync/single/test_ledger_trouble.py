"""A single booking whose ledger, process or permit is held up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import (
    PopinNotSentError,
)
from airflow_provider_popin.client.limits import limiter_for
from airflow_provider_popin.client.requests_sender import RequestsSender
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import single
from airflow_provider_popin.sync.errors import LeadHeldError, LedgerError
from airflow_provider_popin.sync.ledger import database as database_module
from airflow_provider_popin.sync.ledger import leases
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.single import SingleBooking, book_one
from tests.sync.ledgers import (
    Database,
    record,
)
from tests.sync.single.support import RUN, Book, schedules, state
from tests.waiting import PATIENCE_SECONDS


@contextmanager
def locked_while_answering(sandbox: SandboxServer, database: Database) -> Iterator[threading.Event]:
    """Hold the write lock from the moment Popin has the request until the event is set."""
    release = threading.Event()
    other = Ledger.open(database.engine())

    def hold() -> None:
        while not sandbox.requests(endpoint="schedule"):
            release.wait(0.005)
        with other.write():
            release.wait(PATIENCE_SECONDS)

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
        monkeypatch.setattr(database_module, "SQLITE_BUSY_SECONDS", 0.05)

    def test_an_outcome_is_offered_until_the_ledger_takes_it(
        self,
        sqlite_database: Database,
        config: ClientConfig,
        booking: SingleBooking,
        sandbox: SandboxServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ledger = Ledger.open(sqlite_database.engine())
        sandbox.set_faults("schedule:slow_before_commit(0.8)@1")
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
        sandbox.set_faults("schedule:slow_before_commit(0.8)@1")
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

    @pytest.mark.parametrize("late", [(0.0, 2.1), (-7.1, -7.1)], ids=["before it connects", "while it does"])
    def test_a_process_that_was_held_up_does_not_send(
        self,
        ledger: Ledger,
        book: Book,
        monkeypatch: pytest.MonkeyPatch,
        sandbox: SandboxServer,
        late: tuple[float, float],
    ) -> None:
        now = boot_seconds()
        moments = iter([now + seconds for seconds in late])
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
    slow = replace(config, requests_per_second=1.0)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        with sqlite_ledger.read() as connection:
            assert leases.live_owners(connection) == frozenset()
        time.sleep(seconds)

    monkeypatch.setattr(single, "time", SimpleNamespace(sleep=sleep))
    limiter = limiter_for(slow)
    while limiter.try_acquire() <= 0:
        pass  # somebody else has just used the last permit
    assert book_one(ledger=sqlite_ledger, config=slow, booking=booking, run=RUN).time
    assert waited
    assert max(waited) <= 1.0
