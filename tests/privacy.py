"""Search text for people: their phones in any format, e-mails, names, and the keys of a connection.

Tests call :func:`assert_no_personal_data` on what they produced. In addition, everything registered with
:func:`register_personal` is searched for in all output and log lines of every test (see ``conftest.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote

# Shorter values stand in ordinary text by chance ("Al" in "all", "12" in a time).
_MIN_NAME = 3
_MIN_DIGITS = 7
_MIN_OTHER = 4

# What may stand between the digits of one phone number, and between the parts of one name.
_PHONE_GAP = r"(?:[\s().\-/+]|%20|%2B|\\u00a0){0,3}"
_NAME_GAP = r"(?:[\s+,.\"':;_-]|%20){1,4}"

_PERSON_FIELDS = ("name", "mobile", "phone", "email")

_registered: set[str] = set()


def register_personal(*values: str) -> None:
    """Have these values searched for in the output of every test from now on.

    :param values: names, phones in any format, e-mails, keys.
    """
    _registered.update(values)


def registered_values() -> frozenset[str]:
    """Return all values registered so far."""
    return frozenset(_registered)


def personal_values(person: object) -> list[str]:
    """Return the personal values of one lead.

    :param person: a text, a mapping, or an object; of the last two the fields ``name``, ``mobile``,
        ``phone`` and ``email`` are taken, and ``personal_values()`` where an object has it.
    """
    if isinstance(person, str):
        return [person]
    if isinstance(person, Mapping):
        found = [person.get(field) for field in _PERSON_FIELDS]
    else:
        found = [getattr(person, field, None) for field in _PERSON_FIELDS]
        own = getattr(person, "personal_values", None)
        if callable(own):
            found.extend(own())
    return [value for value in found if isinstance(value, str) and value.strip()]


def find_personal_data(text: str, people: Iterable[object]) -> list[str]:
    """Return the values of ``people`` that stand in ``text``, whatever their format.

    A phone is found with other separators, with or without a calling code; an e-mail in any case and
    URL-quoted; a name in any case, whole or by one of its words of three letters or more; each of them also
    as JSON writes it.

    :param text: what is searched: log output, a report, a dump of a table.
    :param people: leads or plain values, see :func:`personal_values`.
    """
    values = {value for person in people for value in personal_values(person)}
    return sorted(value for value in values if any(p.search(text) for p in _patterns(value)))


def assert_no_personal_data(text: str, people: Iterable[object]) -> None:
    """Fail if any value of ``people`` stands in ``text``.

    :param text: what is searched.
    :param people: leads or plain values, see :func:`personal_values`.
    """
    found = find_personal_data(text, people)
    assert not found, f"personal data in text: {found}"


@lru_cache(maxsize=20_000)
def _patterns(value: str) -> tuple[re.Pattern[str], ...]:
    stripped = value.strip()
    digits = re.sub(r"\D", "", stripped)
    if _is_phone(stripped):
        return (re.compile(_PHONE_GAP.join(digits)),) if len(digits) >= _MIN_DIGITS else ()
    if "@" in stripped or not re.fullmatch(r"[^\W\d_]+(?:[ '.\-]+[^\W\d_]+)*\.?", stripped):
        return _literal_patterns(stripped)
    return _name_patterns(stripped)


def _is_phone(value: str) -> bool:
    return re.fullmatch(r"[\d\s().+\-/]+(?:x\d+)?", value) is not None


def _literal_patterns(value: str) -> tuple[re.Pattern[str], ...]:
    if len(value) < _MIN_OTHER:
        return ()
    forms = {value, quote(value, safe=""), json.dumps(value)[1:-1]}
    return tuple(re.compile(re.escape(form), re.IGNORECASE) for form in sorted(forms))


def _name_patterns(value: str) -> tuple[re.Pattern[str], ...]:
    words = [word for word in re.split(r"[ .\-]+", value) if word]
    patterns = [_NAME_GAP.join(re.escape(word) for word in words)] if len(value) >= _MIN_NAME else []
    for word in words:
        if len(word) >= _MIN_NAME:
            forms = sorted({word, quote(word, safe=""), json.dumps(word)[1:-1]})
            patterns.extend(re.escape(form) for form in forms)
    return tuple(re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE) for pattern in patterns)
