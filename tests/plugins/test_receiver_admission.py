"""Who may deliver: keys, guesses, and how often connections are read."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from airflow_provider_popin.plugins import admission
from airflow_provider_popin.plugins.admission import BusyError, Doorkeeper, RefusedError
from airflow_provider_popin.plugins.connections import ConnectionsUnavailableError, WebhookConnection
from tests.waiting import PATIENCE_SECONDS

KEY = b"a-webhook-key"


def connection(conn_id: str, key: bytes | None = KEY) -> WebhookConnection:
    digest = None if key is None else hashlib.sha256(key).digest()
    return WebhookConnection(
        conn_id=conn_id, account="shop", ledger_conn_id="ledger", key_digest=digest, secret=b"s"
    )


class Airflow:
    """Its connections, and how often they were read."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.connections: dict[str, WebhookConnection] = {"shop": connection("shop")}
        self.reads: Counter[str] = Counter()
        self.down = False
        self.door = Doorkeeper(self.read, clock=lambda: self.now)

    def read(self, conn_id: str) -> WebhookConnection | None:
        self.reads[conn_id] += 1
        if self.down:
            raise ConnectionsUnavailableError
        return self.connections.get(conn_id)

    async def guess(self, conn_id: str, key: bytes | None = b"wrong") -> str:
        try:
            await self.door.admit(conn_id, key)
        except RefusedError:
            return "refused"
        except BusyError:
            return "busy"
        return "admitted"


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


class TestKeys:
    @pytest.mark.parametrize(
        "presented", [None, b"", b"a-webhook-ke", b"a-webhook-key ", b"A-WEBHOOK-KEY", b"."]
    )
    def test_only_the_key_is_accepted(self, presented: bytes | None) -> None:
        assert connection("shop").accepts(KEY)
        assert not connection("shop").accepts(presented)

    @pytest.mark.parametrize("presented", [None, b"", b".", KEY, bytes(32)])
    def test_without_a_key_nothing_is_accepted(self, presented: bytes | None) -> None:
        assert not connection("shop", None).accepts(presented)

    def test_a_dot_is_a_key_like_any_other(self) -> None:
        dot = connection("shop", b".")
        assert dot.accepts(b".")
        assert not dot.accepts(None)
        assert not dot.accepts(b"")

    def test_no_key_is_shown(self) -> None:
        shown = repr(connection("shop"))
        assert "digest" not in shown
        assert "secret" not in shown


