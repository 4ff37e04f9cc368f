"""Templated arguments of the lead sync that are no paths: templates turn all of them into text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from airflow_provider_popin.operators.templated import argument_error, given

_TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0"})
# What Jinja makes of a parameter that is None, and of one that is empty.
_NO_LIMIT: Final = frozenset({"", "none", "null"})


def read_dry_run(value: object) -> bool:
    """Read ``dry_run``. Empty is an error: a forgotten parameter must not send to everybody.

    :param value: a boolean, 0, 1, or text: true, t, yes, y, on, 1, false, f, no, n, off, 0 in any case.
    :raises PopinInputError: anything else.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
    elif isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise argument_error("dry_run", "must be true or false")


def read_limit(value: object) -> int | None:
    """Read ``limit``.

    :param value: a whole number from 0, or its digits, 18 at most; None, empty text and ``"None"`` mean no
        limit.
    :raises PopinInputError: anything else.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_LIMIT):
        return None
    number: object = value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        number = int(value)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**18:
        return number
    raise argument_error("limit", "must be a whole number, or empty")


def check_sql(value: object) -> None:
    """Refuse what is no statement.

    :param value: of ``sql``; None where leads come from elsewhere.
    :raises PopinInputError: it is no text, or empty.
    """
    if value is not None and not (isinstance(value, str) and value.strip()):
        raise argument_error("sql", "must be the text of one statement, or the name of a .sql file")


def read_parameters(value: object) -> Mapping[str, object] | Sequence[object] | None:
    """Read ``parameters``.

    :param value: a mapping, a list or a tuple; None, empty text and ``"None"`` mean none.
    :raises PopinInputError: anything else: of a text, the driver would take each character for a parameter.
    """
    value = given(value)
    if value is None or isinstance(value, (Mapping, list, tuple)):
        return value
    raise argument_error(
        "parameters", "must be a mapping, a list or a tuple, which a template gives in native Dags only"
    )
