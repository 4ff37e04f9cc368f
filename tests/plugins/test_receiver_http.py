"""The receiver over HTTP: Airflow's real API server on loopback, real sockets."""

from __future__ import annotations

import gc
import hmac
import json
import logging
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import sqlalchemy as sa
from sqlalchemy.engine import URL
from starlette.requests import ClientDisconnect, Request

from airflow_provider_popin.plugins import admission, receiver
from airflow_provider_popin.plugins import ledgers as plugin_ledgers
from airflow_provider_popin.sync.errors import LedgerUnreachableError
from airflow_provider_popin.sync.ledger import database
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.deliveries import Receipt
from airflow_provider_popin.webhooks.envelopes import parse_event
from airflow_provider_popin.webhooks.events import CallEvent
from airflow_provider_popin.webhooks.inbox import Inbox
from tests.conftest import API_KEY
from tests.plugins.deliveries import KEY, address, deliver, exchange, fresh_id, missed_call, set_up
from tests.postgres import empty_schema
from tests.waiting import PATIENCE_SECONDS, wait_until

SetConnection = Callable[..., None]
HEAD = (
    b"POST %(path)s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"X-API-KEY: " + KEY.encode() + b"\r\n"
)
KEPT_HEAD = HEAD.replace(b"Connection: close\r\n", b"")


