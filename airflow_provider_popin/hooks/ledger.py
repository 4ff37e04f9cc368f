"""Databases named by an Airflow connection: the ledger, and the tables of leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_popin.client.errors import PopinConfigError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from airflow_provider_popin.sync.ledger import Ledger


def open_ledger(ledger_conn_id: str) -> Ledger:
    """Open the ledger behind a connection; its tables are created on first use.

    :param ledger_conn_id: id of a SQLite or Postgres connection.
    :raises PopinConfigError: the connection is of no SQL database.
    :raises LedgerError: the database cannot hold a ledger (in memory, another product, newer tables).
    """
    from airflow_provider_popin.sync.ledger import Ledger

    return Ledger.open(sql_engine(ledger_conn_id))


def sql_engine(conn_id: str) -> Engine:
    """Return an SQLAlchemy engine, 1.4 or 2.x, for the database of a connection.

    Both versions behave alike (``future``), and no statement's values get into an error text
    (``hide_parameters``): they may be personal.

    :param conn_id: id of a connection whose hook is a ``DbApiHook``.
    :raises PopinConfigError: the connection is of no SQL database, or its SQLite path is ambiguous.
    """
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    connection = BaseHook.get_connection(conn_id)
    hook = connection.get_hook()  # type: ignore[no-untyped-call]
    if not isinstance(hook, DbApiHook):
        raise _config_error(conn_id, "conn_type", "names no SQL database")
    if connection.conn_type == "sqlite" and set(connection.host or "") & set("%?#"):
        # Airflow's hook unquotes a path once or twice, depending on SQLAlchemy: after an upgrade of Airflow
        # such a path would be another file, and an empty ledger.
        raise _config_error(conn_id, "host", "must be a path without %, ? and #")
    engine: Engine = hook.get_sqlalchemy_engine(engine_kwargs={"future": True, "hide_parameters": True})
    return engine


def _config_error(conn_id: str, field: str, problem: str) -> PopinConfigError:
    return PopinConfigError(problem, conn_id=conn_id, field=field)
