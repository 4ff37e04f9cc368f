"""Which columns of a file are a lead's id, name and phone: given as JSON, or guessed from the header."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

FieldMap = dict[str, str | list[str]]

_NEEDED = ("lead_id", "name", "mobile")
_IDS = (
    "id",
    "leadid",
    "recordid",
    "crmid",
    "contactid",
    "externalid",
    "uuid",
    "accountid",
    "customerid",
    "index",
)
_WHOLE_NAMES = ("name", "fullname", "contactname", "customername", "leadname")
_FIRST_NAMES = ("firstname", "givenname", "forename")
_LAST_NAMES = ("lastname", "familyname", "surname")
_PHONE = re.compile(r"(mobile|cell|phone|telephone|tel|whatsapp)(number|no)?\d?(mobile|cell|number|no)?\d?")
_SAMPLE_MAP = '{"lead_id": "Id", "name": ["First", "Last"], "mobile": "Phone"}'
_EMAIL = re.compile(r"e?mail(address)?\d?")


class FieldMapError(Exception):
    """The columns are not known; the text names those of the file."""


def read_field_map(text: str, header: Sequence[str]) -> FieldMap:
    """Read a field map as the operator takes it.

    :param text: a JSON object: Popin's field to a column, or to a list of columns.
    :param header: columns of the file.
    :raises FieldMapError: it is no such object, or names a column that is not there.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise FieldMapError(f"FIELD_MAP is not valid JSON: {error}") from None
    if not isinstance(given, dict):
        raise FieldMapError(
            "FIELD_MAP must be a JSON object: Popin's field to a column, or a list of columns"
        )
    if missing := [target for target in _NEEDED if not given.get(target)]:
        raise FieldMapError(f"FIELD_MAP does not map {', '.join(missing)}; {_there_are(header)}")
    columns = [
        column for value in given.values() for column in (value if isinstance(value, list) else [value])
    ]
    absent = [str(column) for column in columns if column not in header]
    if absent:
        raise FieldMapError(f"FIELD_MAP names {', '.join(absent)}; {_there_are(header)}")
    return given


def guess_field_map(header: Sequence[str], rows: Sequence[Sequence[str]]) -> FieldMap:
    """Guess the columns by their names; of several that may be the id, one whose values are all different.

    :param header: columns of the file.
    :param rows: its rows.
    :raises FieldMapError: id, name or phone are not among them; says how to name them.
    """
    plain = {column: re.sub(r"[\W_]", "", column.lower()) for column in header}

    def first(names: Sequence[str]) -> str | None:
        return next((column for name in names for column in header if plain[column] == name), None)

    def differs(name: str) -> bool:
        at = next((index for index, column in enumerate(header) if plain[column] == name), None)
        values = [] if at is None else [row[at].strip() for row in rows if at < len(row)]
        return "" not in values and len(set(values)) == len(values) > 0

    def matching(pattern: Callable[[str], object]) -> list[str]:
        return [column for column in header if pattern(plain[column])]

    parts = [column for column in (first(_FIRST_NAMES), first(_LAST_NAMES)) if column]
    phones = sorted(matching(_PHONE.fullmatch), key=lambda column: "mob" not in plain[column])
    guess: dict[str, str | list[str] | None] = {
        "lead_id": first(tuple(name for name in _IDS if differs(name))) or first(_IDS),
        "name": parts or first(_WHOLE_NAMES),
        "mobile": phones,
        "email": matching(_EMAIL.fullmatch)[:1],
    }
    found: FieldMap = {target: columns for target, columns in guess.items() if columns}
    if missing := [target for target in _NEEDED if target not in found]:
        raise FieldMapError(
            f"Which column is {' and which '.join(missing)}? {_there_are(header)}.\n"
            "Say it like this:\n"
            f"  make demo LEADS=... FIELD_MAP='{_SAMPLE_MAP}'"
        )
    return found


def _there_are(header: Sequence[str]) -> str:
    return f"the file has the columns {', '.join(header)}"
