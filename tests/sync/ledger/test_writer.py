"""Group commit: who is written together, in which order, and who hears what."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import sqlalchemy as sa
from pytest_mock import MockerFixture, MockType
from sqlalchemy.engine import Connection

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.sync.errors import LedgerError, LedgerRolledBackError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger import database as database_module
from airflow_provider_popin.sync.ledger import record_sql
from airflow_provider_popin.sync.ledger.events import Answer
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.ledger.writer import (
    ANSWERS_AT_ONCE,
    ANSWERS_OF_ONE_WORKER,
    MOST_EVENTS,
    Writer,
    _deliver,
)
from tests.sync.ledgers import (
    ACCOUNT,
    Database,
    add_lead,
    booking_intent,
    capture_intent,
    captured,
    lead_in,
    planned,
    record,
    settled,
)
from tests.waiting import PATIENCE_SECONDS


@dataclass
class Commits:
    """Counts the transactions of an engine."""

    count: int = 0


@contextmanager
def counted(ledger: Ledger) -> Iterator[Commits]:
    commits = Commits()

    def commit(_: Connection) -> None:
        commits.count += 1

    sa.event.listen(ledger.engine, "commit", commit)
    yield commits
    sa.event.remove(ledger.engine, "commit", commit)


@asynccontextmanager
async def writing(ledger: Ledger) -> AsyncIterator[Writer]:
    writer = Writer(ledger, ACCOUNT)
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.close)


def held(writer: Writer) -> threading.Event:
    """Keep the thread that writes events, until what is returned is set: what is handed in gathers."""
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        leave.wait(PATIENCE_SECONDS)

    writer._events.submit(wait)
    assert entered.wait(PATIENCE_SECONDS)
    return leave


@asynccontextmanager
async def busy(writer: Writer) -> AsyncIterator[None]:
    """Have everything gather that is handed in meanwhile."""
    leave = await asyncio.to_thread(held, writer)
    try:
        yield
    finally:
        leave.set()


def backend_of(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _told(telling: MockType) -> list[int]:
    """How many answers the loop was given at a time."""
    return [len(call.args[2]) for call in telling.call_args_list if call.args[0] is _deliver]


class TestGroups:
    async def test_what_gathers_while_it_writes_shares_one_commit(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(20)]
        async with writing(ledger) as writer:
            with counted(ledger) as commits:
                async with busy(writer):
                    waiting = [writer.apply(capture_intent(key)) for key in keys]
                answers = await asyncio.gather(*waiting)
            assert commits.count == 1
        assert [accepted for accepted, _ in answers] == [True] * 20
        assert all(record(ledger, key).capture_state == "sending" for key in keys)

    async def test_workers_are_told_one_by_one(self, ledger: Ledger, mocker: MockerFixture) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(20)]
        async with writing(ledger) as writer:
            async with busy(writer):
                waiting = [writer.apply(capture_intent(key)) for key in keys]
                telling = mocker.spy(asyncio.get_running_loop(), "call_soon_threadsafe")
            answers = await asyncio.gather(*waiting)
        assert [accepted for accepted, _ in answers] == [True] * 20
        assert _told(telling) == [ANSWERS_OF_ONE_WORKER] * 10

    async def test_where_more_is_to_be_written_answers_are_given_a_few_in_each_turn_of_the_loop(
        self, ledger: Ledger, mocker: MockerFixture
    ) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(MOST_EVENTS + 1)]
        given: list[int] = []
        async with writing(ledger) as writer:
            async with busy(writer):
                waiting = [writer.apply(capture_intent(key)) for key in keys]
                telling = mocker.spy(asyncio.get_running_loop(), "call_soon_threadsafe")
            while not given or given[-1] < MOST_EVENTS:
                await asyncio.sleep(0)
                given.append(sum(answer.done() for answer in waiting[:MOST_EVENTS]))
            await asyncio.gather(*waiting)
        steps = [after - before for before, after in pairwise([0, *given])]
        assert 0 < max(steps) <= ANSWERS_AT_ONCE
        assert _told(telling) == [MOST_EVENTS, 1]

    async def test_an_outcome_and_the_next_intent_share_one_commit(self, ledger: Ledger) -> None:
        done, following = lead_in(ledger, "sending", "L1"), lead_in(ledger, "planned", "L2", seat=2)
        async with writing(ledger) as writer:
            with counted(ledger) as commits:
                async with busy(writer):
                    # Handed in at once, although nobody waits for them yet.
                    outcome = writer.apply(settled(done, Answer.SUCCESS))
                    intent = writer.apply(booking_intent(following))
                assert (await outcome)[0]
                assert (await intent)[0]
            assert commits.count == 1

    async def test_events_are_applied_in_the_order_they_came(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        async with writing(ledger) as writer, busy(writer):
            waiting = [
                writer.apply(event)
                for event in (
                    capture_intent(key),
                    captured(key),
                    planned(key),
                    booking_intent(key),
                    settled(key, Answer.SUCCESS),
                )
            ]
        assert [(await answer)[0] for answer in waiting] == [True, True, True, True, True]
        assert record(ledger, key).booking_state == "booked"

    async def test_an_answer_is_given_after_the_commit(self, ledger: Ledger, database: Database) -> None:
        key = add_lead(ledger)
        other = Ledger.open(database.engine())
        async with writing(ledger) as writer:
            before = boot_seconds()
            accepted, started = await writer.apply(capture_intent(key))
            assert accepted
            assert before <= started <= boot_seconds()
            assert record(other, key).capture_state == "sending"

    async def test_nobody_is_told_while_the_commit_is_under_way(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        told_early: list[bool] = []
        answers: list[asyncio.Future[tuple[bool, float]]] = []

        def commit(_: Connection) -> None:
            time.sleep(0.1)  # in the writer's thread: the loop could pass the answer on
            told_early.append(any(answer.done() for answer in answers))

        async with writing(ledger) as writer:
            sa.event.listen(ledger.engine, "commit", commit)
            answers.append(writer.apply(capture_intent(key)))
            assert (await answers[0])[0]
            sa.event.remove(ledger.engine, "commit", commit)
        assert told_early == [False]

    async def test_the_clock_of_an_intent_is_from_before_its_transaction(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        async with writing(ledger) as writer:
            async with busy(writer):
                handed_in = boot_seconds()
                waiting = writer.apply(capture_intent(key))
                await asyncio.sleep(0.05)
            _, started = await waiting
        assert started >= handed_in + 0.05

    async def test_call_is_a_transaction_of_its_own(self, ledger: Ledger) -> None:
        async with writing(ledger) as writer:
            with counted(ledger) as commits:
                assert await writer.call(lambda connection: connection.in_transaction()) is True
            assert commits.count == 1


class TestCalls:
    """Transactions of more than one lead's step: admission, plans, leases."""

    @pytest.mark.postgres
    async def test_on_postgres_no_answer_waits_for_them(self, postgres_database: Database) -> None:
        ledger = Ledger.open(postgres_database.engine())
        key = add_lead(ledger)
        async with writing(ledger) as writer:
            entered, leave = threading.Event(), threading.Event()

            def work(_: Connection) -> bool:
                entered.set()
                return leave.wait(PATIENCE_SECONDS)

            calling = asyncio.create_task(writer.call(work))
            assert await asyncio.to_thread(entered.wait, 10)
            try:
                assert (await asyncio.wait_for(writer.apply(capture_intent(key)), 5))[0]
                assert not calling.done()
            finally:
                leave.set()
            assert await calling

    async def test_on_sqlite_no_second_writer_waits_for_the_lock(self, sqlite_database: Database) -> None:
        ledger = Ledger.open(sqlite_database.engine())
        async with writing(ledger) as writer:
            async with busy(writer):
                calling = asyncio.create_task(writer.call(lambda _: threading.current_thread().name))
                await asyncio.sleep(0.05)
                assert not calling.done()
            assert "events" in await calling

    async def test_close_makes_those_that_wait(self, ledger: Ledger) -> None:
        key = add_lead(ledger)
        writer = Writer(ledger, ACCOUNT)
        leave = threading.Event()
        first = asyncio.create_task(writer.call(lambda _: leave.wait(PATIENCE_SECONDS)))
        second = asyncio.create_task(
            writer.call(lambda connection: ledger.apply(connection, ACCOUNT, [capture_intent(key)]))
        )
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(asyncio.to_thread(writer.close))
        await asyncio.sleep(0.05)
        assert not closing.done()
        leave.set()
        await closing
        assert await first
        assert await second == [True]
        assert record(ledger, key).capture_state == "sending"


