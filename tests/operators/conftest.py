"""Databases, a customer and a slot for the operators' tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy
from sqlalchemy.engine import Engine

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.hooks.popin import PopinHook
from tests.operators.support import ASHA

_DATABASE = "popin_crm"


@pytest.fixture
def customer_id(popin_connection: str) -> str:
    """Return the id of a customer that Popin knows."""
    with PopinHook() as hook:
        return hook.capture(name=ASHA["name"], mobile=ASHA["mobile"]).customer_id


@pytest.fixture
def slot(popin_connection: str) -> Slot:
    """Return the last free slot."""
    with PopinHook() as hook:
        return hook.get_slots().slots[-1]


@pytest.fixture
def crm_on_sqlite(tmp_path: Path, set_connection: Callable[..., None]) -> Iterator[Engine]:
    """Yield an engine of an empty SQLite file that the connection ``crm`` points to."""
    set_connection("crm", conn_type="sqlite", host=str(tmp_path / "crm.db"))
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'crm.db'}", future=True)
    yield engine
    engine.dispose()


@pytest.fixture
def crm_on_postgres(postgres: str, set_connection: Callable[..., None]) -> Iterator[Engine]:
    """Yield an engine of an empty Postgres database that the connection ``crm`` points to."""
    url = urlsplit("postgresql://" + postgres)
    set_connection(
        "crm",
        conn_type="postgres",
        host=url.hostname,
        port=url.port,
        login=url.username,
        password=url.password,
        schema=_DATABASE,
    )
    server = url._replace(scheme="postgresql+psycopg2")
    administrator = sqlalchemy.create_engine(server.geturl(), future=True, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        connection.exec_driver_sql(f"CREATE DATABASE {_DATABASE}")
    administrator.dispose()
    engine = sqlalchemy.create_engine(server._replace(path=f"/{_DATABASE}").geturl(), future=True)
    yield engine
    engine.dispose()


@pytest.fixture(params=["crm_on_sqlite", pytest.param("crm_on_postgres", marks=pytest.mark.postgres)])
def crm(request: pytest.FixtureRequest) -> Engine:
    """Return an engine of an empty database, each kind in turn."""
    engine = request.getfixturevalue(request.param)
    assert isinstance(engine, Engine)
    return engine