class TestReading:
    async def test_a_connection_is_read_once_in_half_a_minute(self, airflow: Airflow) -> None:
        for _ in range(200):
            assert await airflow.guess("shop", KEY) == "admitted"
        assert airflow.reads["shop"] == 1
        airflow.now += admission.FRESH_SECONDS
        assert await airflow.guess("shop", KEY) == "admitted"
        assert airflow.reads["shop"] == 2

    async def test_a_burst_shares_one_reading(self, airflow: Airflow) -> None:
        answers = await asyncio.gather(*(airflow.guess("shop", KEY) for _ in range(300)))
        assert set(answers) == {"admitted"}
        assert airflow.reads["shop"] == 1

    async def test_a_changed_key_counts_after_half_a_minute(self, airflow: Airflow) -> None:
        assert await airflow.guess("shop", KEY) == "admitted"
        airflow.connections["shop"] = connection("shop", b"another")
        airflow.now += admission.FRESH_SECONDS
        assert await airflow.guess("shop", KEY) == "refused"
        assert await airflow.guess("shop", b"another") == "admitted"

    @pytest.mark.parametrize("gone", [lambda c: c.clear(), lambda c: c.update(shop=connection("shop", None))])
    async def test_a_connection_that_is_closed_is_closed(
        self, airflow: Airflow, gone: Callable[[dict[str, WebhookConnection]], None]
    ) -> None:
        assert await airflow.guess("shop", KEY) == "admitted"
        gone(airflow.connections)
        airflow.now += admission.FRESH_SECONDS
        assert await airflow.guess("shop", KEY) == "refused"

    async def test_what_is_known_survives_an_outage_of_airflows_database(self, airflow: Airflow) -> None:
        assert await airflow.guess("shop", KEY) == "admitted"
        airflow.down = True
        airflow.now += admission.FRESH_SECONDS
        assert await airflow.guess("shop", KEY) == "admitted"
        assert await airflow.guess("shop") == "refused"
        airflow.now += admission.STALE_SECONDS
        assert await airflow.guess("shop", KEY) == "busy"
        airflow.down = False
        assert await airflow.guess("shop", KEY) == "admitted"

    async def test_what_is_not_known_waits_for_airflows_database(self, airflow: Airflow) -> None:
        airflow.down = True
        with pytest.raises(BusyError, match="cannot be read from Airflow"):
            await airflow.door.admit("shop", KEY)
        airflow.down = False
        assert await airflow.guess("shop", KEY) == "admitted"

    async def test_an_unforeseen_error_refuses_nobody(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(conn_id: str) -> WebhookConnection | None:
            raise KeyError("a secret")

        door = Doorkeeper(broken)
        with pytest.raises(BusyError):
            await door.admit("shop", KEY)
        await asyncio.sleep(0)
        assert "KeyError" in caplog.text
        assert "a secret" not in caplog.text

    async def test_a_hanging_secrets_backend_delays_nobody_for_long(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert await airflow.guess("shop", KEY) == "admitted"
        monkeypatch.setattr(admission, "_REFRESH_SECONDS", 0.01)
        monkeypatch.setattr(admission, "_LOOKUP_SECONDS", 0.01)
        hanging = threading.Event()

        def read(conn_id: str) -> WebhookConnection | None:
            hanging.wait(PATIENCE_SECONDS)
            return None

        airflow.door._read = read
        airflow.now += admission.FRESH_SECONDS
        assert await airflow.guess("shop", KEY) == "admitted"
        with pytest.raises(BusyError, match="could not be read from Airflow within"):
            await airflow.door.admit("other", KEY)
        hanging.set()
        airflow.door.close()

    async def test_connections_that_were_listed_need_no_reading(self, airflow: Airflow) -> None:
        airflow.door.expect([connection("listed"), connection("closed", None)])
        assert await airflow.guess("listed", KEY) == "admitted"
        assert await airflow.guess("closed", KEY) == "refused"
        assert not airflow.reads


class TestGuessing:
    async def test_an_unknown_id_and_a_wrong_key_look_alike(self, airflow: Airflow) -> None:
        assert await airflow.guess("shop", KEY) == "admitted"
        airflow.now += 1.0
        for conn_id in ("shop", "nobody", "shop", "nobody"):
            assert await airflow.guess(conn_id) == "refused"

    @pytest.mark.parametrize("conn_id", ["shop", "nobody"])
    async def test_guesses_run_out_alike(self, airflow: Airflow, conn_id: str) -> None:
        assert await airflow.guess("shop", KEY) == "admitted"
        airflow.now += 1.0
        answers = [await airflow.guess(conn_id) for _ in range(admission.GUESSES_PER_SECOND + 3)]
        assert answers == ["refused"] * admission.GUESSES_PER_SECOND + ["busy"] * 3
        other = "nobody" if conn_id == "shop" else "shop"
        with pytest.raises(BusyError, match="more than 20 unknown addresses or wrong keys"):
            await airflow.door.admit(other, b"wrong")
        # Who has the key is not disturbed.
        assert await airflow.guess("shop", KEY) == "admitted"
        airflow.now += 1.0
        assert await airflow.guess(conn_id) == "refused"

    async def test_guessing_ids_reads_few_connections(self, airflow: Airflow) -> None:
        for number in range(500):
            await airflow.guess(f"guess{number}")
        assert airflow.reads.total() == admission.GUESSES_PER_SECOND

    async def test_guesses_are_forgotten_and_push_out_nobody(
        self, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admission, "MAX_REMEMBERED", 10)
        assert await airflow.guess("shop", KEY) == "admitted"
        for number in range(50):
            airflow.now += 0.1
            await airflow.guess(f"guess{number}")
        assert len(airflow.door._unknown) <= 10
        assert await airflow.guess("shop", KEY) == "admitted"
        assert airflow.reads["shop"] == 1