class TestFailures:
    async def test_what_was_rolled_back_to_end_a_deadlock_is_written(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With records that it knew, changed before the database said no; see test_ledger_thread, too."""
        key = add_lead(ledger)
        real, tries = record_sql.write_unless_changed, iter([LedgerRolledBackError("rolled back")])

        def write(connection: Connection, changes: Sequence[record_sql.Change]) -> set[int]:
            for error in tries:
                raise error
            return real(connection, changes)

        monkeypatch.setattr(record_sql, "write_unless_changed", write)
        async with writing(ledger) as writer:
            writer.remember([record(ledger, key)])
            assert (await writer.apply(capture_intent(key)))[0]
        assert next(tries, None) is None
        found = record(ledger, key)
        assert (found.capture_state, found.attempt) == ("sending", 1)

    @pytest.mark.postgres
    async def test_nul_does_not_take_its_neighbours(self, postgres_database: Database) -> None:
        """SQLite stores it."""
        await self._one_is_poison(Ledger.open(postgres_database.engine()), "C\0")

    async def test_half_a_character_does_not_take_its_neighbours(self, ledger: Ledger) -> None:
        await self._one_is_poison(ledger, "C\ud800")

    async def _one_is_poison(self, ledger: Ledger, poison: str) -> None:
        keys = [lead_in(ledger, "capture_sending", f"L{number}") for number in range(3)]
        async with writing(ledger) as writer:
            async with busy(writer):
                waiting = [
                    writer.apply(captured(key, customer_id=poison if number == 1 else f"C{key}"))
                    for number, key in enumerate(keys)
                ]
            told = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(told[1], LedgerError)
        assert not isinstance(told[1], LedgerUnreachableError)
        assert poison not in str(told[1])
        assert [answer[0] for answer in (told[0], told[2]) if isinstance(answer, tuple)] == [True, True]
        assert [record(ledger, key).capture_state for key in keys] == ["captured", "sending", "captured"]

    @pytest.mark.postgres
    async def test_text_that_is_too_long_does_not_take_its_neighbours(
        self, postgres_database: Database
    ) -> None:
        ledger = Ledger.open(postgres_database.engine())
        good, bad = lead_in(ledger, "captured", "L1"), lead_in(ledger, "captured", "L2")
        async with writing(ledger) as writer:
            async with busy(writer):
                first = writer.apply(replace(planned(bad, seat=2), slot_timezone="Z" * 65))
                second = writer.apply(planned(good))
            with pytest.raises(LedgerError, match="too long"):
                await first
            assert (await second)[0]

    async def test_a_locked_database_fails_all_that_share_the_transaction(
        self, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database_module, "SQLITE_BUSY_SECONDS", 0.05)
        ledger, other = Ledger.open(sqlite_database.engine()), Ledger.open(sqlite_database.engine())
        keys = [add_lead(ledger, f"L{number}") for number in range(2)]
        async with writing(ledger) as writer:
            with other.write():
                waiting = [writer.apply(capture_intent(key)) for key in keys]
                told = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in told] == [LedgerUnreachableError] * 2
            # On a fresh connection, as soon as the database answers again.
            assert (await writer.apply(capture_intent(keys[0])))[0]

    @pytest.mark.postgres
    async def test_a_lost_connection_is_replaced(self, postgres_database: Database) -> None:
        ledger = Ledger.open(postgres_database.engine())
        key = add_lead(ledger)
        async with writing(ledger) as writer:
            process = await asyncio.wrap_future(
                writer._events.submit(lambda: writer._events.transact(backend_of))
            )
            with ledger.engine.connect() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({process})")
            with pytest.raises(LedgerUnreachableError):
                await writer.apply(capture_intent(key))
            assert (await writer.apply(capture_intent(key)))[0]

    async def test_an_error_of_the_work_itself_is_passed_on(self, ledger: Ledger) -> None:
        def fail(_: Connection) -> None:
            raise ZeroDivisionError

        async with writing(ledger) as writer:
            with pytest.raises(ZeroDivisionError):
                await writer.call(fail)
            assert await writer.call(lambda _: 7) == 7

    async def test_an_unforeseen_error_is_told_to_everybody(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(2)]

        def fail(*_: object) -> list[bool]:
            raise ZeroDivisionError

        async with writing(ledger) as writer:
            with monkeypatch.context() as patch:
                patch.setattr(ledger, "apply", fail)
                async with busy(writer):
                    waiting = [writer.apply(capture_intent(key)) for key in keys]
                told = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in told] == [ZeroDivisionError] * 2
            assert (await writer.apply(capture_intent(keys[0])))[0]


class TestEnds:
    async def test_who_no_longer_waits_is_written_all_the_same(self, ledger: Ledger) -> None:
        gone, stays = add_lead(ledger, "L1"), add_lead(ledger, "L2")
        async with writing(ledger) as writer:
            async with busy(writer):
                cancelled = writer.apply(capture_intent(gone))
                waiting = writer.apply(capture_intent(stays))
                cancelled.cancel()
            assert (await waiting)[0]
        # Its intent is durable: unanswered, it will be in doubt, and nobody sends it twice.
        assert record(ledger, gone).capture_state == "sending"

    async def test_close_writes_what_was_handed_in(self, ledger: Ledger) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(5)]
        writer = Writer(ledger, ACCOUNT)
        leave = await asyncio.to_thread(held, writer)
        waiting = [writer.apply(capture_intent(key)) for key in keys]
        closing = asyncio.create_task(asyncio.to_thread(writer.close))
        leave.set()
        await closing
        assert [accepted for accepted, _ in await asyncio.gather(*waiting)] == [True] * 5
        assert all(record(ledger, key).capture_state == "sending" for key in keys)

    def test_a_loop_that_is_gone_leaves_nothing_unwritten(self, ledger: Ledger) -> None:
        """More than one transaction holds, so that the writer goes on after it could not answer."""
        keys = [add_lead(ledger, f"L{number}") for number in range(2 * MOST_EVENTS + 1)]
        writer = Writer(ledger, ACCOUNT)
        leave = held(writer)
        loop = asyncio.new_event_loop()

        async def hand_in() -> None:
            for key in keys:
                writer.apply(capture_intent(key))

        loop.run_until_complete(hand_in())
        loop.close()
        leave.set()
        writer.close()
        assert {record(ledger, key).capture_state for key in keys} == {"sending"}

    async def test_a_writer_that_never_wrote_closes(self, ledger: Ledger) -> None:
        async with writing(ledger):
            pass
