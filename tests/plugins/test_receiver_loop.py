"""From a delivery to a Dag: the background thread, the outbox, and Airflow's asset events."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.providers.common.compat.sdk import AirflowException, BaseHook

from airflow_provider_popin.hooks import ledger as ledger_hooks
from airflow_provider_popin.hooks.ledger import open_ledger, sql_engine
from airflow_provider_popin.plugins import asset_events as airflow_asset_events
from airflow_provider_popin.plugins import background
from airflow_provider_popin.plugins import ledgers as plugin_ledgers
from airflow_provider_popin.plugins.background import Background
from airflow_provider_popin.plugins.connections import (
    ConnectionsUnavailableError,
    WebhookConnection,
    connection_digest,
    list_webhook_connections,
    read_webhook_connection,
)
from airflow_provider_popin.plugins.ledgers import Ledgers
from airflow_provider_popin.plugins.outbox import EmissionError, emit_waiting, register_all
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.envelopes import parse_event
from airflow_provider_popin.webhooks.inbox import Inbox
from airflow_provider_popin.webhooks.outbox import AssetEvent
from airflow_provider_popin.webhooks.processing import process_waiting
from tests import airflow_runs
from tests.plugins import bookings
from tests.plugins.deliveries import address, deliver, missed_call, set_up
from tests.waiting import PATIENCE_SECONDS, wait_until

SetConnection = Callable[..., None]


@pytest.fixture
def shop(set_connection: SetConnection, tmp_path: Path) -> str:
    """A Popin connection."""
    return set_up(set_connection, tmp_path)


@pytest.fixture
def ledger(shop: str) -> Iterator[Ledger]:
    """The ledger of ``shop``, with a booking for each of the users 1 to 300."""
    opened = bookings.book(ledger_of(shop), range(1, 301))
    yield opened
    opened.engine.dispose()


def ledger_of(conn_id: str) -> str:
    (found,) = (one for one in list_webhook_connections() if one.conn_id == conn_id)
    assert found.ledger_conn_id is not None
    return found.ledger_conn_id


def receive(ledger: Ledger, conn_id: str, *user_ids: int) -> None:
    """Store deliveries as a process did that then died."""
    inbox = Inbox(ledger)
    for user_id in user_ids:
        body = json.dumps(missed_call(user_id, user_id=user_id)).encode()
        inbox.submit(conn_id=conn_id, account=bookings.ACCOUNT, body=body, event=parse_event(body), key=b"k")
    inbox.close()


def schedule_on(shop: str, kind: str) -> str:
    """Make a Dag that Airflow knows, scheduled on the shop's calls that ended so; return its id."""
    from airflow.models.dag import DagModel
    from airflow.sdk import DAG, Asset
    from airflow.utils.session import create_session

    dag = DAG(f"on_{kind}_{shop}", schedule=[Asset(f"popin://{shop}/calls/{kind}")])
    airflow_runs._store(dag)
    with create_session() as session:
        session.execute(sa.update(DagModel).where(DagModel.dag_id == dag.dag_id).values(is_paused=False))
    return str(dag.dag_id)


class Emitted:
    """Stands for Airflow's database: what was registered there, by how many at a time."""

    def __init__(self) -> None:
        self.ids: Counter[int] = Counter()
        self.refused: set[int] = set()
        self.away = False

    def __call__(self, events: Sequence[AssetEvent]) -> None:
        if self.away:
            raise EmissionError("OperationalError", database_away=True)
        if self.refused & {event.id for event in events}:
            raise EmissionError("ValueError", database_away=False)
        self.ids.update(event.id for event in events)


