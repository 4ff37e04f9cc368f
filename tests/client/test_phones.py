"""Phone numbers as CRMs have them."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from unittest.mock import patch

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat

from airflow_provider_popin.client import phones
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.phones import Phone, parse_phone

INDIA = "+919876543210"
CODES = {
    "phone_letters",
    "phone_several",
    "phone_extension",
    "phone_invalid",
    "phone_no_region",
    "country_unknown",
    "default_region_unknown",
    "phone_missing",
}


def code_of(
    raw: object, *, country: object = None, default_region: str | None = None, drop: bool = False
) -> str:
    with pytest.raises(PopinInputError) as caught:
        parse_phone(raw, country=country, default_region=default_region, drop_extension=drop)
    error = caught.value
    assert error.__cause__ is None
    fields = {"country_unknown": "country", "default_region_unknown": "default_region"}
    assert error.field == fields.get(error.code, "mobile")
    digits = "".join(char for char in str(raw) if char.isdigit())
    assert len(digits) < 4 or digits not in str(error) + repr(error)
    return error.code


def e164(
    raw: object, *, country: object = None, default_region: str | None = None, drop: bool = False
) -> str:
    return parse_phone(raw, country=country, default_region=default_region, drop_extension=drop).e164


def test_national_digits_and_calling_code() -> None:
    phone = parse_phone("98765 43210", default_region="IN")
    assert (phone.mobile, phone.country, phone.e164) == ("9876543210", "91", INDIA)
    assert "98765" not in repr(phone)


@pytest.mark.parametrize(
    "raw",
    [
        "9876543210",
        " 98765-43210 ",
        "09876543210",
        "98765\u00a043210",
        "98765\u201143210",
        "\u202a9876543210\u202c",
        "\ufeff9876543210",
        "\uff19\uff18\uff17\uff16\uff15\uff14\uff13\uff12\uff11\uff10",
        "९८७६५४३२१०",
        "٩٨٧٦٥٤٣٢١٠",
        "(98765) 43210",
        "98765.43210",
        "'9876543210",
        '"9876543210"',
        "9876543210;",
        "9876543210,",
        9876543210,
        9876543210.0,
        Decimal(9876543210),
        Decimal("9876543210.0"),
        Decimal("9.87654321E+9"),
        "9876543210.0",
        "9876543210.00",
        "+91 98765 43210",
        "+91-98765-43210",
        "(+91) 9876543210",
        "+ 91 98765 43210",
        "+91 98765'43210",
        "98765" + 90 * " " + "43210",
        "\uff0b919876543210",
        "+(91)9876543210",
        "+91 (0)98765 43210",
        "00919876543210",
        "0091 98765 43210",
        "(0091) 9876543210",
        "+0091 9876543210",
        "919876543210",
        919876543210,
        919876543210.0,
        "tel:+91-98765-43210",
        "TEL: 9876543210",
    ],
)
def test_writings_of_one_number(raw: object) -> None:
    assert e164(raw, default_region="IN") == INDIA


@pytest.mark.parametrize(
    "country", ["IN", "in", " In ", "91", "+91", " +91 ", "0091", "+ 91", 91, 91.0, Decimal(91), "91.0"]
)
def test_country_columns(country: object) -> None:
    assert e164("9876543210", country=country) == INDIA
    assert e164("9876543210", country=country, default_region="US") == INDIA


@pytest.mark.parametrize("country", [None, "", "  ", float("nan"), Decimal("NaN")])
def test_no_country_column(country: object) -> None:
    assert e164("9876543210", country=country, default_region="IN") == INDIA
    assert code_of("9876543210", country=country) == "phone_no_region"


@pytest.mark.parametrize(
    "country",
    ["XX", "India", "IND", "UK", "999", 0, -91, 91.5, "91a", "१२३४", True, b"91", [91], float("inf"), 10**50],
)
def test_unknown_countries_are_not_guessed(country: object) -> None:
    assert code_of("9876543210", country=country, default_region="IN") == "country_unknown"


def test_unknown_default_region() -> None:
    assert code_of("9876543210", default_region="XX") == "default_region_unknown"
    assert code_of("9876543210", country="XX", default_region="XX") == "country_unknown"


@pytest.mark.parametrize("country", ["US", "1", 44, "XX", True])
def test_a_number_that_carries_its_country_wins_over_the_column(country: object) -> None:
    """On purpose: the column tells where somebody lives, and people keep foreign numbers."""
    for raw in (INDIA, "00919876543210", "+91 98765 43210"):
        assert e164(raw, country=country, default_region="GB") == INDIA
    assert e164(INDIA) == INDIA
    # Nor is the column asked where the country that it carries has no such number.
    assert code_of("+9876543210", country="IN") == "phone_invalid"


def test_international_prefixes_of_regions() -> None:
    london = "+442079460958"
    assert e164("011 44 20 7946 0958", country="US") == london
    assert e164("0011 44 20 7946 0958", country="AU") == london
    assert e164("00 44 (0)20 7946 0958", country="US") == london
    assert code_of("0011 44 20 7946 0958") == "phone_invalid"


@pytest.mark.parametrize(
    "raw", ["+1 506 234 5678", "001-506-234-5678", "(506) 234-5678", "1 506 234 5678", 15062345678]
)
def test_calling_code_1_is_more_than_the_united_states(raw: object) -> None:
    """506 is New Brunswick, Canada."""
    assert e164(raw, country="US") == "+15062345678"
    assert e164(raw, country=1) == "+15062345678"


def test_leading_zeros_that_belong_to_the_number() -> None:
    phone = parse_phone("06 698 12345", country="IT")
    assert (phone.mobile, phone.country) == ("0669812345", "39")


def test_calling_codes_without_a_region() -> None:
    assert e164("1234 5678", country="800") == "+80012345678"


@pytest.mark.parametrize(
    "raw",
    [
        "(201)555-0123x6619",
        "201-555-0123x10077",
        "001-201-555-0123x1232",
        "+1-201-555-0123x01577",
        "2015550123 ext 12",
        "2015550123 Ext. 12",
        "2015550123 extension 12",
        "2015550123extn:12",
        "2015550123 #12",
        "2015550123;ext=12",
        "2015550123,,12#",
        "(201) 555-0123 (ext. 12)",
        "201-555-0123 [x12]",
        "(201-555-0123 ext 12)",
        "tel:+1-201-555-0123;ext=12",
        "2015550123 \uff38\uff11\uff12",
    ],
)
def test_extensions(raw: str) -> None:
    assert code_of(raw, default_region="US") == "phone_extension"
    assert e164(raw, default_region="US", drop=True) == "+12015550123"


@pytest.mark.parametrize(
    "raw",
    [
        "1-800-FLOWERS",
        "call me",
        "9876543210 home",
        "98765O3210",
        "9.87654321E+09",
        "n/a",
        "null",
        "nan",
        "98765ई3210",
        "x x12",
    ],
)
def test_letters(raw: str) -> None:
    assert code_of(raw, default_region="IN") == "phone_letters"
    assert code_of(raw, default_region="IN", drop=True) == "phone_letters"


@pytest.mark.parametrize(
    "raw",
    [
        "9876543210, 9876543211",
        "9876543210;9876543211",
        "9876543210/9876543211",
        "9876543210/11",
        "9876543210 | 9876543211",
        "9876543210 & 9876543211",
        "9876543210 or 9876543211",
        "9876543210 and 9876543211",
        "9876543210\n9876543211",
        "9876543210 9876543211",
        "+91 98765 43210 +91 98765 43211",
        "(987) 654-3210 (987) 654-3211",
        "98765 43210 98765 43211",
        "9876543210\\9876543211",
        # The shortest that count as numbers of their own.
        "9876543210, 654321",
        "901820/96",
        "22334455 22334466",
        "98765 4321 98765 4322",
    ],
)
def test_several(raw: str) -> None:
    assert code_of(raw, default_region="IN") == "phone_several"


def test_slash_behind_an_area_code_is_one_number() -> None:
    assert e164("030/901820", country="DE") == "+4930901820"


@pytest.mark.parametrize(
    "raw", [None, "", "   ", "\u00a0", float("nan"), Decimal("NaN"), "-", "--", "()", "\u200b"]
)
def test_missing(raw: object) -> None:
    assert code_of(raw, default_region="IN") == "phone_missing"


@pytest.mark.parametrize(
    "raw",
    [
        "0",
        "123",
        "12345",
        "9876",
        "98765432101234567",
        "9" * 50,
        "9" * 5000,
        10**100,
        -9876543210,
        9876543210.5,
        float("inf"),
        Decimal("Infinity"),
        Decimal("1E+1000000"),
        1e300,
        True,
        False,
        b"9876543210",
        ["9876543210"],
        {"a": 1},
        object(),
        uuid.UUID(int=7),
        "91+9876543210",
        "++919876543210",
        "=+919876543210",
        "9876*43210",
        "+",
        "+0",
        "00",
        "9,876,543,210",
        "x12",
        "98765\x0043210%",
    ],
)
def test_invalid(raw: object) -> None:
    assert code_of(raw, default_region="IN", drop=True) in ("phone_invalid", "phone_missing", "phone_letters")


def test_invalid_in_its_own_country_but_not_elsewhere() -> None:
    """Valid Indian digits are no valid number of the United States."""
    assert code_of("6876543210", country="US", default_region="IN") == "phone_invalid"


def test_pandas_missing_values_without_pandas() -> None:
    for name in ("NAType", "NaTType"):
        assert code_of(type(name, (), {})(), default_region="IN") == "phone_missing"


REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


@given(
    st.sampled_from(REGIONS),
    st.sampled_from([PhoneNumberFormat.E164, PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.NATIONAL]),
    st.booleans(),
)
def test_every_region_round_trips(region: str, form: int, by_code: bool) -> None:
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if number is None or not phonenumbers.is_valid_number(number):
        return
    text = phonenumbers.format_number(number, form)
    expected = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    assert e164(text, country=region) == expected
    assert e164(expected.replace("+", "00")) == expected
    if by_code and form != PhoneNumberFormat.NATIONAL:
        assert e164(text, country=number.country_code) == expected


@given(st.sampled_from(REGIONS), st.text(alphabet="0123456789", min_size=3, max_size=12))
def test_what_is_accepted_reads_the_same_again(region: str, digits: str) -> None:
    try:
        phone = parse_phone(digits, country=region)
    except PopinInputError:
        return
    assert parse_phone(phone.e164) == phone
    assert phonenumbers.is_valid_number(phonenumbers.parse(phone.e164))


@given(st.from_regex(r"\+?[0-9]{1,110}", fullmatch=True), st.sampled_from([None, "IN", "US", "IT", "AU"]))
def test_plain_digits_pass_every_rule_that_they_are_spared(digits: str, region: str | None) -> None:
    def read() -> object:
        try:
            return parse_phone(digits, default_region=region)
        except PopinInputError as error:
            return error.code

    spared = read()
    with patch.object(phones, "_PLAIN", re.compile("(?!)")):
        assert read() == spared


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="0123456789+-() .x/,;\u00a0\u0660\uff11", max_size=30),
        st.integers(),
        st.floats(),
        st.decimals(),
        st.none(),
        st.booleans(),
        st.binary(),
    ),
    st.one_of(
        st.none(), st.sampled_from(["IN", "1", "+44", "XX"]), st.text(max_size=5), st.integers(), st.floats()
    ),
    st.booleans(),
)
def test_any_cell_is_a_phone_or_a_known_reason(raw: object, country: object, drop: bool) -> None:
    try:
        phone = parse_phone(raw, country=country, default_region="IN", drop_extension=drop)
    except PopinInputError as error:
        assert error.code in CODES  # noqa: PT017
        return
    assert isinstance(phone, Phone)
    assert phone.mobile.isascii()
    assert phone.mobile.isdigit()
    assert phone.country.isdigit()
