"""A Postgres server of the benchmark's own: that of the tests, but durable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import sqlalchemy

from tests.postgres_server import find_programs, running_server

programs = find_programs


@contextmanager
def running(where: Path, core: int) -> Iterator[str]:
    """Start a server with its default settings (``fsync`` on), and stop it; yield the SQLAlchemy URL.

    It runs on the core of the servers: in production it is another machine than the client's.

    :param where: from :func:`programs`
    :param core: number of the core
    """
    usable = os.sched_getaffinity(0)
    with ExitStack() as stack:
        os.sched_setaffinity(0, {core})  # processes that are started from here inherit it
        try:
            address = stack.enter_context(running_server(where, durable=True))
        finally:
            os.sched_setaffinity(0, usable)
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