@pytest.fixture(autouse=True)
def _many_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test brings connections that are not known yet, within a second; nobody else does that."""
    monkeypatch.setattr(admission, "GUESSES_PER_SECOND", 10_000)


@pytest.fixture
def url(api_server: str, set_connection: SetConnection, tmp_path: Path) -> str:
    return address(api_server, set_up(set_connection, tmp_path))


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


class TestKeys:
    def test_all_refusals_are_alike(
        self,
        api_server: str,
        url: str,
        set_connection: SetConnection,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        closed = address(api_server, set_up(set_connection, tmp_path, webhook_key=None))
        broken = address(api_server, set_up(set_connection, tmp_path, timeout_seconds="soon"))
        other_type = fresh_id()
        set_connection(other_type, conn_type="http", extra={"webhook_key": KEY})
        assert deliver(url, missed_call()).status_code == 200
        answers = [
            deliver(url, missed_call(), "wrong"),
            deliver(url, missed_call(), None),
            deliver(url, missed_call(), ""),
            deliver(url, missed_call(), "."),
            deliver(address(api_server, fresh_id()), missed_call()),
            deliver(address(api_server, "a%20b"), missed_call()),
            deliver(address(api_server, other_type), missed_call()),
            deliver(closed, missed_call()),
            deliver(closed, missed_call(), None),
            deliver(closed, missed_call(), ""),
            deliver(broken, missed_call()),
        ]
        assert {answer.status_code for answer in answers} == {401}
        assert len({answer.content for answer in answers}) == 1
        assert len({tuple(sorted(set(answer.headers) - {"date"})) for answer in answers}) == 1
        assert min(answer.elapsed.total_seconds() for answer in answers) >= receiver.REFUSAL_SECONDS * 0.9
        # Strangers choose the ids: only of a connection that is Popin's is there anything to correct.
        told = [
            line.getMessage() for line in caplog.records if line.name.startswith("airflow_provider_popin")
        ]
        assert [line for line in told if "until it is corrected" in line and other_type in line] == []

    def test_an_id_that_cannot_be_the_host_of_an_assets_uri_is_refused(
        self, api_server: str, set_connection: SetConnection
    ) -> None:
        set_connection(
            "shop:1", conn_type="popin", login="51", password="api-key-0815", extra={"webhook_key": KEY}
        )
        assert deliver(address(api_server, "shop:1"), missed_call()).status_code == 401

    def test_a_slash_at_the_end_changes_nothing(self, api_server: str, url: str) -> None:
        assert deliver(f"{url}/", missed_call()).status_code == 200
        refused = [deliver(f"{url}/", missed_call(), "wrong")]
        refused.append(deliver(f"{address(api_server, fresh_id())}/", missed_call()))
        assert [answer.status_code for answer in refused] == [401, 401]
        assert not any(answer.history for answer in refused)

    def test_nobody_is_sent_elsewhere(self, url: str) -> None:
        path = urlsplit(url).path
        for address_of_nothing in (f"{path}/", f"{path}//", f"{path}/more/"):
            request = (
                f"POST {address_of_nothing} HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n"
            )
            answer = exchange(url, request.encode())
            assert status_of(answer) in (401, 404)
            assert b"elsewhere" not in answer

    def test_an_id_of_the_environment_answers_as_it_is_listed_only(self, api_server: str, url: str) -> None:
        conn_id = url.rpartition("/")[2]
        for other in (conn_id.upper(), conn_id.capitalize()):
            assert deliver(address(api_server, other), missed_call()).status_code == 401
        assert deliver(url, missed_call()).status_code == 200

    def test_two_keys_are_no_key(self, url: str) -> None:
        twice = HEAD + b"X-API-KEY: " + KEY.encode() + b"\r\nContent-Length: 2\r\n\r\n{}"
        assert status_of(exchange(url, twice)) == 401

    def test_a_dot_is_a_key_like_any_other(
        self, api_server: str, set_connection: SetConnection, tmp_path: Path
    ) -> None:
        dot = address(api_server, set_up(set_connection, tmp_path, webhook_key="."))
        assert deliver(dot, missed_call(), ".").status_code == 200
        assert deliver(dot, missed_call(), None).status_code == 401

    def test_a_connection_of_airflows_database(
        self, api_server: str, set_connection: SetConnection, tmp_path: Path
    ) -> None:
        from airflow.models import Connection
        from airflow.utils.session import create_session

        conn_id, ledger_conn_id = fresh_id(), fresh_id("ledger")
        extra = json.dumps({"webhook_key": KEY, "ledger_conn_id": ledger_conn_id})
        ledger = str(tmp_path / "ledger.db")
        with create_session() as session:
            session.add(
                Connection(conn_id, conn_type="popin", login="51", password="api-key-0815", extra=extra)
            )
            session.add(Connection(ledger_conn_id, conn_type="sqlite", host=ledger))
        try:
            assert deliver(address(api_server, conn_id), missed_call()).status_code == 200
        finally:
            with create_session() as session:
                for one in (conn_id, ledger_conn_id):
                    session.delete(session.query(Connection).filter_by(conn_id=one).one())
        assert Path(ledger).exists()


class TestRequests:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_other_methods(self, url: str, method: str) -> None:
        answer = requests.request(method, url, headers={"X-API-KEY": KEY}, timeout=10)
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "POST"

    @pytest.mark.parametrize("path", ["", "/more", "/openapi.json", "/docs"])
    def test_other_paths(self, api_server: str, path: str) -> None:
        answer = requests.post(f"{api_server}/popin/webhooks{path and '/x' + path}", timeout=10)
        assert answer.status_code in (404, 405)

    @pytest.mark.parametrize("path", ["openapi.json", "docs", "redoc"])
    def test_there_is_nothing_to_read(self, api_server: str, path: str) -> None:
        assert requests.get(f"{api_server}/popin/webhooks/{path}", timeout=10).status_code == 405

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Type": "multipart/form-data; boundary=x"},
            {"Content-Encoding": "gzip"},
        ],
    )
    def test_other_types(self, url: str, headers: dict[str, str]) -> None:
        assert deliver(url, missed_call(), **headers).status_code == 415

    @pytest.mark.parametrize(
        "kind", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"]
    )
    def test_types_of_json(self, url: str, kind: str) -> None:
        assert deliver(url, missed_call(), **{"Content-Type": kind}).status_code == 200

    def test_no_type(self, url: str) -> None:
        body = json.dumps(missed_call()).encode()
        head = HEAD.replace(b"Content-Type: application/json\r\n", b"")
        assert status_of(exchange(url, head + b"Content-Length: %d\r\n\r\n" % len(body), body)) == 200

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b'"x"', b"null", b"{}", b'{"event": 1}', b"\xff\xfe", b"[" * 60_000]
    )
    def test_no_event(self, url: str, body: bytes) -> None:
        answer = deliver(url, body)
        assert answer.status_code == 400
        assert set(answer.json()) == {"detail"}

    def test_identical_bodies_are_one_event(self, url: str) -> None:
        body = missed_call()
        assert deliver(url, body).json() == {"received": True, "duplicate": False}
        assert deliver(url, body).json() == {"received": True, "duplicate": True}

    def test_bodies_are_known_again_by_what_the_api_key_makes_of_them(self, url: str, tmp_path: Path) -> None:
        body = json.dumps(missed_call()).encode()
        assert deliver(url, body).status_code == 200
        (file,) = tmp_path.glob("*.db")
        with closing(sqlite3.connect(file)) as ledger:
            kept = ledger.execute("SELECT body_key FROM popin_deliveries").fetchall()
        assert kept == [(hmac.digest(API_KEY.encode(), body, "sha256").hex(),)]


class TestLimits:
    def test_the_largest_body(self, url: str) -> None:
        body = json.dumps({"event": "popin_new_thing", "filler": ""}).encode()
        body = body.replace(b'""', b'"' + b"x" * (64 * 1024 - len(body)) + b'"')
        assert len(body) == 64 * 1024
        assert deliver(url, body).status_code == 200
        assert deliver(url, body + b" ").status_code == 413

    def test_chunks(self, url: str) -> None:
        body = json.dumps(missed_call()).encode()
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:7], body[7:]))
        head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        assert status_of(exchange(url, head, chunks, b"0\r\n\r\n")) == 200

    def test_endless_chunks_are_cut_off(self, url: str) -> None:
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        # No end is sent: the answer comes nevertheless.
        answer = exchange(url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk, chunk)
        assert status_of(answer) == 413

    def test_a_large_length_is_refused_unread(self, url: str) -> None:
        assert status_of(exchange(url, HEAD + b"Content-Length: 65537\r\n\r\n")) == 413

    @pytest.mark.parametrize("length", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
    def test_a_slow_body_ends(self, url: str, length: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(receiver, "READ_SECONDS", 0.1)
        assert status_of(exchange(url, HEAD + length + b"\r\n", b"1\r\n{\r\n")) == 408

    @pytest.mark.parametrize("length", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
    def test_a_stranger_waits_for_nothing(
        self, url: str, length: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiver, "DISCARD_SECONDS", 0.1)
        stranger = HEAD.replace(KEY.encode(), b"wrong")
        assert status_of(exchange(url, stranger + length + b"\r\n")) == 401

    def test_a_strangers_large_body_is_not_read(self, url: str) -> None:
        stranger = HEAD.replace(KEY.encode(), b"wrong")
        assert status_of(exchange(url, stranger + b"Content-Length: 99999999\r\n\r\n")) == 401

    def test_too_many_at_once(
        self, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(receiver, "MAX_UNDER_WAY", 0)
        for number in range(2):
            answer = deliver(url, missed_call(number))
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert told == ["Webhooks are answered with 503: 0 deliveries are under way in this process"]

    def test_each_delivery_makes_room_for_the_next(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(receiver, "MAX_UNDER_WAY", 1)
        assert [deliver(url, missed_call(number)).status_code for number in range(3)] == [200] * 3

    def test_too_many_strangers_at_once_are_not_heard_out(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiver, "MAX_DISCARDING", 1)
        answers = [deliver(url, missed_call(), "wrong") for _ in range(3)]
        monkeypatch.setattr(receiver, "MAX_DISCARDING", 0)
        answers.append(deliver(url, missed_call(), "wrong"))
        assert {answer.status_code for answer in answers} == {401}
        assert [answer.headers.get("Connection") for answer in answers] == [None] * 3 + ["close"]

    @pytest.mark.parametrize(("key", "length", "status"), [(KEY, 65_537, 413), (KEY, 9, 408), ("no", 9, 401)])
    def test_what_is_left_of_a_body_is_not_waited_for(
        self, url: str, monkeypatch: pytest.MonkeyPatch, key: str, length: int, status: int
    ) -> None:
        monkeypatch.setattr(receiver, "READ_SECONDS", 0.1)
        monkeypatch.setattr(receiver, "DISCARD_SECONDS", 0.1)
        head = KEPT_HEAD.replace(KEY.encode(), key.encode()) + b"Content-Length: %d\r\n\r\n" % length
        answer = exchange(url, head, b"{")
        assert status_of(answer) == status
        assert b"\r\nconnection: close\r\n" in answer.lower()

    @pytest.mark.parametrize(("key", "reads"), [(KEY, "read_body"), ("wrong", "discard_body")])
    def test_a_sender_that_leaves_is_no_error(
        self,
        url: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        key: str,
        reads: str,
    ) -> None:
        read, left = getattr(receiver, reads), []

        async def noted(request: Request, *, seconds: float) -> Any:
            try:
                return await read(request, seconds=PATIENCE_SECONDS)
            except ClientDisconnect:
                left.append(seconds)
                raise

        monkeypatch.setattr(receiver, reads, noted)
        parts = urlsplit(url)
        head = HEAD.replace(KEY.encode(), key.encode()).replace(b"%(path)s", parts.path.encode())
        with closing(socket.create_connection((parts.hostname or "", parts.port or 0))) as sender:
            sender.sendall(head + b"Content-Length: 9\r\n\r\n{")
        wait_until(lambda: left)
        # The loop has turned since then.
        assert deliver(url, missed_call()).status_code == 200
        assert [line for line in caplog.records if line.levelno >= logging.ERROR] == []


class TestLedgerTrouble:
    def test_no_ledger(
        self,
        api_server: str,
        set_connection: SetConnection,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        conn_id = set_up(set_connection, tmp_path, ledger_conn_id=None)
        answers = [deliver(address(api_server, conn_id), missed_call()) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {503}
        told = [line for line in caplog.messages if "ledger_conn_id" in line]
        assert len(told) == 1
        assert conn_id in told[0]

    @pytest.mark.parametrize(
        ("ledger", "why"),
        [(None, "is not defined, or cannot be read now"), (":memory:", "forgets every booking")],
    )
    def test_the_ledgers_connection_is_named(
        self,
        api_server: str,
        set_connection: SetConnection,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        ledger: str | None,
        why: str,
    ) -> None:
        ledger_conn_id = fresh_id("ledger")
        if ledger is not None:
            set_connection(ledger_conn_id, conn_type="sqlite", host=ledger)
        conn_id = set_up(set_connection, tmp_path, ledger_conn_id=ledger_conn_id)
        assert deliver(address(api_server, conn_id), missed_call()).status_code == 503
        [told] = [line for line in caplog.messages if why in line and conn_id in line]
        assert ledger_conn_id in told

    @pytest.mark.parametrize(
        "ledger",
        [
            {"conn_type": "sqlite", "host": "/nonexistent/folder/ledger.db"},
            {"conn_type": "sqlite", "host": ":memory:"},
            {"conn_type": "http", "host": "localhost"},
            {"conn_type": "nonsense"},
        ],
    )
    def test_a_ledger_that_cannot_be_opened(
        self, api_server: str, set_connection: SetConnection, tmp_path: Path, ledger: dict[str, str]
    ) -> None:
        ledger_conn_id = fresh_id("ledger")
        conn_id = set_up(set_connection, tmp_path, ledger_conn_id=ledger_conn_id)
        url = address(api_server, conn_id)
        assert deliver(url, missed_call()).status_code == 503
        set_connection(ledger_conn_id, **ledger)
        assert deliver(url, missed_call()).status_code == 503

    def test_a_ledger_that_was_mended_takes_deliveries(
        self, api_server: str, set_connection: SetConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(plugin_ledgers, "RETRY_SECONDS", 0.0)
        ledger_conn_id = fresh_id("ledger")
        url = address(api_server, set_up(set_connection, tmp_path, ledger_conn_id=ledger_conn_id))
        assert deliver(url, missed_call()).status_code == 503
        set_connection(ledger_conn_id, conn_type="sqlite", host=str(tmp_path / "mended.db"))
        assert deliver(url, missed_call()).status_code == 200

    def test_a_ledger_that_hangs_while_it_is_opened_holds_up_no_other(
        self,
        api_server: str,
        url: str,
        set_connection: SetConnection,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        ledger_conn_id, file = fresh_id("ledger"), tmp_path / "hanging.db"
        set_connection(ledger_conn_id, conn_type="sqlite", host=str(file))
        hanging = address(api_server, set_up(set_connection, tmp_path, ledger_conn_id=ledger_conn_id))
        read = []

        def noted(body: bytes) -> CallEvent:
            read.append(body)
            return parse_event(body)

        monkeypatch.setattr(receiver, "parse_event", noted)
        with locked(file) as release, ThreadPoolExecutor(8) as senders:
            waiting = [senders.submit(deliver, hanging, missed_call(number)) for number in range(8)]
            wait_until(lambda: len(read) == 8)
            assert deliver(url, missed_call()).status_code == 200
            release()
            assert {one.result().status_code for one in waiting} == {200}

    def test_what_fails_when_nobody_waits_any_more_is_logged_once(
        self, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(database, "SQLITE_BUSY_SECONDS", 1)
        submit, handed_in = Inbox.submit, []

        def noted(inbox: Inbox, **delivery: Any) -> Future[Receipt]:
            handed_in.append(submit(inbox, **delivery))
            return handed_in[-1]

        monkeypatch.setattr(Inbox, "submit", noted)
        assert deliver(url, missed_call()).status_code == 200
        (file,) = tmp_path.glob("*.db")
        with locked(file) as release, monkeypatch.context() as impatient:
            impatient.setattr(receiver, "STORE_SECONDS", 0.01)
            assert {deliver(url, missed_call(2 + number)).status_code for number in range(3)} == {503}
            while len(handed_in) > 1:
                assert isinstance(handed_in.pop().exception(PATIENCE_SECONDS), LedgerUnreachableError)
            release()
        # The loop has turned since they failed.
        assert deliver(url, missed_call(9)).status_code == 200
        gc.collect()
        errors = [record.name for record in caplog.records if record.levelno >= logging.ERROR]
        assert errors == [receiver.log.name]


@contextmanager
def locked(file: Path) -> Iterator[Callable[[], object]]:
    """Keep everybody else from writing to a SQLite file; yields what lets them."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("ROLLBACK")


