"""Phone numbers as they stand in a CRM, to the national digits and calling code that Popin wants.

The rules, in the order in which they are tried:

1. A number has no letters, no extension (unless extensions are dropped), and is not several numbers.
2. A number that begins with ``+`` or ``00`` carries its own country. The country column and the default
   region are then not consulted, even if they contradict it: the column of a CRM tells where somebody lives
   or is billed, and people keep foreign numbers.
3. Otherwise the country column says how to read it: an ISO alpha-2 region, or a calling code with or without
   ``+``.
4. Otherwise the default region does. Without one, the number is refused rather than guessed.
5. Whatever was read must be a valid number of any region of its calling code (1 is the United States, Canada
   and two dozen more).

No error shows any part of the number.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import phonenumbers
from phonenumbers import PhoneNumber

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.scalars import code_text, is_missing, plain_text

_REASONS = {
    "phone_missing": "there is no phone number",
    "phone_letters": "the phone number has letters",
    "phone_several": "there are several phone numbers",
    "phone_extension": "the phone number has an extension",
    "phone_invalid": "the phone number is not valid",
    "phone_no_region": "the phone number has no country, and neither the row nor a default region gives one",
    "country_unknown": "the country is neither an ISO alpha-2 region nor a calling code",
    "default_region_unknown": "is neither an ISO alpha-2 region nor a calling code",
}
_FIELDS = {"country_unknown": "country", "default_region_unknown": "default_region"}

# phonenumbers refuses longer input itself; ours only needs to stay cheap.
_MAX_CHARACTERS = 100

# ";ext=" is RFC 3966, ",," the pause of an automatic dialler.
_EXTENSION = re.compile(
    r"[\s,;(\[]*(?:(?:extension|extn|ext|x|\#)[.:=]?|(?<=[0-9)]),,)\s*[0-9]{1,9}\s*\#?[\s)\]]*$",
    re.IGNORECASE,
)
_CONJUNCTION = re.compile(r"\s+(?:or|and)\s+|\s*&\s*", re.IGNORECASE)
_INTERNATIONAL = re.compile(r"[\s(\[]*(?:\+\s*(?:00)?|00)")
_PLAIN = re.compile(r"\+?[0-9]+", re.ASCII)
_PUNCTUATION = re.compile(r"[\s().\-/\[\]~'\"]*")
_CALLING_CODE = re.compile(r"(?:\+|00)?\s*([1-9][0-9]{0,2})")
_NON_GEOGRAPHIC = "001"


@dataclass(frozen=True, slots=True)
class Phone:
    """A valid phone number.

    :param mobile: national digits, with the leading zero where it belongs to the number (Italy)
    :param country: digits of the calling code
    """

    mobile: str
    country: str

    @property
    def e164(self) -> str:
        """The number as ``+`` calling code and national digits."""
        return f"+{self.country}{self.mobile}"

    def __repr__(self) -> str:
        return "Phone(***)"


def parse_phone(
    raw: object, *, country: object = None, default_region: str | None = None, drop_extension: bool = False
) -> Phone:
    """Read the one valid phone number of a cell.

    :param raw: the cell: text, int, integral float or Decimal, or nothing
    :param country: the row's country column: ISO alpha-2 region or calling code, as text or number, or
        nothing
    :param default_region: ISO alpha-2 region for numbers without any country
    :param drop_extension: read ``(510)603-3076x6619`` as the number before the extension
    :raises PopinInputError: codes ``phone_missing``, ``phone_letters``, ``phone_several``,
        ``phone_extension``, ``phone_invalid``, ``phone_no_region``, ``country_unknown``,
        ``default_region_unknown``
    """
    text = _checked_text(_normal_text(raw), drop_extension)
    digits = _digits(text)
    international = _INTERNATIONAL.match(text)
    if international:
        own = text[international.end() :]
        number = _parse("+" + _digits(own), None)
        if number is None and "+" not in text:
            # Some regions dial abroad with more than 00 (Australia: 0011).
            number = _parse_in_region(digits, _known_region(country, default_region))
    else:
        number = _parse_in_region(digits, _region(country, default_region))
    if number is None:
        raise _error("phone_several" if _can_be_two(text) else "phone_invalid")
    return Phone(phonenumbers.national_significant_number(number), str(number.country_code))


def _error(code: str) -> PopinInputError:
    return PopinInputError(_REASONS[code], code=code, field=_FIELDS.get(code, "mobile"))


def _normal_text(raw: object) -> str:
    """The cell as text of ASCII digits, plain spaces and plain dashes, without invisible characters."""
    if is_missing(raw):
        raise _error("phone_missing")
    text = plain_text(raw)
    # A dash before text is a bullet, before a number it is a sign.
    negative = text is not None and text.startswith("-") and not isinstance(raw, str)
    if text is None or negative or len(text) > _MAX_CHARACTERS:
        raise _error("phone_invalid")
    # A list of numbers is told by its line breaks as well, which become plain white space below.
    text = re.sub(r"[\r\n\t\v\f]+", ";", text)
    if not (text.isascii() and text.isprintable()):
        text = "".join(_plain(char) for char in unicodedata.normalize("NFKC", text))
    text = text.strip(" '\"`;,.")
    return code_text(re.sub(r"^tel:\s*", "", text, flags=re.IGNORECASE)) or ""


def _plain(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category == "Pd" or char in "\u2212\u00b7":
        return "-"
    if category == "Zs":
        return " "
    # Directional marks and zero-width characters come with numbers copied out of contact apps.
    return "" if category in ("Cf", "Cc") else char


def _checked_text(text: str, drop_extension: bool) -> str:
    """The text of one number, without letters and without an extension."""
    if _PLAIN.fullmatch(text):
        return text  # as most are; there is nothing in it for the rules below
    text = _CONJUNCTION.sub(";", text)
    extension = _EXTENSION.search(text)
    if extension:
        text = text[: extension.start()]
    if any(unicodedata.category(char)[0] in "LM" for char in text):
        raise _error("phone_letters")
    if _is_several(text):
        raise _error("phone_several")
    if extension and not drop_extension:
        raise _error("phone_extension")
    if not _PUNCTUATION.fullmatch(re.sub(r"^[\s(\[]*\+|[0-9]", "", text)):
        raise _error("phone_invalid")
    if not _digits(text):
        raise _error("phone_invalid" if extension else "phone_missing")
    return text


def _is_several(text: str) -> bool:
    """Whether the text is more than one phone number."""
    if len(re.findall(r"\+[\s(]*[0-9]", text)) > 1:
        return True
    listed = [_digit_count(part) for part in re.split(r"[,;|\\]", text)]
    if sum(count >= 6 for count in listed) > 1:
        return True
    # "030/12345678" is an area code, "9544510895/96" is two numbers of which the second is cut short.
    slashed = [_digit_count(part) for part in text.split("/")]
    if len(slashed) > 1 and slashed[0] >= 6 and any(slashed[1:]):
        return True
    return sum(_digit_count(part) >= 8 for part in text.split()) > 1


def _can_be_two(text: str) -> bool:
    """Whether the text falls into two numbers at a space, ``(954) 451-0895 (954) 451-0896``."""
    parts = [_digit_count(part) for part in text.split()]
    return sum(parts) >= 18 and any(
        min(sum(parts[:cut]), sum(parts[cut:])) >= 8 for cut in range(1, len(parts))
    )


def _digits(text: str) -> str:
    if text.isascii() and text.isdigit():
        return text
    return "".join(char for char in text if char in "0123456789")


def _digit_count(text: str) -> int:
    return len(_digits(text))


def _region(country: object, default_region: str | None) -> str:
    """The region or ``+calling code`` to read a national number in."""
    if is_missing(country) and default_region is None:
        raise _error("phone_no_region")
    region = _known_region(country, default_region)
    if region is None:
        # The row is not to blame for a default that is none.
        raise _error("default_region_unknown" if is_missing(country) else "country_unknown")
    return region


def _known_region(country: object, default_region: str | None) -> str | None:
    """Like :func:`_region`, but None for a country that is missing or unknown."""
    text = code_text(default_region if is_missing(country) else country)
    if text is None:
        return None
    text = unicodedata.normalize("NFKC", text)
    if text.upper() in phonenumbers.SUPPORTED_REGIONS:
        return text.upper()
    match = _CALLING_CODE.fullmatch(text)
    if match is None or int(match[1]) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        return None
    region = phonenumbers.region_code_for_country_code(int(match[1]))
    return f"+{match[1]}" if region == _NON_GEOGRAPHIC else region


def _parse_in_region(digits: str, region: str | None) -> PhoneNumber | None:
    if region is None:
        return None
    # Calling codes of no country (800 and others) have no region to read national digits in.
    return _parse(region + digits, None) if region.startswith("+") else _parse(digits, region)


def _parse(digits: str, region: str | None) -> PhoneNumber | None:
    """The number, if it is a valid one of any region of its calling code."""
    try:
        number = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_valid_number(number) else None
