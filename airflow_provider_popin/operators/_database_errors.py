"""What a database says of a statement, as far as that cannot quote a lead."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError

# From there on even a harmless text of SQLite quotes a value: one that is no UTF-8, or no path in JSON.
_QUOTED_VALUE = re.compile(r" with text .*|(?<=JSON path error).*|(?<=bad JSON path).*")
# Of Postgres: wrong names, of tables, functions and columns, databases, schemas, files.
_ABOUT_NAMES = ("42", "3D", "3F", "58P")


def describe(error: SQLAlchemyError | ValueError) -> str:
    """Say what a database error is, with the database's text only where that cannot hold data of a row.

    A missing table, a syntax error or a refused connection quote the statement or the server; a failed
    conversion or a violated key quote values, and what a function or a trigger raises may say anything.

    :param error: what SQLAlchemy raised, or let through of the driver.
    :return: one line.
    """
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError

    if not isinstance(error, DBAPIError):
        return type(error).__name__
    cause = error.orig
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or _number_of(cause)
    kind = f"{type(cause).__name__}{f' ({code})' if code else ''}"
    lines = str(cause).strip().splitlines()
    if (
        isinstance(error, (InterfaceError, OperationalError, ProgrammingError))
        and _quotes_no_row(cause)
        and lines
    ):
        return f"{kind}: {_QUOTED_VALUE.sub('', lines[0])}"
    return f"{kind}; its text may quote a lead and is left out: run the statement by hand to see it"


def _number_of(cause: BaseException | None) -> int | None:
    """The number by which MySQL's drivers name an error."""
    first = cause.args[0] if cause is not None and cause.args else None
    return first if isinstance(first, int) else None


def _quotes_no_row(cause: BaseException | None) -> bool:
    """Whether the text is about the statement or the server, as far as we know this driver."""
    if isinstance(cause, sqlite3.Error):
        return True
    report = getattr(cause, "diag", None)  # of Postgres, by both drivers
    if report is None:
        return False
    if report.sqlstate is None:
        return True  # not from the server: it cannot be reached, or the driver refuses the statement
    if report.context is not None or report.source_function == "exec_stmt_raise":
        return False  # from inside a function, in its own words or about what it was given
    # A name that stands in the statement has a place there; one that was computed comes from a row.
    return (
        not report.sqlstate.startswith(_ABOUT_NAMES)
        or report.statement_position is not None
        or report.source_function == "aclcheck_error"
    )
