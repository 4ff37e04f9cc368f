"""The watermark arguments of the lead sync, and how the value gets to where leads come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_popin.operators.templated import argument_error, is_literal
from airflow_provider_popin.sync.source.watermark_settings import WatermarkSettings

if TYPE_CHECKING:
    from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

NAME: Final = "watermark"
_USE = re.compile(r"(?<![:\w\\]):watermark(?![:\w])")


def watermark_settings(operator: PopinLeadSyncOperator) -> WatermarkSettings | None:
    """Read the arguments.

    :param operator: templates rendered or not; what is read is known once they are.
    :return: None for a sync that reads everything.
    :raises PopinInputError: a value is of the wrong type, or missing.
    """
    column, start = operator.watermark_column, operator.watermark_start
    if column is None:
        return None
    if start is None:
        raise argument_error(
            "watermark_start",
            "is needed with watermark_column: the first run reads from there. A datetime, a date, a whole "
            "number or ISO 8601 text, of the type that the column has",
        )
    return WatermarkSettings(
        column=column,
        start=start,
        overlap=operator.watermark_overlap,
        reads=(_what(operator), operator.sql, operator.parameters),
    )


def check_watermark(operator: PopinLeadSyncOperator) -> None:
    """Find at parse time what can be found then.

    :param operator: templates not rendered.
    :raises PopinInputError: the arguments do not fit each other.
    """
    if operator.watermark_column is None:
        for name in ("watermark_start", "watermark_overlap"):
            if getattr(operator, name) is not None:
                raise argument_error(name, "belongs to watermark_column, which is not given")
        return
    if operator.path is not None:
        raise argument_error(
            "watermark_column", "needs sql or a function: a file is read as a whole in any case"
        )
    if operator.leads is not None and not callable(operator.leads):
        raise argument_error(
            "watermark_column", "needs sql or a function: what another task returns is all there is"
        )
    if operator.sql is not None and is_literal(operator.sql) and not operator.sql.endswith(".sql"):
        _check_statement(operator.sql)
    parameters = operator.parameters
    if parameters is not None and is_literal(parameters):
        _check_parameters(parameters)


def with_watermark(
    sql: str, parameters: Mapping[str, object] | Sequence[object] | None, value: object, *, dialect: str
) -> Mapping[str, object]:
    """Add the value of ``:watermark`` to the parameters of a statement.

    :param sql: rendered.
    :param parameters: of the statement, without it.
    :param value: what the column is compared with.
    :param dialect: SQLAlchemy's name of the database.
    :raises PopinInputError: the statement does not use it, or this database has no such values.
    """
    _check_statement(sql)
    _check_parameters(parameters)
    if dialect == "sqlite" and isinstance(value, date):
        kind = "2020-01-01 00:00:00" if isinstance(value, datetime) else "2020-01-01"
        raise argument_error(
            "watermark_start",
            f"SQLite keeps times as text: write it as the column does, for example '{kind}'",
        )
    return {**(parameters if isinstance(parameters, Mapping) else {}), NAME: value}


def _check_statement(sql: str) -> None:
    if not _USE.search(sql):
        raise argument_error(
            "sql",
            "must use :watermark, for example WHERE updated_at >= :watermark (with >=, not >; for "
            ":watermark::... write CAST(:watermark AS ...)): without it, watermark_column reads everything",
        )


def _check_parameters(parameters: object) -> None:
    if parameters and not isinstance(parameters, Mapping):
        raise argument_error(
            "parameters", "must be a mapping, bound to :name, where there is a watermark_column"
        )
    if isinstance(parameters, Mapping) and NAME in parameters:
        raise argument_error("parameters", "must not set watermark: watermark_column does")


def _what(operator: PopinLeadSyncOperator) -> str:
    """The name of a function, which is all that can be compared of it."""
    leads: Any = operator.leads
    return (
        f"{getattr(leads, '__module__', '')}.{getattr(leads, '__qualname__', '')}"
        if leads is not None
        else ""
    )