class TestInAirflow:
    @pytest.fixture
    def on_missed(self, shop: str, airflow_db: None) -> str:
        """A Dag that Airflow knows, scheduled on the shop's missed calls; gives its id."""
        return schedule_on(shop, "missed")

    def test_a_missed_call_queues_the_dag(
        self, api_server: str, shop: str, ledger: Ledger, on_missed: str
    ) -> None:
        answers = [
            deliver(address(api_server, shop), missed_call(user_id=user_id)).status_code
            for user_id in (7, 8, 999)
        ]
        assert answers == [200, 200, 200]
        wait_until(lambda: len(asset_events(shop)) == 2)
        first, second = asset_events(shop)
        assert {first["lead_id"], second["lead_id"]} == {"lead-7", "lead-8"}
        assert set(first) == {
            "source",
            "lead_id",
            "generation",
            "kind",
            "call_time",
            "occurred_at",
            "event_id",
        }
        assert (first["source"], first["generation"], first["kind"]) == ("crm", 1, "missed")
        assert queued(on_missed) == [True]
        wait_until(lambda: bookings.waiting_asset_events(ledger) == 0)

    def test_one_run_gets_all_events_that_came_before_it(
        self, shop: str, ledger: Ledger, on_missed: str
    ) -> None:
        for user_ids in ((1, 2), (3,)):
            receive(ledger, shop, *user_ids)
            process_waiting(ledger)
            emit_waiting(ledger)
            assert queued(on_missed) == [True]
        assert len(asset_events(shop)) == 3

    def test_an_asset_that_no_dag_uses_any_more_gets_no_event(self, shop: str, on_missed: str) -> None:
        from airflow.models.asset import AssetActive
        from airflow.utils.session import create_session

        uri = f"popin://{shop}/calls/missed"
        register_all([AssetEvent(1, uri, {"n": 1})])
        with create_session() as session:
            session.execute(sa.delete(AssetActive).where(AssetActive.uri == uri))
        register_all([AssetEvent(2, uri, {"n": 2})])
        assert asset_events(shop) == [{"n": 1}]

    def test_a_dag_that_another_asset_has_queued_is_left_alone(self, shop: str, on_missed: str) -> None:
        from airflow.models.asset import AssetDagRunQueue
        from airflow.utils.session import create_session

        on_successful = schedule_on(shop, "successful")
        register_all([AssetEvent(1, f"popin://{shop}/calls/successful", {"n": 1})])
        query = sa.select(AssetDagRunQueue.created_at).where(AssetDagRunQueue.target_dag_id == on_successful)
        with create_session() as session:
            before = session.scalars(query).all()
        register_all([AssetEvent(2, f"popin://{shop}/calls/missed", {"n": 2})])
        with create_session() as session:
            assert session.scalars(query).all() == before
        assert (len(before), queued(on_missed)) == (1, [True])

    def test_an_asset_that_nobody_knows_is_no_error(
        self, api_server: str, shop: str, ledger: Ledger, caplog: pytest.LogCaptureFixture
    ) -> None:
        receive(ledger, shop, 1)
        process_waiting(ledger)
        assert bookings.waiting_asset_events(ledger) == 1
        assert emit_waiting(ledger) is False
        assert bookings.waiting_asset_events(ledger) == 0
        assert not [line for line in caplog.records if line.levelno >= logging.WARNING]

    def test_what_airflows_database_does_not_take_is_emitted_later(
        self, shop: str, ledger: Ledger, on_missed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from airflow import settings
        from sqlalchemy.orm import sessionmaker

        receive(ledger, shop, 1, 2)
        process_waiting(ledger)
        nowhere = sa.create_engine(f"sqlite:///{tmp_path}/absent/airflow.db")
        with monkeypatch.context() as patched:
            patched.setattr(settings, "Session", sessionmaker(nowhere))
            with pytest.raises(EmissionError, match="OperationalError"):
                emit_waiting(ledger)
        assert asset_events(shop) == []
        assert emit_waiting(ledger) is False
        assert len(asset_events(shop)) == 2

    def test_an_error_inside_airflow_is_told_by_its_class(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(uri: str, extras: object, *, session: object) -> int:
            raise TypeError(f"unexpected {extras}")

        monkeypatch.setattr(airflow_asset_events, "register", broken)
        with pytest.raises(EmissionError) as caught:
            register_all([AssetEvent(1, "popin://x/calls/missed", {"lead_id": "L1"})])
        assert not caught.value.database_away
        assert "L1" not in str(caught.value)

    @pytest.mark.parametrize("invalidated", [False, True])
    def test_a_lost_connection_is_airflows_database_away(
        self, monkeypatch: pytest.MonkeyPatch, airflow_db: None, invalidated: bool
    ) -> None:
        def broken(uri: str, extras: object, *, session: object) -> int:
            raise sa.exc.DBAPIError("", {}, Exception(), connection_invalidated=invalidated)

        monkeypatch.setattr(airflow_asset_events, "register", broken)
        with pytest.raises(EmissionError) as caught:
            register_all([AssetEvent(1, "popin://x/calls/missed", {"lead_id": "L1"})])
        assert caught.value.database_away is invalidated

    def test_each_asset_gets_its_own_events(self, monkeypatch: pytest.MonkeyPatch, airflow_db: None) -> None:
        registered: list[tuple[str, list[object]]] = []
        monkeypatch.setattr(
            airflow_asset_events,
            "register",
            lambda uri, extras, *, session: registered.append((uri, [extra["n"] for extra in extras])),
        )
        told = [
            (1, "popin://x/calls/missed"),
            (2, "popin://x/calls/successful"),
            (3, "popin://x/calls/missed"),
        ]
        register_all([AssetEvent(number, uri, {"n": number}) for number, uri in told])
        assert registered == [("popin://x/calls/missed", [1, 3]), ("popin://x/calls/successful", [2])]


class TestOutbox:
    def test_nobody_else_waits_for_an_event_that_cannot_be_registered(
        self, shop: str, ledger: Ledger, caplog: pytest.LogCaptureFixture
    ) -> None:
        receive(ledger, shop, *range(1, 6))
        process_waiting(ledger)
        airflow = Emitted()
        airflow.refused = {3}
        emit_waiting(ledger, register=airflow)
        assert airflow.ids == Counter({1: 1, 2: 1, 4: 1, 5: 1})
        assert bookings.waiting_asset_events(ledger) == 1
        assert "waits" in caplog.text
        # It is leased, so that it is not tried all the time.
        emit_waiting(ledger, register=airflow)
        assert airflow.ids.total() == 4

    def test_several_processes_emit_each_event_once(self, shop: str, ledger: Ledger) -> None:
        receive(ledger, shop, *range(1, 301))
        airflow = Emitted()

        def work() -> None:
            own = open_ledger(ledger_of(shop))
            process_waiting(own)
            while emit_waiting(own, register=airflow):
                pass
            own.engine.dispose()

        processes = [threading.Thread(target=work) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
        while emit_waiting(ledger, register=airflow):
            pass
        assert airflow.ids == Counter(dict.fromkeys(range(1, 301), 1))

    def test_a_death_between_the_two_databases_emits_twice(self, shop: str, ledger: Ledger) -> None:
        receive(ledger, shop, 1)
        process_waiting(ledger)
        airflow = Emitted()

        def dies(events: Sequence[AssetEvent]) -> None:
            airflow(events)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            emit_waiting(ledger, register=dies)
        with ledger.write() as connection:
            connection.exec_driver_sql("UPDATE popin_outbox SET leased_until = 1")
        emit_waiting(ledger, register=airflow)
        assert airflow.ids == Counter({1: 2})


class TestBackground:
    def test_after_a_restart_what_waits_is_processed_without_a_delivery(
        self, shop: str, ledger: Ledger, airflow_db: None
    ) -> None:
        receive(ledger, shop, 1, 2)
        assert bookings.statuses(ledger) == {"waiting"}
        seen: list[str] = []
        ledgers = Ledgers()
        worker = Background(ledgers, listed=lambda found: seen.extend(one.conn_id for one in found))
        worker.start()
        try:
            wait_until(lambda: bookings.statuses(ledger) == {"matched"})
            wait_until(lambda: bookings.waiting_asset_events(ledger) == 0)
        finally:
            worker.stop()
            ledgers.close()
        assert shop in seen

    def test_connections_of_a_secrets_backend_are_found_by_name(
        self, shop: str, monkeypatch: pytest.MonkeyPatch, airflow_db: None
    ) -> None:
        # Under another name than the list of the environment's connections looks for.
        from airflow_provider_popin.plugins import connections

        monkeypatch.setattr(connections, "_in_environment", set)
        assert shop not in {one.conn_id for one in list_webhook_connections()}
        monkeypatch.setenv("AIRFLOW__POPIN__CONNECTIONS", f"absent, {shop}")
        monkeypatch.setenv("AIRFLOW_CONN_POPIN_DEFAULT", os.environ[f"AIRFLOW_CONN_{shop.upper()}"])
        assert {shop, "popin_default"} <= {one.conn_id for one in list_webhook_connections()}

    def test_a_connection_that_cannot_be_read_now_hides_no_other(
        self, shop: str, monkeypatch: pytest.MonkeyPatch, airflow_db: None
    ) -> None:
        get = BaseHook.get_connection

        def get_connection(conn_id: str) -> Any:
            if conn_id == "popin_default":
                raise AirflowException("a secret")
            return get(conn_id)

        monkeypatch.setattr(BaseHook, "get_connection", get_connection)
        assert shop in {one.conn_id for one in list_webhook_connections()}
        with pytest.raises(ConnectionsUnavailableError):
            read_webhook_connection("popin_default")

    def test_nobody_is_unknown_while_airflows_database_is_away(
        self, monkeypatch: pytest.MonkeyPatch, airflow_db: None, tmp_path: Path
    ) -> None:
        from airflow import settings
        from sqlalchemy.orm import sessionmaker

        monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        assert read_webhook_connection("popin_nobody") is None
        nowhere = sa.create_engine(f"sqlite:///{tmp_path}/absent/airflow.db")
        monkeypatch.setattr(settings, "Session", sessionmaker(nowhere))
        with pytest.raises(ConnectionsUnavailableError):
            read_webhook_connection("popin_nobody")
        with pytest.raises(ConnectionsUnavailableError):
            list_webhook_connections()

    def test_a_ledger_in_trouble_is_told_of_once_and_holds_up_nobody(
        self,
        shop: str,
        ledger: Ledger,
        set_connection: SetConnection,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        receive(ledger, shop, 1)
        set_connection("a_broken_ledger", conn_type="sqlite", host=":memory:")
        ledgers = Ledgers()
        worker = Background(ledgers, list_connections=list)
        worker.wake("a_broken_ledger")
        worker.wake(ledger_of(shop))
        worker.run_once()
        worker.run_once()
        assert bookings.statuses(ledger) == {"matched"}
        ours = [record for record in caplog.records if record.name.startswith("airflow_provider_popin")]
        assert len([record for record in ours if "a_broken_ledger" in record.getMessage()]) == 1
        ledgers.close()

    def test_a_trouble_that_comes_again_is_told_again(self, caplog: pytest.LogCaptureFixture) -> None:
        worker = Background(Ledgers(), list_connections=list)

        def broken() -> bool:
            raise LedgerError("it is away")

        assert [worker._attempt("a ledger", work) for work in (broken, broken, bool, broken)] == [False] * 4
        assert len([line for line in caplog.messages if "it is away" in line]) == 2

    def test_connections_that_could_not_be_listed_are_listed_soon(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(background, "POLL_SECONDS", 0.0)
        answers: list[list[WebhookConnection] | None] = [None, [], None]

        def listing() -> list[WebhookConnection]:
            if (answer := answers.pop(0)) is None:
                raise ConnectionsUnavailableError
            return answer

        worker = Background(Ledgers(), list_connections=listing)
        for _ in range(4):
            worker.run_once()
        assert answers == [None]

    def test_it_goes_on_at_once_while_anything_waits_and_emits_meanwhile(
        self, shop: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, airflow_db: None
    ) -> None:
        receive(ledger, shop, *range(1, background.EVENTS_AT_A_TIME + 2))
        emitted: list[int] = []

        def emit(_: Ledger) -> bool:
            emitted.append(bookings.waiting_asset_events(ledger))
            return False

        monkeypatch.setattr(background, "emit_waiting", emit)
        no_ledger = dataclasses.replace(next(iter(list_webhook_connections())), ledger_conn_id=None)
        ledgers = Ledgers()
        worker = Background(ledgers, list_connections=lambda: [no_ledger])
        worker.wake("a_ledger_of_nobody")
        worker.wake(ledger_of(shop))
        assert [worker.run_once(), worker.run_once()] == [True, False]
        assert emitted == [background.EVENTS_AT_A_TIME, background.EVENTS_AT_A_TIME + 1]
        ledgers.close()

    def test_it_ends_when_it_is_told_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(background, "POLL_SECONDS", 10 * PATIENCE_SECONDS)
        monkeypatch.setattr(background, "STOP_SECONDS", PATIENCE_SECONDS)
        worker = Background(Ledgers(), list_connections=list)
        worker.start()
        worker.stop()
        assert worker._thread is not None
        assert not worker._thread.is_alive()

    def test_a_ledger_that_does_not_exist_is_not_made(
        self, set_connection: SetConnection, tmp_path: Path
    ) -> None:
        set_connection("a_future_ledger", conn_type="sqlite", host=str(tmp_path / "future.db"))
        ledgers = Ledgers()
        worker = Background(ledgers, list_connections=list)
        worker.wake("a_future_ledger")
        assert worker.run_once() is False
        assert not (tmp_path / "future.db").exists()
        ledgers.close()

    def test_it_survives_what_nobody_has_foreseen(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(background, "POLL_SECONDS", 0.01)
        calls: list[int] = []

        def broken() -> list[Any]:
            calls.append(1)
            raise ConnectionsUnavailableError if len(calls) == 1 else ZeroDivisionError("a phone")

        monkeypatch.setattr(background, "LIST_SECONDS", 0.0)
        worker = Background(Ledgers(), list_connections=broken)
        worker.start()
        wait_until(lambda: len(calls) >= 4)
        worker.stop()
        assert "a phone" not in caplog.text
        assert len([line for line in caplog.messages if "(connections)" in line]) == 1

    def test_an_unforeseen_error_of_one_ledger_holds_up_no_other(
        self,
        shop: str,
        ledger: Ledger,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        receive(ledger, shop, 1)
        ledgers = Ledgers()
        find = ledgers.find

        def broken(ledger_conn_id: str) -> Ledger | None:
            if ledger_conn_id == "a_strange_ledger":
                raise ZeroDivisionError("a phone")
            return find(ledger_conn_id)

        monkeypatch.setattr(ledgers, "find", broken)
        worker = Background(ledgers, list_connections=list)
        worker.wake("a_strange_ledger")
        worker.wake(ledger_of(shop))
        worker.run_once()
        assert bookings.statuses(ledger) == {"matched"}
        assert "ZeroDivisionError" in caplog.text
        assert "a phone" not in caplog.text
        ledgers.close()


class TestLedgers:
    def test_a_changed_connection_counts_after_half_a_minute(
        self, set_connection: SetConnection, tmp_path: Path
    ) -> None:
        now = [100.0]
        ledgers = Ledgers(clock=lambda: now[0])
        set_connection("moving_ledger", conn_type="sqlite", host=str(tmp_path / "one.db"))
        assert ledgers.ready("moving_ledger") is None
        first = ledgers.inbox("moving_ledger")
        assert ledgers.ready("moving_ledger") is first
        set_connection("moving_ledger", conn_type="sqlite", host=str(tmp_path / "two.db"))
        assert ledgers.inbox("moving_ledger") is first
        now[0] += 30.0
        assert ledgers.ready("moving_ledger") is None
        assert ledgers.inbox("moving_ledger") is not first
        assert (tmp_path / "two.db").exists()
        ledgers.close()
        with pytest.raises(LedgerError, match="ending"):
            ledgers.inbox("moving_ledger")

    def test_a_changed_connection_does_not_wait_for_the_ledger_before(
        self, set_connection: SetConnection, tmp_path: Path
    ) -> None:
        now = [100.0]
        ledgers = Ledgers(clock=lambda: now[0])
        set_connection("stuck_ledger", conn_type="sqlite", host=str(tmp_path / "one.db"))
        body = json.dumps(missed_call()).encode()
        first = ledgers.inbox("stuck_ledger")
        with closing(sqlite3.connect(tmp_path / "one.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            stored = first.submit(conn_id="c", account="shop", body=body, event=parse_event(body), key=b"k")
            set_connection("stuck_ledger", conn_type="sqlite", host=str(tmp_path / "two.db"))
            now[0] += 30.0
            assert ledgers.inbox("stuck_ledger") is not first
            assert not stored.done()
            other.execute("ROLLBACK")
        assert not stored.result(PATIENCE_SECONDS).duplicate
        ledgers.close()

    def test_a_connection_that_cannot_be_read_now_keeps_its_ledger(
        self, set_connection: SetConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [100.0]
        ledgers = Ledgers(clock=lambda: now[0])
        set_connection("kept_ledger", conn_type="sqlite", host=str(tmp_path / "one.db"))
        first = ledgers.inbox("kept_ledger")
        monkeypatch.delenv("AIRFLOW_CONN_KEPT_LEDGER")
        now[0] += 30.0
        assert ledgers.inbox("kept_ledger") is first
        assert ledgers.ready("kept_ledger") is first
        now[0] += 30.0
        assert ledgers.ready("kept_ledger") is None
        ledgers.close()

    def test_nothing_is_left_open(
        self, set_connection: SetConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: Counter[str] = Counter()

        def noted(conn_id: str) -> sa.engine.Engine:
            engine = sql_engine(conn_id)
            sa.event.listen(engine, "connect", lambda *_: seen.update(opened=1))
            sa.event.listen(engine, "close", lambda *_: seen.update(closed=1))
            return engine

        for module in (ledger_hooks, plugin_ledgers):
            monkeypatch.setattr(module, "sql_engine", noted)
        ledgers = Ledgers()
        set_connection("closed_ledger", conn_type="sqlite", host=str(tmp_path / "one.db"))
        open_ledger("closed_ledger").engine.dispose()
        assert ledgers.find("closed_ledger") is not None
        inbox = ledgers.inbox("closed_ledger")
        body = json.dumps(missed_call()).encode()
        inbox.submit(conn_id="c", account="shop", body=body, event=parse_event(body), key=b"k").result()
        ledgers.close()
        assert seen["closed"] == seen["opened"] > 0
        with pytest.raises(LedgerError, match="closed"):
            inbox.submit(conn_id="c", account="shop", body=body, event=parse_event(body), key=b"k")

    def test_a_ledger_that_cannot_be_opened_is_tried_again_after_a_while(
        self, set_connection: SetConnection, tmp_path: Path
    ) -> None:
        now = [100.0]
        ledgers = Ledgers(clock=lambda: now[0])
        set_connection("late_ledger", conn_type="sqlite", host=str(tmp_path / "absent" / "one.db"))
        with pytest.raises(LedgerError) as first:
            ledgers.inbox("late_ledger")
        (tmp_path / "absent").mkdir()
        with pytest.raises(LedgerError) as second:
            ledgers.inbox("late_ledger")
        assert second.value is first.value
        frames = len(second.traceback)
        with pytest.raises(LedgerError) as third:
            ledgers.inbox("late_ledger")
        assert len(third.traceback) == frames
        now[0] += 2.0
        ledgers.inbox("late_ledger")
        assert (tmp_path / "absent" / "one.db").exists()
        ledgers.close()

    def test_a_while_begins_when_the_attempt_has_failed(
        self, set_connection: SetConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that does not answer takes longer than the pause: each delivery would wait for it anew."""
        now = [100.0]

        def slow(conn_id: str) -> bytes:
            now[0] += 5.0
            return connection_digest(conn_id)

        monkeypatch.setattr(plugin_ledgers, "connection_digest", slow)
        ledgers = Ledgers(clock=lambda: now[0])
        set_connection("slow_ledger", conn_type="sqlite", host=str(tmp_path / "absent" / "one.db"))
        with pytest.raises(LedgerError) as first:
            ledgers.inbox("slow_ledger")
        with pytest.raises(LedgerError) as second:
            ledgers.inbox("slow_ledger")
        assert second.value is first.value
        assert now == [105.0]
        ledgers.close()


def asset_events(conn_id: str) -> list[dict[str, Any]]:
    """What Airflow's database holds, oldest first."""
    from airflow.models.asset import AssetEvent as AssetEventModel
    from airflow.models.asset import AssetModel
    from airflow.utils.session import create_session

    query = (
        sa.select(AssetEventModel.extra)
        .join(AssetModel, AssetModel.id == AssetEventModel.asset_id)
        .where(AssetModel.uri == f"popin://{conn_id}/calls/missed")
        .order_by(AssetEventModel.id)
    )
    with create_session() as session:
        return [dict(extra) for extra in session.scalars(query)]


def queued(dag_id: str) -> list[bool]:
    """For each asset that is going to start a Dag, whether that run will get all of the asset's events.

    A run gets the events up to the time at which the Dag was queued.
    """
    from airflow.models.asset import AssetDagRunQueue
    from airflow.models.asset import AssetEvent as AssetEventModel
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.scalars(sa.select(AssetDagRunQueue).where(AssetDagRunQueue.target_dag_id == dag_id))
        newest = sa.select(sa.func.max(AssetEventModel.timestamp))
        return [
            row.created_at >= session.scalars(newest.where(AssetEventModel.asset_id == row.asset_id)).one()
            for row in rows
        ]
