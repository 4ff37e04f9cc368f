"""The name of a source: a part of every lead's identity, and so the same rules wherever one is given."""

from __future__ import annotations

from typing import Final

from airflow_provider_popin.client.errors import PopinInputError

TEMPLATE_MARKS: Final = ("{{", "{%")
_LONGEST: Final = 255


def check_source(source: object) -> str:
    """Refuse what cannot be the stable name of where leads come from.

    :param source: what the Dag author or the command line gives.
    :return: the same.
    :raises PopinInputError: it is no text, a template, too long, or has outer spaces or control characters.
    """
    if not isinstance(source, str) or any(mark in source for mark in TEMPLATE_MARKS):
        raise _bad("must be literal text: with a template, every lead would be new in every run")
    if source.strip() != source or not source:
        raise _bad("must be text without outer spaces")
    if len(source) > _LONGEST:
        raise _bad(f"must have at most {_LONGEST} characters")
    if not source.isprintable():
        raise _bad("must be printable text")
    return source


def _bad(problem: str) -> PopinInputError:
    return PopinInputError(problem, code="setting_invalid", field="source")
