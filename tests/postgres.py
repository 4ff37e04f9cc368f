"""Postgres for tests: the server of ``POPIN_TEST_POSTGRES``, or our own from the installed programs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from tests import postgres_server

# As Airflow's Postgres hook does: psycopg2 under SQLAlchemy 1.4 (Airflow 2.11), psycopg 3 under 2.x.
DRIVER = "psycopg2" if sa.__version__.startswith("1.") else "psycopg"
_MISSING = "NOT TESTED: no Postgres. Install the package postgresql, or set POPIN_TEST_POSTGRES"


@contextmanager
def server_for_tests() -> Iterator[str]:
    """Yield ``user[:password]@host:port/database`` of a server; skip loudly where there is none.

    ``POPIN_TEST_POSTGRES`` names one, as a SQLAlchemy URL or without its scheme. In CI (``CI`` is set)
    nothing is skipped: a missing server is a failure.
    """
    given = os.environ.get("POPIN_TEST_POSTGRES")
    if given:
        yield given.partition("://")[2] or given
        return
    programs = postgres_server.find_programs()
    if programs is None:
        if os.environ.get("CI"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    with postgres_server.running_server(programs) as address:
        yield f"popin@{address}/postgres"


@contextmanager
def empty_schema(address: str) -> Iterator[URL]:
    """Yield the URL of an empty schema of its own; the schema is dropped at the end.

    :param address: from :func:`server_for_tests`
    """
    name = f"popin_{uuid.uuid4().hex}"
    server = sa.engine.make_url(f"postgresql+{DRIVER}://{address}")
    administrator = sa.create_engine(server, future=True, isolation_level="AUTOCOMMIT")
    _execute(administrator, f"CREATE SCHEMA {name}")
    try:
        yield server.update_query_dict({"options": f"-csearch_path={name}"})
    finally:
        _execute(administrator, "SET lock_timeout = '10s'", f"DROP SCHEMA {name} CASCADE")
        administrator.dispose()


def _execute(engine: Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
