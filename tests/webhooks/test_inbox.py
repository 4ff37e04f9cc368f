"""Durable receipt: nothing is told to be taken that is not, and an identical body is one event for a day."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks import deliveries as store_module
from airflow_provider_popin.webhooks import inbox as inbox_module
from airflow_provider_popin.webhooks.deliveries import DUPLICATE_SECONDS, Delivery, Receipt
from airflow_provider_popin.webhooks.envelopes import parse_event
from airflow_provider_popin.webhooks.inbox import Inbox, InboxFullError
from tests.privacy import assert_no_personal_data
from tests.sync.ledgers import ACCOUNT, Database, dump
from tests.waiting import PATIENCE_SECONDS
from tests.webhooks.deliveries import CONN, KEY, PERSON, body, let_pass


@pytest.fixture
def inbox(ledger: Ledger) -> Iterator[Inbox]:
    found = Inbox(ledger)
    yield found
    found.close()


def hand_in(
    inbox: Inbox, raw: bytes, *, conn_id: str = CONN, account: str = ACCOUNT, key: bytes = KEY
) -> Future[Receipt]:
    return inbox.submit(conn_id=conn_id, account=account, body=raw, event=parse_event(raw), key=key)


def receive(inbox: Inbox, raw: bytes, *, conn_id: str = CONN) -> Receipt:
    return hand_in(inbox, raw, conn_id=conn_id).result(30)


def count(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(tables.events)).scalar_one())


class TestReceipt:
    def test_what_is_told_to_be_taken_is_there(self, inbox: Inbox, ledger: Ledger) -> None:
        receipt = receive(inbox, body("popin_call_missed", timestamp=1_771_832_273))
        assert receipt == Receipt(receipt.event_id, duplicate=False)
        with ledger.read() as connection:
            row = connection.execute(sa.select(tables.events)).one()
        assert (row.id, row.conn_id, row.account, row.kind) == (receipt.event_id, CONN, ACCOUNT, "missed")
        assert (row.name, row.customer_id, row.occurred_at) == ("popin_call_missed", "MzE1", 1_771_832_273)
        assert (row.status, row.tries, row.due_at) == ("waiting", 0, row.received_at)

    def test_nothing_personal_and_no_bare_hash_is_stored(self, inbox: Inbox, ledger: Ledger) -> None:
        import hashlib

        raw = body("popin_call_missed", remark=f"call {PERSON['mobile']}", **{PERSON["mobile"]: "x"})
        receive(inbox, raw)
        text = dump(ledger)
        assert_no_personal_data(text, PERSON.values())
        assert hashlib.sha256(raw).hexdigest() not in text
        assert "MzE1" in text

    def test_values_that_databases_choke_on(self, inbox: Inbox) -> None:
        raw = b'{"event":"popin_x","a\\u0000":"\\u0000","b":"\\ud800","c":NaN,"d":1e999,"e":"\\u0000"}'
        assert not receive(inbox, raw).duplicate

    def test_many_at_once_share_transactions(
        self, inbox: Inbox, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes: list[int] = []
        everybody_waits = threading.Event()
        real = store_module.store

        def slow_store(connection: Connection, batch: list[Delivery]) -> list[Receipt]:
            sizes.append(len(batch))
            assert everybody_waits.wait(PATIENCE_SECONDS)
            return real(connection, batch)

        monkeypatch.setattr(inbox_module, "store", slow_store)
        waiting = [hand_in(inbox, body("popin_call_missed", number)) for number in range(1, 301)]
        everybody_waits.set()
        receipts = [one.result(30) for one in waiting]
        assert len({receipt.event_id for receipt in receipts}) == 300 == count(ledger)
        assert len(sizes) < 10
        # In order of arrival.
        assert [receipt.event_id for receipt in receipts] == sorted(one.event_id for one in receipts)


class TestDuplicates:
    def test_an_identical_body_is_one_event(self, inbox: Inbox, ledger: Ledger) -> None:
        first = receive(inbox, body("popin_call_missed"))
        again = receive(inbox, body("popin_call_missed"))
        assert again == Receipt(first.event_id, duplicate=True)
        assert not receive(inbox, body("popin_call_missed", 316)).duplicate
        assert not receive(inbox, body("popin_call_missed"), conn_id="other").duplicate
        assert count(ledger) == 3

    def test_in_one_batch(self, ledger: Ledger) -> None:
        raw = body("popin_call_missed")
        batch = [
            Delivery(conn_id=CONN, account=ACCOUNT, body_key=key, event=parse_event(raw))
            for key in ("a", "b", "a", "a")
        ]
        with ledger.write() as connection:
            receipts = store_module.store(connection, batch)
        assert [receipt.duplicate for receipt in receipts] == [False, False, True, True]
        assert receipts[2].event_id == receipts[0].event_id != receipts[1].event_id

    def test_after_a_day_it_is_another_event(self, inbox: Inbox, ledger: Ledger) -> None:
        first = receive(inbox, body("popin_call_missed"))
        let_pass(ledger, DUPLICATE_SECONDS - 60)
        assert receive(inbox, body("popin_call_missed")) == Receipt(first.event_id, duplicate=True)
        # A duplicate does not make the day longer.
        let_pass(ledger, 61)
        second = receive(inbox, body("popin_call_missed"))
        assert not second.duplicate
        assert receive(inbox, body("popin_call_missed")) == Receipt(second.event_id, duplicate=True)

    def test_delivered_to_several_processes_at_once(self, database: Database) -> None:
        ledgers = [Ledger.open(database.engine()) for _ in range(4)]
        inboxes = [Inbox(ledger) for ledger in ledgers]
        bodies = [body("popin_call_missed", number) for number in range(1, 26)]
        with ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(receive, inboxes[(index + number) % 4], raw)
                for number in range(4)
                for index, raw in enumerate(bodies)
            ]
            wait(asked)
        for inbox in inboxes:
            inbox.close()
        receipts = [one.result() for one in asked]
        assert sum(not receipt.duplicate for receipt in receipts) == 25 == count(ledgers[0])
        assert len({receipt.event_id for receipt in receipts}) == 25

    def test_what_no_delivery_can_repeat_is_deleted(self, inbox: Inbox, ledger: Ledger) -> None:
        receive(inbox, body("popin_call_missed"))
        let_pass(ledger, DUPLICATE_SECONDS + 1)
        receive(inbox, body("popin_call_missed", 316))
        with ledger.write() as connection:
            store_module.forget_old(connection)
            left = connection.execute(sa.select(tables.deliveries)).fetchall()
        assert len(left) == 1
        assert count(ledger) == 2


class TestTrouble:
    def test_the_database_does_not_answer(self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(connection: Connection, batch: list[Delivery]) -> list[Receipt]:
            raise LedgerUnreachableError("locked")

        with monkeypatch.context() as patch:
            patch.setattr(inbox_module, "store", unreachable)
            waiting = [hand_in(inbox, body("popin_call_missed", number)) for number in (1, 2)]
            for one in waiting:
                with pytest.raises(LedgerUnreachableError):
                    one.result(10)
        assert not receive(inbox, body("popin_call_missed", 1)).duplicate

    def test_one_that_the_database_refuses_takes_no_other_with_it(
        self, inbox: Inbox, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, started = store_module.store, threading.Event()

        def refusing(connection: Connection, batch: list[Delivery]) -> list[Receipt]:
            started.wait(PATIENCE_SECONDS)
            receipts = real(connection, batch)
            if any(delivery.conn_id == "bad" for delivery in batch):
                raise ValueError("a string literal cannot contain NUL (0x00) characters.")
            return receipts

        monkeypatch.setattr(inbox_module, "store", refusing)
        waiting = [hand_in(inbox, body("popin_x", n), conn_id="bad" if n == 3 else CONN) for n in range(1, 6)]
        started.set()
        for number, one in enumerate(waiting, start=1):
            if number == 3:
                with pytest.raises(LedgerError, match="cannot encode a value: ValueError"):
                    one.result(10)
            else:
                assert not one.result(10).duplicate
        assert count(ledger) == 4

    def test_an_unforeseen_error_is_told_and_the_next_delivery_is_taken(
        self, sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(connection: Connection, batch: list[Delivery]) -> list[Receipt]:
            raise ZeroDivisionError

        inbox = Inbox(sqlite_ledger)
        ended: list[object] = []
        monkeypatch.setattr(threading, "excepthook", lambda told: ended.append(told.exc_type))
        with monkeypatch.context() as patch:
            patch.setattr(inbox_module, "store", broken)
            with pytest.raises(ZeroDivisionError):
                hand_in(inbox, body("popin_x")).result(10)
            _join_writers()
        assert ended == [ZeroDivisionError]
        assert not receive(inbox, body("popin_x")).duplicate
        inbox.close()

    def test_too_many_waiting_are_refused(
        self, sqlite_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inbox_module, "MAX_WAITING", 3)
        inbox = Inbox(sqlite_ledger)
        with sqlite_ledger.write():  # nobody else can write meanwhile
            taken = [hand_in(inbox, body("popin_x", 1))]
            while inbox._waiting:
                time.sleep(0.001)
            taken += [hand_in(inbox, body("popin_x", number)) for number in (2, 3, 4)]
            with pytest.raises(InboxFullError):
                hand_in(inbox, body("popin_x", 5))
        assert [one.result(10).duplicate for one in taken] == [False] * 4
        inbox.close()

    def test_what_nobody_waits_for_any_more_is_taken_all_the_same(self, sqlite_ledger: Ledger) -> None:
        inbox, raw = Inbox(sqlite_ledger), body("popin_x")
        with sqlite_ledger.write(), pytest.raises(TimeoutError):
            hand_in(inbox, raw).result(0.01)
        # So what is delivered again is a duplicate.
        assert receive(inbox, raw).duplicate
        inbox.close()

    def test_closing_writes_what_was_handed_in(self, inbox: Inbox, ledger: Ledger) -> None:
        waiting = [hand_in(inbox, body("popin_x", number)) for number in range(1, 51)]
        inbox.close()
        assert all(one.done() for one in waiting)
        assert count(ledger) == 50
        with pytest.raises(InboxFullError, match="closed"):
            hand_in(inbox, body("popin_x"))
        inbox.close()


def _join_writers() -> None:
    for thread in threading.enumerate():
        if thread.name == "popin-inbox":
            thread.join(10)
