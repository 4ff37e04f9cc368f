"""``dry_run`` and ``limit``: they decide who is sent at all, and templates turn them into text."""

from __future__ import annotations

from typing import Final

from airflow_provider_popin.client.errors import PopinInputError

_TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0"})
# What Jinja makes of a parameter that is None, and of one that is empty.
_NO_LIMIT: Final = frozenset({"", "none", "null"})


def read_dry_run(value: object) -> bool:
    """Read ``dry_run``. Empty is an error: a forgotten parameter must not send to everybody.

    :param value: a boolean, 0, 1, or text: true, t, yes, y, on, 1, false, f, no, n, off, 0 in any case.
    :raises PopinInputError: anything else.
    """
    if isinstance(value, (bool, int, str)):
        text = str(value).strip().lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
    raise PopinInputError("must be true or false", code="argument_invalid", field="dry_run")


def read_limit(value: object) -> int | None:
    """Read ``limit``.

    :param value: a whole number from 0, or its digits; None, empty text and ``"None"`` mean no limit.
    :raises PopinInputError: anything else.
    """
    text = "none" if value is None else value
    if isinstance(text, (int, str)) and not isinstance(text, bool):
        text = str(text).strip().lower()
        if text in _NO_LIMIT:
            return None
        if text.isascii() and text.isdigit():
            return int(text)
    raise PopinInputError("must be a whole number, or empty", code="argument_invalid", field="limit")
