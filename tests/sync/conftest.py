"""Ledgers for tests, on SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.postgres import empty_schema
from tests.sync.ledgers import Database


@pytest.fixture
def engines() -> Iterator[Callable[[str], Engine]]:
    """Return a function that makes an engine as the hook does; all are disposed of at the end."""
    made: list[Engine] = []

    def make(url: str) -> Engine:
        engine = sa.create_engine(url, future=True)
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def sqlite_database(tmp_path: Path, engines: Callable[[str], Engine]) -> Database:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    return Database("sqlite", url, lambda: engines(url))


@pytest.fixture
def postgres_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with empty_schema(request.getfixturevalue("postgres")) as location:
        # Requested here, so that its engines are disposed of before the schema is dropped.
        engines: list[Engine] = []
        url = location.render_as_string(hide_password=False)

        def engine() -> Engine:
            engines.append(sa.create_engine(url, future=True))
            return engines[-1]

        yield Database("postgres", url, engine)
        for made in engines:
            made.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    """Return an empty database: every test that asks for it runs on SQLite and on Postgres."""
    found: Database = request.getfixturevalue(f"{request.param}_database")
    return found


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """Return a new ledger, on SQLite and on Postgres."""
    return Ledger.open(database.engine())


@pytest.fixture
def sqlite_ledger(sqlite_database: Database) -> Ledger:
    """Return a new ledger on SQLite only, for what no database has a say in."""
    return Ledger.open(sqlite_database.engine())