def test_what_is_answered_with_200_is_in_a_ledger_that_was_replaced(url: str, tmp_path: Path) -> None:
    """The old file is open still: it takes everything, and nobody will ever see it again."""
    assert deliver(url, missed_call(1)).status_code == 200
    (file,) = tmp_path.glob("*.db")
    for each in tmp_path.glob("*.db*"):
        each.unlink()
    engine = sa.create_engine(f"sqlite:///{file}", future=True)
    ledger = Ledger.open(engine)

    answers = [deliver(url, missed_call(10 + number)).status_code for number in range(6)]

    with ledger.read() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM popin_events").scalar_one()
    engine.dispose()
    # Whether a delivery or the processing in the background finds out first is chance.
    assert set(answers) <= {200, 503}
    assert answers[-1] == 200
    assert kept == answers.count(200)


@pytest.fixture
def server(postgres: str, set_connection: SetConnection) -> Iterator[tuple[str, URL]]:
    """A ledger connection to Postgres, and the URL of its empty schema."""
    with empty_schema(postgres) as url:
        ledger_conn_id = fresh_id("ledger")
        set_connection(
            ledger_conn_id,
            conn_type="postgres",
            host=url.host,
            port=url.port,
            login=url.username,
            password=url.password,
            schema=url.database,
            extra=dict(url.query) | {"application_name": ledger_conn_id},
        )
        yield ledger_conn_id, url


