"""Databases named by an Airflow connection: the ledger, and the tables of leads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowException, BaseHook, Connection, conf

from airflow_provider_popin.client.errors import PopinConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from airflow_provider_popin.sync.ledger.ledger import Ledger

DEFAULT_LEDGER: Final = "popin_ledger"
# Executors whose tasks all run on one machine, and so see one file.
_LOCAL_EXECUTORS = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})
# A Postgres server that answers at all does so within this time; libpq itself would wait for ever.
CONNECT_SECONDS = 5
# A host that failed and a firewall that forgot the connection say nothing: the system would send for 15
# minutes what nobody takes, and wait for two hours for an answer before it asks for it.
GONE_SECONDS = 30


def open_ledger(ledger_conn_id: str) -> Ledger:
    """Open the ledger behind a connection; its tables are created on first use.

    :param ledger_conn_id: id of a SQLite or Postgres connection.
    :raises PopinConfigError: the connection is of no SQL database, or a SQLite file would be another one on
        every worker.
    :raises LedgerError: the database cannot hold a ledger (in memory, another product, newer tables).
    """
    from airflow_provider_popin.sync.ledger.ledger import Ledger

    engine = sql_engine(ledger_conn_id)
    if engine.dialect.name == "sqlite":
        _refuse_remote_executors(ledger_conn_id)
    return Ledger.open(engine)


def sql_engine(conn_id: str) -> Engine:
    """Return an SQLAlchemy engine, 1.4 or 2.x, for the database of a connection.

    Both versions behave alike (``future``), and no statement's values get into an error text
    (``hide_parameters``): they may be personal. Postgres has :data:`CONNECT_SECONDS` to accept a connection,
    and a machine that does not answer any more is given up after :data:`GONE_SECONDS`, unless the extras say
    otherwise, in libpq's words; neither limits a statement, however long it runs.

    :param conn_id: id of a connection whose hook is a ``DbApiHook``.
    :raises PopinConfigError: the connection is of no SQL database, its SQLite path is ambiguous, or its host
        or extras cannot be used.
    """
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    connection = BaseHook.get_connection(conn_id)
    try:
        hook = _own_connection(connection).get_hook()
    except AirflowException as error:
        unknown = f"is {connection.conn_type!r}, and no installed provider has a hook for it"
        problem = f"{unknown}: install that provider"
        raise _config_error(conn_id, "conn_type", problem) from error
    if not isinstance(hook, DbApiHook):
        raise _config_error(conn_id, "conn_type", "names no SQL database")
    if connection.conn_type == "sqlite" and set(connection.host or "") & set("%?#"):
        # Airflow's hook unquotes a path once or twice, depending on SQLAlchemy: after an upgrade of Airflow
        # such a path would be another file, and an empty ledger.
        raise _config_error(conn_id, "host", "must be a path without %, ? and #")
    if connection.conn_type == "postgres" and not _may_be_hosts(connection.host or ""):
        raise _config_error(conn_id, "host", "is no host name: between its dots must be 1 to 63 characters")
    if not isinstance(connection.extra_dejson, dict):
        raise _config_error(conn_id, "extra", "must be a JSON object")
    # Pinged: a server that restarted, or limits how long a session may idle, ended what the pool has kept.
    kwargs: dict[str, object] = {"future": True, "hide_parameters": True, "pool_pre_ping": True}
    if connection.conn_type == "postgres" and connection.extra_dejson:
        if connection.extra_dejson.get("cursor"):
            raise _config_error(conn_id, "cursor", "must not be set: rows are read by position here")
        # The hook's own copy, which no other hook sees.
        hook.connection.extra = json.dumps(_patience() | connection.extra_dejson)
        # The hook's URL leaves out sslmode, options and what else the extras say; its connections do not.
        kwargs["creator"] = hook.get_conn
    elif connection.conn_type == "postgres":
        kwargs["connect_args"] = _patience()
    try:
        engine: Engine = hook.get_sqlalchemy_engine(engine_kwargs=kwargs)
    except ValueError as error:
        # Of Airflow's hook or of SQLAlchemy: a scheme that is none, a number that is text.
        raise _config_error(conn_id, "extra", "has a value that the database's driver cannot take") from error
    return engine


def _patience() -> dict[str, int]:
    """How long libpq waits for a server, in its own words."""
    return {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": GONE_SECONDS // 2,
        "keepalives_interval": GONE_SECONDS // 6,
        "tcp_user_timeout": GONE_SECONDS * 1000,
    }


def _may_be_hosts(text: str) -> bool:
    """Whether a driver can look for it: psycopg raises a bare UnicodeError where Python cannot encode a name.

    :param text: names or addresses with commas in between; a path is a socket's.
    """
    try:
        for name in text.split(","):
            if not name.startswith("/"):
                name.encode("idna")
    except UnicodeError:
        return False
    return True


def _own_connection(connection: Any) -> Any:
    """The task SDK's connection: servers get a row of Airflow's database, whose own hooks are deprecated.

    Airflow 2 has one kind of connection only.
    """
    if isinstance(connection, Connection):
        return connection
    names = ("conn_id", "conn_type", "host", "schema", "login", "password", "port", "extra")
    return Connection(**{name: getattr(connection, name) for name in names})


def _refuse_remote_executors(conn_id: str) -> None:
    """Each worker of a remote executor has a disk of its own: a ledger on it knows a part of the bookings."""
    allowed = _names(conf.get("popin", "sqlite_ledger_executors", fallback=""))
    remote = _names(conf.get("core", "executor")) - _LOCAL_EXECUTORS - allowed
    if remote:
        executor = sorted(remote)[0]
        problem = (
            f"is a SQLite file, but tasks of the {executor} run on several machines: use Postgres; if all "
            f"of them see this one file, say so with AIRFLOW__POPIN__SQLITE_LEDGER_EXECUTORS={executor}"
        )
        raise _config_error(conn_id, "conn_type", problem)


def _names(executors: str) -> frozenset[str]:
    """Class names; the list may also hold paths, ``alias:path`` and ``team=path``."""
    paths = (name.strip() for name in executors.replace(";", ",").split(","))
    return frozenset(path.rpartition("=")[2].rpartition(":")[2].rpartition(".")[2] for path in paths if path)


def _config_error(conn_id: str, field: str, problem: str) -> PopinConfigError:
    return PopinConfigError(problem, conn_id=conn_id, field=field)
