"""A webhook's payload without the people in it: pure, for any JSON value.

By list, not by search: only values of fields that are known to be harmless, in the form that they should
have, are kept. Of every other text the words of ordinary service messages remain
(``client.redaction``) and no digit, and nothing under a field that is a person's, because some names are
ordinary words; of other numbers those that are too short for a phone number. Keys are kept, because they tell
what Popin has begun to send, unless they look personal themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from airflow_provider_popin.client.redaction import HIDDEN, redact_text

MAX_DEPTH = 6
# Values in one payload, each costs about as many characters as it had, or three for its stars.
MAX_VALUES = 400

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,47}")
_DIGITS = re.compile(r"[0-9]+")
_UNDER_A_PHONE_NUMBER = 1_000
_WHOLE = re.compile(r"[0-9]{1,5}")
_CLOCK = re.compile(r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?: ?[AaPp][Mm])?")
_DURATION = re.compile(r"[0-9]{1,5}|[0-9]{1,3}:[0-5][0-9](?::[0-5][0-9])?")
_DATE = re.compile(r"[0-3]?[0-9]-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-20[0-9]{2}")
_INSTANT = re.compile(
    r"20[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](?::[0-5][0-9])?(?:Z|[+-][01][0-9]:[0-5][0-9])?"
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EVENT = re.compile(r"popin_[a-z0-9_]{1,57}")
_PERSONS = frozenset({"agent", "agents", "customer", "customers", "user", "users"})
_OF_A_PERSON = ("name", "mail", "phone", "mobile")


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_short_number(value: object) -> bool:
    if isinstance(value, str):
        return _WHOLE.fullmatch(value) is not None and len(value) <= 3
    return isinstance(value, int | float) and abs(value) < _UNDER_A_PHONE_NUMBER


def _is_duration(value: object) -> bool:
    if isinstance(value, str):
        return _DURATION.fullmatch(value) is not None
    return isinstance(value, int | float) and 0 <= value < 100_000


# By name of the field, wherever it stands, the forms in which its value is kept as it is.
_HARMLESS: Mapping[str, Callable[[object], bool]] = {
    "call_duration": _is_duration,
    "participant": lambda value: value in ("user", "agent"),
    "rating": _is_short_number,
    "scheduled_date": _matches(_DATE),
    "scheduled_date_local": _matches(_DATE),
    "scheduled_time": _matches(_CLOCK),
    "scheduled_time_local": _matches(_CLOCK),
    "session_id": _matches(_UUID),
    "timestamp": _matches(_INSTANT),
}


def redact_webhook(payload: Mapping[str, object]) -> dict[str, object]:
    """Redact a decoded webhook; its shape stays, down to :data:`MAX_DEPTH` and :data:`MAX_VALUES`.

    Its ``event`` keeps a name like Popin's, see :func:`safe_event_name`.

    :param payload: what ``json.loads`` returns, with text keys.
    """
    told = _Redaction().mapping(payload, 0, of_person=False)
    if isinstance(name := payload.get("event"), str):
        told["event"] = safe_event_name(name)
    return told


def safe_event_name(name: str) -> str:
    """An event's name as it may be stored and shown; ``***`` where it does not look like one of Popin's.

    All of theirs begin with ``popin_`` (grade P).

    :param name: as received.
    """
    if _EVENT.fullmatch(name) is None or _count_digits(name) > 3:
        return HIDDEN
    return name


class _Redaction:
    """One pass over one payload."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def mapping(self, values: Mapping[str, object], depth: int, *, of_person: bool) -> dict[str, object]:
        told: dict[str, object] = {}
        for key, value in values.items():
            if self._left <= 0:
                told[HIDDEN] = "too much"
                break
            shown = key if _is_harmless_key(key) else _unlike(HIDDEN, told)
            told[shown] = self.value(value, depth + 1, key=shown, of_person=of_person or _is_persons(key))
        return told

    def value(self, value: object, depth: int, *, key: str | None, of_person: bool) -> object:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        is_harmless = _HARMLESS.get(key or "")
        if is_harmless is not None and is_harmless(value):
            return value
        if isinstance(value, str):
            return HIDDEN if of_person else _DIGITS.sub(HIDDEN, redact_text(value))
        if isinstance(value, Mapping | list) and depth >= MAX_DEPTH:
            return HIDDEN
        if isinstance(value, Mapping):
            return self.mapping(value, depth, of_person=of_person)
        if isinstance(value, list):
            return self._items(value, depth, of_person=of_person)
        # In a list, short numbers may be the digits of a long one.
        return value if key is not None and _is_short_number(value) else HIDDEN

    def _items(self, values: list[object], depth: int, *, of_person: bool) -> list[object]:
        told: list[object] = []
        for value in values:
            if self._left <= 0:
                told.append("too much")
                break
            told.append(self.value(value, depth + 1, key=None, of_person=of_person))
        return told


def _is_harmless_key(key: str) -> bool:
    return _KEY.fullmatch(key) is not None and _count_digits(key) <= 3


def _is_persons(key: str) -> bool:
    folded = key.casefold()
    return folded in _PERSONS or any(word in folded for word in _OF_A_PERSON)


def _count_digits(text: str) -> int:
    return sum(char.isdecimal() for char in text)


def _unlike(name: str, others: Mapping[str, object]) -> str:
    """``***``, ``***2``, ...: two fields that are both hidden stay two."""
    if name not in others:
        return name
    return f"{name}{sum(key.startswith(name) for key in others) + 1}"
