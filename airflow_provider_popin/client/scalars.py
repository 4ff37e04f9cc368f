"""Cells of tables as plain values: what a database driver, a CSV reader or a spreadsheet hands over.

Spreadsheets turn digits into floats, drivers give Decimals, data frames give NaN for nothing. The rules here
are shared by phones, leads and whoever reads rows.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from numbers import Integral
from typing import TypeGuard
from uuid import UUID

# Digits that went through a float once: "9544510895.0". No float begins with a needless zero.
_FLOAT_TEXT = re.compile(r"(0|[1-9][0-9]*)\.0+")
# Above it, a float no longer holds every integer, so its digits are not the ones that were entered.
_EXACT_FLOAT = 2**53
# Opaque text, but it has to fit a database column and a header of a log line.
_CUSTOMER_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]{1,255}")
# Shown as a link in Airflow's UI: nothing but http and https, or a reply could plant a script there.
_JOIN_URL = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f\ud800-\udfff]{1,2040}", re.IGNORECASE)


def is_missing(value: object) -> bool:
    """Whether a cell holds nothing: None, NaN, pandas' NA and NaT, blank text.

    :param value: any cell
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return value != value
    if isinstance(value, Decimal):
        return value.is_nan()
    # Neither can be compared to itself in a condition, and pandas is no dependency.
    return type(value).__name__ in ("NAType", "NaTType")


def whole_number(value: object) -> int | None:
    """The integer that a cell holds, as an int, an integral float or an integral Decimal.

    :param value: any cell
    :return: None for everything else, so for bool, fractions, infinity and floats too large to be exact
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float):
        return int(value) if abs(value) <= _EXACT_FLOAT and value.is_integer() else None
    # A Decimal of a few bytes can have a billion digits.
    if (
        isinstance(value, Decimal)
        and value.is_finite()
        and abs(value.adjusted()) < 40
        and value == value.to_integral()
    ):
        return int(value)
    return None


def plain_text(value: object) -> str | None:
    """The text that a cell stands for, stripped: text, digits of a whole number, a UUID.

    :param value: any cell
    :return: None for a cell that has no text form (bool, bytes, a fraction, a list); never empty otherwise,
        unless the cell is blank text
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, UUID):
        return str(value)
    number = whole_number(value)
    if number is None or abs(number) >= 10**40:
        return None
    return str(number)


def code_text(value: object) -> str | None:
    """Like :func:`plain_text` for codes made of digits: ``"221007.0"``, which was a float once, is
    ``"221007"``.

    :param value: any cell
    """
    text = plain_text(value)
    match = _FLOAT_TEXT.fullmatch(text) if text is not None else None
    return match[1] if match else text


def is_agent(number: object) -> bool:
    """Whether this is the number of an agent: whole, from 1, of at most 18 digits.

    :param number: anything; text is none
    """
    return type(number) is int and 0 < number < 10**18


def is_customer_id(value: object) -> TypeGuard[str]:
    """Whether this is what capture can have answered: text of at most 255 printable characters, not blank.

    :param value: anything
    """
    return isinstance(value, str) and bool(value.strip()) and bool(_CUSTOMER_ID.fullmatch(value))


def is_join_url(value: object) -> TypeGuard[str]:
    """Whether this may be the address of a call: an http or https URL without spaces.

    :param value: anything
    """
    return isinstance(value, str) and bool(_JOIN_URL.fullmatch(value))


def clean_text(text: str) -> str:
    """Text as people mean it: NFC, no control characters, every run of white space one space, stripped.

    :param text: any text
    :raises UnicodeError: the text holds half of a surrogate pair, which no encoding can carry
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())  # as most texts are; the rest would find nothing to do
    text.encode("utf-8")
    # Control characters first: without them, letters and accents come together, and so do spaces.
    shown = "".join(char for char in text if char.isspace() or unicodedata.category(char) != "Cc")
    return " ".join(unicodedata.normalize("NFC", shown).split())
