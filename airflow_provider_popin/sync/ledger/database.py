"""The ledger's database: what makes a SQLite file or a Postgres server durable, and what errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from airflow_provider_popin.sync.errors import (
    LedgerError,
    LedgerRolledBackError,
    LedgerUnreachableError,
    LedgerUnusableError,
)
from airflow_provider_popin.sync.ledger import record_sql

# How long a writer waits for another process's transaction on SQLite before "database is locked".
SQLITE_BUSY_SECONDS = 30
# An execution option: a transaction that only reads.
READ_ONLY = "popin_read_only"
# In the notes of a SQLite connection: which file it has open.
_FILE = "popin_file"
# By Postgres's SQLSTATE: a deadlock; a conflict with another transaction; a prepared statement that a pooler
# has lost, or mistaken for another (none, one of that name already, other parameters).
_ROLLED_BACK = frozenset({"40P01", "40001", "26000", "42P05", "08P01"})
# What the server is able to do at the moment, whatever it is asked: a standby in recovery, or a server that
# takes no writes because its storage is nearly full, says so with the last two.
_PASSING = (OperationalError, InterfaceError, InternalError, NotSupportedError)


def prepare(engine: Engine, *, create: bool) -> None:
    """Refuse what cannot keep a promise, and make the rest durable.

    :param engine: not yet connected
    :param create: False leaves a database alone that holds no ledger: not even its journal mode is changed
    :raises LedgerUnusableError: in-memory SQLite, a relative path, or another database
    """
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise LedgerUnusableError(
            f"the ledger needs a SQLite file or Postgres, the connection is {engine.dialect.name}: "
            "no other database is tested for the promise yet"
        )
    # Parameters of a failed statement hold customer ids and links; they must not reach a log.
    engine.hide_parameters = True
    if engine.dialect.name == "sqlite":
        file = _sqlite_file(engine)
        if file is None:
            raise LedgerUnusableError(
                "an in-memory SQLite ledger forgets every booking: give the connection a file"
            )
        if not file.is_absolute():
            raise LedgerUnusableError(
                f"the SQLite file {str(file)!r} is another one in every working directory: "
                "give the connection an absolute path"
            )
        sa.event.listen(engine, "connect", _durable_sqlite)
        if create:
            sa.event.listen(engine, "connect", _write_ahead_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        # Before SQLAlchemy's own look at a new connection, which some encodings break.
        sa.event.listen(engine, "connect", _durable_postgres, insert=True)
        # Whatever the server's default: the transactions lock the rows that they decide about.
        engine.update_execution_options(isolation_level="READ COMMITTED")
    # Connections from before would not have been told.
    engine.dispose()


def may_exist(engine: Engine) -> bool:
    """Whether there is a database to connect to: connecting to a SQLite file that is not there creates it.

    :param engine: from :func:`prepare`
    """
    if engine.dialect.name != "sqlite":
        return True
    file = _sqlite_file(engine)
    return file is not None and file.is_file()


def file_problem(engine: Engine) -> str | None:
    """What keeps a SQLite file from being made or written; None where nothing does, and for other databases.

    Connecting would tell as well, and create the file.

    :param engine: connected or not; nothing is asked of it
    """
    file = _sqlite_file(engine) if engine.dialect.name == "sqlite" else None
    if file is None:
        return None
    if file.is_dir():
        return f"{file} is a directory: the connection must name a file"
    if not file.parent.is_dir():
        return f"there is no directory {file.parent}"
    # The log of a SQLite file is written beside it.
    if not os.access(file.parent, os.W_OK | os.X_OK) or (file.exists() and not os.access(file, os.W_OK)):
        return f"{file} cannot be written by this user"
    return None


@contextmanager
def translated() -> Iterator[None]:
    """What the database or its driver raises becomes an error of the ledger, whose text holds no value.

    :raises LedgerRolledBackError: nothing was written, for certain
    :raises LedgerUnreachableError: the same statement may succeed later
    :raises LedgerError: the database refused it
    """
    try:
        yield
    except DBAPIError as error:
        if _sql_state(error) in _ROLLED_BACK:
            raise LedgerRolledBackError(_described(error)) from error
        if error.connection_invalidated or isinstance(error, _PASSING):
            raise LedgerUnreachableError(_described(error)) from error
        raise LedgerError(_described(error)) from error
    except PoolTimeoutError as error:
        raise LedgerUnreachableError("all connections to the ledger's database are taken") from error
    except SQLAlchemyError as error:
        raise LedgerError(_described(error)) from error


def encoding_error(error: ValueError) -> LedgerError:
    """The error of the ledger for what a driver cannot encode: a NUL, half of a surrogate pair.

    :param error: its text may quote the value
    """
    return LedgerError(f"the database's driver cannot encode a value: {type(error).__name__}")


def _sqlite_file(engine: Engine) -> Path | None:
    """The file; None where the database is in memory."""
    path = engine.url.database
    if not path or ":memory:" in path or engine.url.query.get("mode") == "memory" or "mode=memory" in path:
        return None
    return Path(path.removeprefix("file:").partition("?")[0])


def _durable_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin late; we begin ourselves (_begin_sqlite).
    connection.isolation_level = None
    for pragma in (f"busy_timeout={SQLITE_BUSY_SECONDS * 1000}", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()


def _write_ahead_sqlite(connection: Any, _record: object) -> None:
    # The mode is a property of the file: once set, connections that do not ask for it have it too.
    mode = _switched_to_write_ahead(connection)
    if mode != "wal":
        raise LedgerUnusableError(
            f"the SQLite database keeps no write-ahead log (it says {mode}): give it a file"
        )


def _switched_to_write_ahead(connection: Any) -> str:
    """Two connections that switch a file at once: SQLite tells one of them that it is locked without the
    wait that ``busy_timeout`` promises for every other statement.
    """
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    file = _sqlite_file(connection.engine)
    assert file is not None
    known, found = connection.info.get(_FILE), _identity_of(file)
    if known not in (None, found):
        # What is written to a deleted file is there for whoever has it open, and gone with them.
        connection.invalidate()
        raise LedgerUnreachableError(f"the ledger's file {file} was deleted or replaced while it was in use")
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    # A transaction that reads first and writes later is "locked" at once, whatever the busy timeout.
    with record_sql.driver_cursor(connection) as cursor:
        cursor.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
    if known is None and (found := found or _identity_of(file)) is not None:
        connection.info[_FILE] = found


def _identity_of(file: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _durable_postgres(connection: Any, _record: object) -> None:
    *_, stores_any_text, process = _asked(
        connection,
        "SELECT set_config('synchronous_commit', 'on', false), set_config('client_encoding', 'UTF8', false),"
        " current_setting('server_encoding') = 'UTF8', pg_backend_pid()",
    )
    if not stores_any_text:
        connection.close()
        raise LedgerUnusableError(
            "the ledger's database does not store every text: create it with ENCODING 'UTF8'"
        )
    if hasattr(connection, "set_client_encoding"):
        connection.set_client_encoding("UTF8")  # psycopg2 does not notice by itself
    if process != connection.info.backend_pid:
        _accept_pooler(connection)


def _accept_pooler(connection: Any) -> None:
    """Something in between changes the server's process between two transactions, as PgBouncer may."""
    # What was prepared in one process is not there in the next, or is another client's.
    if hasattr(connection, "prepare_threshold"):
        connection.prepare_threshold = None
    # What was set in one holds there only.
    (waits_for_the_disk,) = _asked(
        connection, "SELECT reset_val <> 'off' FROM pg_settings WHERE name = 'synchronous_commit'"
    )
    if not waits_for_the_disk:
        connection.close()
        raise LedgerUnusableError(
            "the ledger's database commits without waiting for the disk, which cannot be changed through a "
            "pooler: ALTER ROLE ... SET synchronous_commit = on, for the role of the connection"
        )


def _asked(connection: Any, question: str) -> tuple[Any, ...]:
    cursor = connection.cursor()
    cursor.execute(question)
    row: tuple[Any, ...] = cursor.fetchone()
    cursor.close()
    connection.commit()
    return row


def _sql_state(error: DBAPIError) -> str | None:
    # As psycopg names it, and as psycopg2 does.
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)


def _described(error: SQLAlchemyError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    first_line = (str(cause).splitlines() or [""])[0]
    return f"the ledger's database answered: {type(cause).__name__}: {first_line}"
