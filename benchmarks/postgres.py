"""A Postgres server of the benchmark's own: that of the tests, but durable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

from tests.postgres_server import find_programs, running_server

programs = find_programs


@contextmanager
def running(where: Path) -> Iterator[str]:
    """Start a server with its default settings (``fsync`` on), and stop it; yield the SQLAlchemy URL.

    Which processor core it runs on is left to the kernel: in production it is another machine.

    :param where: from :func:`programs`
    """
    with running_server(where, durable=True) as address:
        yield f"postgresql+psycopg://popin@{address}/postgres"


def empty(url: str) -> None:
    """Drop everything in the database, so that the next ledger is new.

    :param url: from :func:`running`
    """
    engine = sqlalchemy.create_engine(url, future=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
