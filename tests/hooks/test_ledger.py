"""Engines from Airflow connections: the ledger's, and those of other tables."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.hooks import ledger
from airflow_provider_popin.hooks.ledger import open_ledger, sql_engine
from airflow_provider_popin.sync.errors import LedgerError
from tests.hooks.extras import extra_is_handed_on
from tests.waiting import PATIENCE_SECONDS


def test_a_ledger_is_made_in_the_file_of_the_connection(
    tmp_path: Path, set_connection: Callable[..., None]
) -> None:
    set_connection("ledger", conn_type="sqlite", host=str(tmp_path / "a ledger.db"))

    first, second = open_ledger("ledger"), open_ledger("ledger")
    try:
        assert first.ledger_id == second.ledger_id != ""
        assert (tmp_path / "a ledger.db").exists()
    finally:
        first.engine.dispose()
        second.engine.dispose()


def test_a_ledger_from_a_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LEDGER", f"sqlite:///{tmp_path / 'uri.db'}")

    open_ledger("ledger").engine.dispose()
    assert (tmp_path / "uri.db").exists()


@pytest.mark.parametrize("host", [None, ":memory:"])
def test_a_ledger_in_memory_is_refused(set_connection: Callable[..., None], host: str | None) -> None:
    set_connection("ledger", conn_type="sqlite", host=host)

    with pytest.raises(LedgerError):
        open_ledger("ledger")


@pytest.mark.parametrize("name", ["100%.db", "what?.db", "a%20b.db", "a#b.db"])
def test_a_path_that_airflows_versions_read_differently_is_refused(
    tmp_path: Path, set_connection: Callable[..., None], name: str
) -> None:
    set_connection("ledger", conn_type="sqlite", host=str(tmp_path / name))

    with pytest.raises(PopinConfigError) as caught:
        sql_engine("ledger")
    assert (caught.value.conn_id, caught.value.field) == ("ledger", "host")


@pytest.mark.parametrize(
    ("conn_type", "said"),
    [
        ("popin", "names no SQL database"),
        ("a-type-of-no-provider", "no installed provider has a hook for it: install that provider"),
    ],
)
def test_a_connection_that_is_no_database_is_refused(
    set_connection: Callable[..., None], conn_type: str, said: str
) -> None:
    set_connection("ledger", conn_type=conn_type, host="popin.example")

    with pytest.raises(PopinConfigError) as caught:
        sql_engine("ledger")
    assert (caught.value.conn_id, caught.value.field) == ("ledger", "conn_type")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("conn_type", "extra"),
    [
        ("sqlite", {"timeout": "soon"}),
        pytest.param("sqlite", ["timeout"], marks=extra_is_handed_on),
        ("postgres", {"sqlalchemy_scheme": "oracle"}),
        pytest.param("postgres", ["sslmode"], marks=extra_is_handed_on),
    ],
)
def test_extras_that_cannot_be_used_are_named(
    set_connection: Callable[..., None], tmp_path: Path, conn_type: str, extra: object
) -> None:
    set_connection("ledger", conn_type=conn_type, host=str(tmp_path / "ledger.db"), extra=extra)

    with pytest.raises(PopinConfigError) as caught:
        sql_engine("ledger")
    assert (caught.value.conn_id, caught.value.field) == ("ledger", "extra")


def test_both_versions_of_sqlalchemy_behave_alike_and_errors_show_no_values(
    tmp_path: Path, set_connection: Callable[..., None]
) -> None:
    set_connection("crm", conn_type="sqlite", host=str(tmp_path / "crm.db"))
    engine = sql_engine("crm")
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE leads (name TEXT UNIQUE)"))
            connection.execute(sa.text("INSERT INTO leads VALUES (:name)"), {"name": "Somebody Special"})
        with pytest.raises(sa.exc.IntegrityError) as caught, engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO leads VALUES (:name)"), {"name": "Somebody Special"})
        assert "Somebody Special" not in str(caught.value)
    finally:
        engine.dispose()


def test_a_postgres_engine_takes_the_driver_of_its_sqlalchemy(set_connection: Callable[..., None]) -> None:
    set_connection("pg", conn_type="postgres", host="127.0.0.1", login="u", password="pg-secret", schema="db")
    engine = sql_engine("pg")

    assert engine.dialect.name == "postgresql"
    assert engine.driver == ("psycopg2" if sa.__version__.startswith("1.") else "psycopg")
    engine.dispose()


@pytest.mark.parametrize("host", ["db..example.com", ".db.example.com", f"one,{'x' * 64}.example.com"])
def test_a_host_that_python_cannot_look_up_is_refused(set_connection: Callable[..., None], host: str) -> None:
    set_connection("pg", conn_type="postgres", host=host, login="u", schema="db")

    with pytest.raises(PopinConfigError) as caught:
        open_ledger("pg")
    assert (caught.value.conn_id, caught.value.field) == ("pg", "host")


@pytest.mark.parametrize("host", [None, "one.,10.0.0.1", "::1", f"/{'x' * 64}/run", "b\u00fccher.example"])
def test_what_else_may_be_a_postgres_host(set_connection: Callable[..., None], host: str | None) -> None:
    set_connection("pg", conn_type="postgres", host=host, login="u", schema="db")
    sql_engine("pg").dispose()


@pytest.mark.parametrize("extra", [None, {"sslmode": "disable"}])
def test_a_postgres_server_that_never_answers_is_not_waited_for(
    set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch, extra: dict[str, object] | None
) -> None:
    monkeypatch.setattr(ledger, "CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fields = {"host": "127.0.0.1", "port": silent.getsockname()[1], "login": "u", "schema": "db"}
        set_connection("pg", conn_type="postgres", password="pg-secret", **fields, extra=extra)
        engine = sql_engine("pg")
        # Without the limit the test itself would wait: it ends the conversation after a while.
        hang_up = threading.Timer(PATIENCE_SECONDS, silent.close)
        hang_up.start()
        with pytest.raises(sa.exc.OperationalError):
            engine.connect()
        assert hang_up.is_alive(), "it waited for the server"
        hang_up.cancel()


def test_a_limit_of_the_connection_itself_counts(
    set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "CONNECT_SECONDS", 60)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fields = {"host": "127.0.0.1", "port": silent.getsockname()[1], "login": "u", "schema": "db"}
        set_connection(
            "pg", conn_type="postgres", password="pg-secret", **fields, extra={"connect_timeout": 2}
        )
        started = time.monotonic()
        with pytest.raises(sa.exc.OperationalError):
            sql_engine("pg").connect()
        assert time.monotonic() - started < 45


@pytest.mark.postgres
@pytest.mark.parametrize("extra", [None, {"sslmode": "disable"}, {"tcp_user_timeout": 7000}])
def test_a_postgres_machine_that_is_gone_is_noticed(
    set_connection: Callable[..., None], postgres: str, extra: dict[str, object] | None
) -> None:
    url = sa.engine.make_url(f"postgresql://{postgres}")
    fields = {"host": url.host, "port": url.port, "login": url.username, "password": url.password}
    set_connection("pg", conn_type="postgres", schema=url.database, **fields, extra=extra)
    engine = sql_engine("pg")
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        info = driver.info
        told = info.get_parameters() if hasattr(info, "get_parameters") else info.dsn_parameters
    engine.dispose()

    assert int(told["keepalives_idle"]) < 60
    assert int(told["tcp_user_timeout"]) == (extra or {}).get("tcp_user_timeout", 30_000)


@pytest.mark.parametrize(
    ("executor", "allowed", "refused"),
    [
        ("LocalExecutor", "", False),
        ("SequentialExecutor", "", False),
        ("airflow.executors.local_executor.LocalExecutor", "", False),
        ("CeleryExecutor", "", True),
        ("LocalExecutor,KubernetesExecutor", "", True),
        ("k8s:airflow.providers.cncf.kubernetes.executors.kubernetes_executor.KubernetesExecutor", "", True),
        ("LocalExecutor;team=LocalExecutor", "", False),
        ("LocalExecutor;team=own:LocalExecutor", "", False),
        ("LocalExecutor;team=CeleryExecutor", "", True),
        ("CeleryExecutor", "CeleryExecutor", False),
        ("CeleryExecutor,KubernetesExecutor", "CeleryExecutor", True),
        ("CeleryExecutor", "KubernetesExecutor", True),
    ],
)
def test_a_sqlite_ledger_under_a_remote_executor_is_refused_unless_allowed_by_name(
    tmp_path: Path,
    set_connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    allowed: str,
    refused: bool,
) -> None:
    set_connection("ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.setenv("AIRFLOW__POPIN__SQLITE_LEDGER_EXECUTORS", allowed)

    if refused:
        with pytest.raises(PopinConfigError, match="SQLITE_LEDGER_EXECUTORS") as caught:
            open_ledger("ledger")
        assert caught.value.conn_id == "ledger"
    else:
        open_ledger("ledger").engine.dispose()


@pytest.mark.postgres
def test_extras_of_a_postgres_connection_reach_the_server(
    postgres: str, set_connection: Callable[..., None]
) -> None:
    url = sa.engine.make_url(f"postgresql://{postgres}")
    fields = {
        "conn_type": "postgres",
        "host": url.host,
        "port": url.port,
        "login": url.username,
        "password": url.password,
        "schema": url.database,
    }
    set_connection("ledger", **fields, extra={"application_name": "popin-test", "sslmode": "disable"})
    engine = sql_engine("ledger")
    try:
        with engine.connect() as connection:
            assert connection.execute(sa.text("SHOW application_name")).scalar_one() == "popin-test"
            assert connection.execute(sa.text("SELECT :given"), {"given": "one"}).scalar_one() == "one"
    finally:
        engine.dispose()

    set_connection("strict", **fields, extra={"sslmode": "verify-full"})
    engine = sql_engine("strict")
    with pytest.raises(sa.exc.OperationalError):  # the server of the tests offers no TLS
        engine.connect()

    set_connection("rows_as_mappings", **fields, extra={"cursor": "dictcursor"})
    with pytest.raises(PopinConfigError, match="cursor"):
        sql_engine("rows_as_mappings")
