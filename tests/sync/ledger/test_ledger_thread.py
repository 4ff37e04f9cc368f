"""A thread that writes: what was rolled back, lost connections, its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.errors import LedgerError, LedgerRolledBackError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger.ledger import Ledger, locked
from airflow_provider_popin.sync.ledger.ledger_thread import ROLLBACKS_FORGIVEN, LedgerThread
from tests.postgres import DRIVER
from tests.sync.ledgers import ACCOUNT, Database, add_lead, capture_intent, record
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def thread(ledger: Ledger) -> Iterator[LedgerThread]:
    thread = LedgerThread(ledger, "under-test")
    yield thread
    thread.close()


def test_work_is_done_in_order_and_in_one_thread(thread: LedgerThread) -> None:
    done: list[int] = []
    futures = [thread.submit(partial(done.append, number)) for number in range(20)]
    names = {thread.submit(lambda: threading.current_thread().name).result(10) for _ in range(3)}
    assert [future.result(10) for future in futures] == [None] * 20
    assert done == list(range(20))
    assert len(names) == 1


def test_one_connection_serves_many_transactions(thread: LedgerThread) -> None:
    def connection_of(connection: Connection) -> int:
        return id(connection.connection.dbapi_connection)

    for statements in (False, True):
        seen = {
            thread.submit(partial(thread.transact, connection_of, statements=statements)).result(10)
            for _ in range(3)
        }
        assert len(seen) == 1


def test_after_a_failure_the_connection_is_another_one(thread: LedgerThread) -> None:
    seen: list[Connection] = []

    def fail(connection: Connection) -> None:
        seen.append(connection)
        raise LedgerError("the disk is full")

    for _ in range(2):
        with pytest.raises(LedgerError, match="disk is full"):
            thread.submit(lambda: thread.transact(fail)).result(10)
    assert seen[0] is not seen[1]
    assert seen[0].closed


def test_close_does_what_was_submitted_and_keeps_no_connection(ledger: Ledger) -> None:
    thread, key = LedgerThread(ledger, "under-test"), add_lead(ledger)
    told = [
        thread.submit(lambda: thread.transact(lambda c: ledger.apply(c, ACCOUNT, [capture_intent(key)]))),
        thread.submit(lambda: thread.transact(lambda _: [True], statements=True)),
    ]
    thread.close()
    assert [future.result(0) for future in told] == [[True], [True]]
    assert record(ledger, key).capture_state == "sending"
    pool = ledger.engine.pool
    assert not hasattr(pool, "checkedout") or pool.checkedout() == 0


class TestRolledBack:
    @pytest.mark.postgres
    def test_who_was_rolled_back_tries_again(self, postgres_database: Database) -> None:
        """A real one: each holds the lead that the other one asks for."""
        ledger = Ledger.open(postgres_database.engine())
        first, second = add_lead(ledger, "L1"), add_lead(ledger, "L2")
        thread, other = LedgerThread(ledger, "under-test"), LedgerThread(ledger, "other")
        both_hold, tries = threading.Barrier(2), dict.fromkeys(("one", "other"), 0)

        def crosswise(who: str, mine: int, theirs: int) -> Future[list[bool]]:
            def work(connection: Connection) -> list[bool]:
                tries[who] += 1
                locked(connection, [mine])
                if tries[who] == 1:
                    both_hold.wait(PATIENCE_SECONDS)
                locked(connection, [theirs])
                return ledger.apply(connection, ACCOUNT, [capture_intent(mine)])

            chosen = thread if who == "one" else other
            return chosen.submit(lambda: chosen.transact(work))

        told = [crosswise("one", first, second), crosswise("other", second, first)]
        assert [future.result(30) for future in told] == [[True], [True]]
        thread.close()
        other.close()
        # The second try may meet the other one's lock in the same way once more.
        assert sum(tries.values()) >= 3
        assert [record(ledger, key).attempt for key in (first, second)] == [1, 1]

    @pytest.mark.postgres
    @pytest.mark.skipif(DRIVER == "psycopg2", reason="psycopg2 prepares no statements")
    def test_a_statement_that_the_server_has_forgotten_is_prepared_anew(
        self, postgres_database: Database
    ) -> None:
        ledger = Ledger.open(postgres_database.engine())
        thread = LedgerThread(ledger, "under-test")

        def ask(statements: bool) -> int:
            def work(connection: Connection) -> int:
                return int(connection.execute(sa.text("SELECT CAST(:n AS integer)"), {"n": 7}).scalar_one())

            return thread.submit(lambda: thread.transact(work, statements=statements)).result(10)

        def forget(connection: Connection) -> None:
            # In a block, so that the driver does not notice.
            connection.exec_driver_sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")

        for statements in (False, True):
            assert {ask(statements) for _ in range(10)} == {7}
            thread.submit(partial(thread.transact, forget, statements=statements)).result(10)
            assert ask(statements) == 7
        thread.close()

    def test_but_not_for_ever(self, thread: LedgerThread) -> None:
        tries: list[int] = []

        def work(_: Connection) -> None:
            tries.append(1)
            raise LedgerRolledBackError("rolled back")

        with pytest.raises(LedgerRolledBackError):
            thread.submit(lambda: thread.transact(work)).result(10)
        assert len(tries) == ROLLBACKS_FORGIVEN + 1


@pytest.mark.postgres
def test_another_failure_is_told_and_not_tried_again(postgres_database: Database) -> None:
    """Whether a lost connection's commit worked, nobody knows."""
    ledger = Ledger.open(postgres_database.engine())
    thread, tries = LedgerThread(ledger, "under-test"), []

    def work(connection: Connection) -> None:
        tries.append(1)
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(LedgerUnreachableError):
        thread.submit(lambda: thread.transact(work)).result(10)
    assert len(tries) == 1
    # On a fresh connection.
    assert thread.submit(lambda: thread.transact(lambda _: 7)).result(10) == 7
    thread.close()
