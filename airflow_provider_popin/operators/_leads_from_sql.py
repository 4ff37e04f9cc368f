"""Leads from a SQL query, streamed through a server-side cursor where the database has one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_popin.operators._database_errors import describe
from airflow_provider_popin.operators._postgres_times import read_leniently
from airflow_provider_popin.operators._watermark import with_watermark

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, CursorResult, Engine

ROWS_AT_A_TIME = 500

SqlParameters = Mapping[str, object] | Sequence[object]


class LeadQueryError(AirflowException):
    """The query failed, or its result cannot be read as leads.

    :param problem: what is wrong; of the database's own text only what quotes no data.
    :param conn_id: the connection of the query.
    """

    def __init__(self, problem: str, *, conn_id: str) -> None:
        super().__init__(f"Leads cannot be read with sql through connection {conn_id!r}: {problem}")
        self.conn_id = conn_id


def leads_from_sql(
    engine: Engine,
    *,
    sql: str,
    parameters: SqlParameters | None,
    conn_id: str,
    read_from: Callable[[], object] | None = None,
) -> Generator[Mapping[str, object]]:
    """Yield the rows of a query; the connection is closed when the iterator is, and at an error.

    :param engine: SQLAlchemy engine of the database.
    :param sql: one statement that returns rows.
    :param parameters: a mapping, bound to ``:name`` if the statement has such names; anything else is handed
        to the driver as it is, for its own style (``%s``, ``?``, ``%(name)s``).
    :param conn_id: for errors.
    :param read_from: gives the value of ``:watermark`` when the first row is asked for.
    :raises PopinInputError: the statement cannot be read by this watermark.
    :raises LeadQueryError: the query failed or returns no rows, or a column name stands in it twice.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if read_from is not None:
        parameters = with_watermark(sql, parameters, read_from(), dialect=engine.dialect.name)
    try:
        with engine.connect() as connection:
            read_leniently(connection)
            with closing(_execute(connection, sql, parameters, conn_id)) as result:
                columns = _columns(result, conn_id)
                for row in result:
                    yield dict(zip(columns, row, strict=True))
    except SQLAlchemyError as error:
        # From None: the database's text may quote the value of a lead.
        raise LeadQueryError(describe(error), conn_id=conn_id) from None
    except (ValueError, OverflowError, RecursionError) as error:
        # Of the driver itself, which SQLAlchemy lets through: text that is not in the database's encoding, a
        # number too large to bind or to take from JSON, JSON that is too deep.
        problem = f"a value in a row or in parameters is beyond the driver ({type(error).__name__})"
        raise LeadQueryError(problem, conn_id=conn_id) from None
    finally:
        engine.dispose()


def _execute(
    connection: Connection, sql: str, parameters: SqlParameters | None, conn_id: str
) -> CursorResult[Any]:
    from sqlalchemy import text

    streaming = connection.execution_options(yield_per=ROWS_AT_A_TIME)
    if isinstance(parameters, Mapping):
        statement = text(sql)
        names = set(statement.compile().params)
        if names & set(parameters):
            if missing := sorted(names - set(parameters)):
                raise LeadQueryError(f"parameters has no value for :{', :'.join(missing)}", conn_id=conn_id)
            return streaming.execute(statement, {name: parameters[name] for name in names})
    if not parameters:
        # Without this the driver would look for placeholders, and stumble over the % of a LIKE.
        return streaming.execution_options(no_parameters=True).exec_driver_sql(sql)
    try:
        return streaming.exec_driver_sql(
            sql, dict(parameters) if isinstance(parameters, Mapping) else tuple(parameters)
        )
    except (TypeError, LookupError):
        # Of the driver itself: a list for %(name)s, a mapping for %s, too few, or a % that is text.
        problem = "parameters does not fit the placeholders of the statement (write %% for a % that is none)"
        raise LeadQueryError(problem, conn_id=conn_id) from None


def _columns(result: CursorResult[Any], conn_id: str) -> list[str]:
    if not result.returns_rows:
        raise LeadQueryError("the statement returns no rows; it must be a SELECT", conn_id=conn_id)
    columns = [str(column) for column in result.keys()]  # noqa: SIM118  (a result is no dict)
    if doubled := sorted({column for column in columns if columns.count(column) > 1}):
        raise LeadQueryError(
            f"the query returns {', '.join(map(repr, doubled))} twice; rename one with AS", conn_id=conn_id
        )
    return columns
