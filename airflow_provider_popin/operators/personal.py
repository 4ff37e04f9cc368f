"""Personal values of a lead in an operator: kept out of the rendered fields and masked in the logs.

``mask_secret`` alone is not enough for the page of rendered fields: Airflow masks neither numbers nor texts
under five characters there, and Airflow 3.0 and 3.1 mask nothing of what a task registered. So a rendered
personal value is wrapped in :class:`Hidden`, which every Airflow shows as ``***``, and is registered for
logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from airflow_provider_popin.hooks.masking import mask_in_logs

_MASK: Final = "***"


class Hidden:
    """A value whose texts are ``***``; :func:`reveal` gives it back.

    :param value: the rendered value of a template field.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return _MASK

    __str__ = __repr__


def reveal(value: object) -> object:
    """Return what a template field really holds, hidden or not.

    :param value: the attribute of an operator. It is not hidden where ``execute`` is called without
        rendering first, in a test for example.
    """
    return value._value if isinstance(value, Hidden) else value


def hide(value: object) -> object:
    """Register a rendered personal value with Airflow's log masker, and hide it.

    :param value: the rendered value; None and empty texts stay as they are, for there is nothing to hide.
    :return: a :class:`Hidden`, which the page of rendered fields shows as ``***``.
    """
    if value is None or (isinstance(value, str) and not value) or isinstance(value, Hidden):
        return value
    mask_in_logs(_texts(value))
    return Hidden(value)


def _texts(value: object) -> list[str]:
    """Return all texts in a value, also in a wrong one (a list where a text belongs)."""
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [text for item in value for text in _texts(item)]
    return [str(value).strip()]
