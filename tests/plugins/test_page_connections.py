"""Which connections the page offers, and what it says where there is nothing to show: never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from airflow.models import Connection
from airflow.utils.session import create_session

from airflow_provider_popin.plugins.page import ledgers
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.plugins.page_site import CONN_ID, LEDGER_CONN_ID, Site, connect, hidden_in
from tests.plugins.test_page_access import RESOLVE, form

SetConnection = Callable[..., None]


@pytest.fixture
def empty_site(api_server: str, set_connection: SetConnection, tmp_path: Path) -> Iterator[Site]:
    """Return the page over a ledger without any lead."""
    connect(set_connection, tmp_path / "empty.db")
    ledger = Ledger.open(sa.create_engine(f"sqlite:///{tmp_path / 'empty.db'}", future=True))
    yield Site(api_server, ledger)
    ledger.engine.dispose()


def shown(site: Site, path: str = "", *, status: int) -> str:
    with site.session() as ada:
        answer = ada.get(site.url + path)
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text
    return answer.text


def test_a_newcomer_is_told_what_to_do(api_server: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POPIN_DEFAULT")
    text = shown(site, status=200)
    assert "No Popin connection yet" in text
    assert "Under Admin, Connections" in text
    assert "PopinLeadSyncOperator(" in text


def test_a_ledger_without_leads(empty_site: Site) -> None:
    text = shown(empty_site, status=200)
    assert "Nothing needs a person" in text
    assert "Unpause a Dag with a PopinLeadSyncOperator" in text
    for path in ("doubts", "alarms", "unmatched", "runs", "lead"):
        assert "<h2>" in shown(empty_site, path, status=200)


def test_no_ledger_yet(site: Site, set_connection: SetConnection, tmp_path: Path) -> None:
    connect(set_connection, tmp_path / "none.db")
    assert "the first run of a lead sync makes it" in shown(site, status=200)
    assert not (tmp_path / "none.db").exists()


def test_a_connection_without_ledger(site: Site, set_connection: SetConnection, tmp_path: Path) -> None:
    connect(set_connection, tmp_path / "ledger.db", ledger_conn_id="")
    text = shown(site, status=503)
    assert f"The connection {CONN_ID} names no ledger" in text
    assert "the field Ledger connection" in text


def test_a_connection_that_cannot_be_used(site: Site, set_connection: SetConnection) -> None:
    set_connection(CONN_ID, conn_type="popin", login="", password=API_KEY)
    text = shown(site, status=503)
    assert "Correct the field login of the connection popin_default" in text
    assert API_KEY not in text


def test_a_ledger_connection_that_is_not_there(
    site: Site, set_connection: SetConnection, tmp_path: Path
) -> None:
    connect(set_connection, tmp_path / "ledger.db", ledger_conn_id="popin_gone")
    assert "There is no connection popin_gone" in shown(site, status=503)


def test_a_ledger_connection_of_another_type(site: Site, set_connection: SetConnection) -> None:
    set_connection(LEDGER_CONN_ID, conn_type="http", host="example.com")
    assert f"The connection {LEDGER_CONN_ID} cannot be used" in shown(site, status=503)


def test_a_ledger_that_does_not_answer(
    site: Site, set_connection: SetConnection, caplog: pytest.LogCaptureFixture
) -> None:
    # Nothing listens there.
    set_connection(LEDGER_CONN_ID, conn_type="postgres", host="127.0.0.1", port=1, login="u", schema="x")
    text = shown(site, status=503)
    assert f"The ledger {LEDGER_CONN_ID} does not answer" in text
    assert "127.0.0.1" not in text
    assert "cannot be read" in caplog.text


def test_a_ledger_that_is_newer(site: Site) -> None:
    with site.ledger.write() as connection:
        connection.execute(sa.text("UPDATE popin_ledger SET schema_version = 99"))
    assert "schema version 99" in shown(site, status=503)


def test_a_ledger_that_fails_while_it_is_open(site: Site) -> None:
    shown(site, status=200)
    with site.ledger.write() as connection:
        connection.execute(sa.text("DROP TABLE popin_runs"))
    assert f"The ledger {LEDGER_CONN_ID} does not answer" in shown(site, status=503)


@pytest.fixture
def second(site: Site, set_connection: SetConnection, tmp_path: Path) -> Iterator[Path]:
    """Make a second connection in Airflow's database, whose ledger is empty; return the ledger's file."""
    file = tmp_path / "second.db"
    Ledger.open(sa.create_engine(f"sqlite:///{file}", future=True)).engine.dispose()
    set_connection("second_ledger", conn_type="sqlite", host=str(file))
    stored = Connection(
        conn_id="popin_emea",
        conn_type="popin",
        login=SELLER_TOKEN,
        password=API_KEY,
        extra='{"ledger_conn_id": "second_ledger", "account": "emea"}',
    )
    with create_session() as session:
        session.add(stored)
    yield file
    with create_session() as session:
        session.execute(sa.delete(Connection).where(Connection.conn_id == "popin_emea"))


def test_one_of_several_ledgers(site: Site, second: Path) -> None:
    first = shown(site, status=200)
    assert 'value="popin_emea"' in first
    assert f'value="{CONN_ID}" selected' in first
    assert "L-doubt" in first
    other = shown(site, "?connection=popin_emea", status=200)
    assert "L-doubt" not in other
    # Links and forms keep to the ledger that is being looked at.
    assert "doubts?connection=popin_emea" in other
    assert "There is no Popin connection popin_gone" in shown(site, "?connection=popin_gone", status=503)


def test_an_action_goes_to_the_ledger_of_its_form(site: Site, second: Path) -> None:
    with site.session() as ada:
        page = ada.get(f"{site.url}{RESOLVE}&connection={CONN_ID}")
        hidden = hidden_in(page.text)
        assert ada.post(f"{site.url}{RESOLVE}&connection=popin_emea", data=form(**hidden)).status_code == 404
        assert ada.post(f"{site.url}{RESOLVE}&connection=popin_gone", data=form(**hidden)).status_code == 503
        assert site.state("L-doubt") == "in_doubt"
        done = ada.post(f"{site.url}{RESOLVE}&connection={CONN_ID}", data=form(**hidden))
        assert f"connection={CONN_ID}" in done.url
    assert site.state("L-doubt") == "booked"


def test_connections_that_only_the_configuration_names(
    site: Site, monkeypatch: pytest.MonkeyPatch, set_connection: SetConnection
) -> None:
    monkeypatch.setenv("AIRFLOW__POPIN__CONNECTIONS", "popin_vault, popin_default,")
    assert ledgers.connection_ids() == ["popin_default", "popin_vault"]
    assert "There is no connection popin_vault" in shown(site, "?connection=popin_vault", status=503)


def test_the_default_connection_may_be_one_that_cannot_be_listed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "listed_conn_ids", set)
    assert ledgers.connection_ids() == [CONN_ID]
    monkeypatch.delenv(f"AIRFLOW_CONN_{CONN_ID.upper()}")
    assert ledgers.connection_ids() == []


def test_an_edited_ledger_connection_counts_at_once(
    site: Site, set_connection: SetConnection, second: Path
) -> None:
    assert "L-doubt" in shown(site, status=200)
    set_connection(LEDGER_CONN_ID, conn_type="sqlite", host=str(second))
    assert "L-doubt" not in shown(site, status=200)


def test_ledgers_are_closed(site: Site, set_connection: SetConnection, second: Path) -> None:
    kept = ledgers.ShownLedgers()
    opened = kept.open(CONN_ID)
    assert opened.account == "shop"
    assert kept.open(CONN_ID).ledger is opened.ledger
    first_pool = opened.ledger.engine.pool
    set_connection(LEDGER_CONN_ID, conn_type="sqlite", host=str(second))
    reopened = kept.open(CONN_ID)
    assert opened.ledger.engine.pool is not first_pool
    second_pool = reopened.ledger.engine.pool
    kept.close()
    assert reopened.ledger.engine.pool is not second_pool
    kept.close()