@pytest.mark.postgres
def test_deliveries_at_once_on_postgres(
    api_server: str, set_connection: SetConnection, tmp_path: Path, server: tuple[str, URL]
) -> None:
    url = address(api_server, set_up(set_connection, tmp_path, ledger_conn_id=server[0]))
    bodies = [missed_call(number) for number in range(30)] * 2
    with ThreadPoolExecutor(20) as senders:
        answers = list(senders.map(lambda body: deliver(url, body), bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] * 30 + [True] * 30


@pytest.mark.postgres
def test_a_session_that_the_server_has_ended_costs_no_delivery(
    api_server: str, set_connection: SetConnection, tmp_path: Path, server: tuple[str, URL]
) -> None:
    """A restart, or a limit for idle sessions: hours may pass between two deliveries."""
    ledger_conn_id, database_url = server
    url = address(api_server, set_up(set_connection, tmp_path, ledger_conn_id=ledger_conn_id))
    assert deliver(url, missed_call(1)).status_code == 200
    administrator = sa.create_engine(database_url, future=True, isolation_level="AUTOCOMMIT")
    ours = sa.text(
        "SELECT count(*), count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = :ours AND state = 'idle'"
    )
    with administrator.connect() as connection:
        ended = connection.execute(ours, {"ours": ledger_conn_id}).one()[0]
        wait_until(lambda: connection.execute(ours, {"ours": ledger_conn_id}).one()[0] == 0)
    administrator.dispose()

    assert ended
    assert deliver(url, missed_call(2)).status_code == 200


def test_nothing_of_a_delivery_is_logged(
    url: str, api_server: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # What is registered as personal is searched for in the output of every test; here, in every answer, too.
    with caplog.at_level(logging.DEBUG):
        deliver(url, missed_call())
        deliver(url, missed_call(), "another-secret-key")
        deliver(url, json.dumps(missed_call()).encode()[:-5])
        time.sleep(0.3)
    captured = capfd.readouterr()
    text = caplog.text + captured.out + captured.err
    assert "another-secret-key" not in text
    assert "ring 1" not in text
