"""Leads from cells."""

from __future__ import annotations

import json
import pickle
import unicodedata
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.models import Lead
from airflow_provider_popin.client.protocol import build_capture
from airflow_provider_popin.client.scalars import clean_text, code_text, is_missing, plain_text, whole_number

NAN = float("nan")
FIELDS = ["name", "mobile", "email", "country", "group", "agent", "pincode", "native", "campaign"]


def lead(**fields: Any) -> Lead:
    return make_lead(**{"name": "Asha Example", "mobile": "+919876543210", **fields})


def refused(**fields: Any) -> tuple[str, str | None]:
    with pytest.raises(PopinInputError) as caught:
        lead(**fields)
    for value in fields.values():
        if isinstance(value, str) and len(value) > 3:
            assert value not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value.code, caught.value.field


def test_full_lead() -> None:
    made = lead(
        email=" asha@example.com ",
        group=5211,
        agent="210",
        pincode="02134",
        native="no",
        campaign={"utm_source": "google"},
    )
    assert made == Lead(
        name="Asha Example",
        mobile="9876543210",
        country="91",
        email="asha@example.com",
        group="5211",
        agent=210,
        pincode="02134",
        native=False,
        campaign={"utm_source": "google"},
    )
    assert made.e164 == "+919876543210"


def test_repr_shows_nobody() -> None:
    made = lead(email="asha@example.com", pincode="560001")
    assert repr(made) == "Lead(***)"
    assert made.personal_values() == (
        "Asha Example",
        "9876543210",
        "919876543210",
        "asha@example.com",
        "560001",
    )
    assert lead().personal_values() == ("Asha Example", "9876543210", "919876543210")


@pytest.mark.parametrize("nothing", [None, "", "  ", "\u00a0", NAN, Decimal("NaN"), type("NAType", (), {})()])
def test_optional_fields_may_be_missing(nothing: object) -> None:
    made = lead(
        email=nothing,
        group=nothing,
        agent=nothing,
        pincode=nothing,
        native=nothing,
        campaign=nothing,
        country=nothing,
    )
    assert made == lead()
    assert refused(name=nothing) == ("name_missing", "name")
    assert refused(mobile=nothing) == ("phone_missing", "mobile")


def test_phone_arguments_are_passed_on() -> None:
    assert lead(mobile="9876543210", country="IN").e164 == "+919876543210"
    assert lead(mobile="9876543210x12", default_region="IN", drop_phone_extension=True).mobile == "9876543210"
    assert refused(mobile="9876543210x12", default_region="IN") == ("phone_extension", "mobile")
    assert refused(mobile="9876543210", country="XX") == ("country_unknown", "country")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("  Asha \n\t Example\u00a0", "Asha Example"),
        ("Jose\u0301", "José"),
        ("Asha\x00 Example", "Asha Example"),
        ("सीमा", "सीमा"),
        ("x" * 255, "x" * 255),
    ],
)
def test_names(name: str, kept: str) -> None:
    assert lead(name=name).name == kept


@pytest.mark.parametrize("name", [5, 5.5, True, b"Asha", ["Asha"], "x" * 256, "\ud800", "\x00", {}])
def test_unusable_names(name: object) -> None:
    assert refused(name=name) == ("name_invalid", "name")


@pytest.mark.parametrize("email", ["a@b.co", "first.last+tag@sub.example.com", "ü@münchen.example"])
def test_emails(email: str) -> None:
    assert lead(email=email).email == email


@pytest.mark.parametrize(
    "email",
    [
        "none",
        "a@b",
        "@b.co",
        "a@",
        "a b@c.de",
        "a@b.co, c@d.ef",
        "a@b@c.de",
        "<a@b.co>",
        5,
        True,
        "a@b.",
        "x" * 250 + "@b.co",
        "\ud800@b.co",
    ],
)
def test_unusable_emails(email: object) -> None:
    assert refused(email=email) == ("email_invalid", "email")


@pytest.mark.parametrize(
    ("cell", "kept"),
    [("QA101", "QA101"), (5211.0, "5211"), ("5211.0", "5211"), (Decimal(7), "7"), ("007", "007")],
)
def test_codes(cell: object, kept: str) -> None:
    made = lead(group=cell, pincode=cell)
    assert (made.group, made.pincode) == (kept, kept)


@pytest.mark.parametrize("cell", [5.5, True, b"5", [5], float("inf"), "x" * 256, "\ud800"])
def test_unusable_codes(cell: object) -> None:
    assert refused(group=cell) == ("group_invalid", "group")
    assert refused(pincode=cell) == ("pincode_invalid", "pincode")


@pytest.mark.parametrize("cell", [210, "210", " 210 ", 210.0, "210.0", Decimal(210)])
def test_agents(cell: object) -> None:
    assert lead(agent=cell).agent == 210


@pytest.mark.parametrize("cell", [0, -1, 2.5, True, "two", "1e3", "٣", "9" * 19, b"1", [1]])
def test_unusable_agents(cell: object) -> None:
    assert refused(agent=cell) == ("agent_invalid", "agent")


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        (1.0, True),
        ("TRUE", True),
        ("f", False),
        ("0", False),
        (" Yes ", True),
    ],
)
def test_native(cell: object, kept: bool) -> None:
    assert lead(native=cell).native is kept


@pytest.mark.parametrize("cell", [2, "maybe", -1, [], b"1", 0.5])
def test_unusable_native(cell: object) -> None:
    assert refused(native=cell) == ("native_invalid", "native")


def test_campaign_values_become_json() -> None:
    made = lead(
        campaign={
            "text": "x",
            "int": 7,
            "float": 1.5,
            "whole": 2.0,
            "bool": True,
            "decimal": Decimal("1.50"),
            "integral": Decimal("3.0"),
            "date": date(2025, 9, 1),
            "datetime": datetime(2025, 9, 1, 8, tzinfo=UTC),
            "time": time(8, 30),
            "uuid": UUID(int=7),
            "list": [1, None, NAN, ("a",)],
            "inner": {"a": {"b": 1}},
            "nothing": None,
            "nan": NAN,
            "blank": " ",
        }
    )
    assert made.campaign == {
        "text": "x",
        "int": 7,
        "float": 1.5,
        "whole": 2.0,
        "bool": True,
        "decimal": "1.50",
        "integral": 3,
        "date": "2025-09-01",
        "datetime": "2025-09-01T08:00:00+00:00",
        "time": "08:30:00",
        "uuid": "00000000-0000-0000-0000-000000000007",
        "list": [1, None, None, ["a"]],
        "inner": {"a": {"b": 1}},
    }
    assert lead(campaign={}).campaign is None
    assert lead(campaign={"a": None}).campaign is None


@pytest.mark.parametrize(
    "campaign",
    [
        "utm",
        5,
        ["a"],
        {5: "a"},
        {"": "a"},
        {"\0": "a"},
        {"a": b"x"},
        {"a": object()},
        {"a": float("inf")},
        {"a": 10**30},
        {"a": "\ud800"},
        {"\ud800": "a"},
        {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
        {"a": Decimal("1E+99999")},
    ],
)
def test_unusable_campaigns(campaign: object) -> None:
    assert refused(campaign=campaign) == ("campaign_invalid", "campaign")


cells = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(FIELDS, cells),
    )
)
def test_any_cells_make_a_request_or_a_reason(fields: dict[str, object]) -> None:
    try:
        made = lead(**fields)
    except PopinInputError as error:
        assert error.field in FIELDS  # noqa: PT017
        return
    body = build_capture(made).body
    assert body is not None
    assert json.loads(body)["name"] == made.name
    assert pickle.loads(pickle.dumps(made)) == made


class TestScalars:
    """Cells as plain values."""

    def test_missing(self) -> None:
        assert not is_missing(0)
        assert not is_missing("0")
        assert not is_missing(False)
        assert not is_missing([])

    def test_whole_number(self) -> None:
        assert whole_number(2.0**53) == 2**53
        assert whole_number(2.0**54) is None
        assert whole_number(Decimal("1E+5")) == 100_000
        assert whole_number(Decimal("sNaN")) is None
        assert whole_number("5") is None

    def test_text(self) -> None:
        assert plain_text(UUID(int=1)) == "00000000-0000-0000-0000-000000000001"
        assert plain_text(" a ") == "a"
        assert plain_text("") == ""
        assert plain_text(10**40) is None
        assert code_text("12.50") == "12.50"
        assert code_text("012.0") == "012.0"
        assert code_text("0.0") == "0"

    def test_clean_text(self) -> None:
        assert clean_text("a\u0085b\u2028c") == "a b c"
        assert clean_text("\x07 Zoe\x07\u0308 \x07 Ann\x07e \x07") == "Zo\u00eb Anne"
        with pytest.raises(UnicodeError):
            clean_text("\udfff")

    @given(st.text() | st.text(alphabet=st.characters(max_codepoint=0x7F)))
    def test_clean_text_of_any_text(self, text: str) -> None:
        cleaned = clean_text(text)
        assert cleaned == clean_text(cleaned) == unicodedata.normalize("NFC", cleaned)
        assert cleaned == " ".join(cleaned.split())
        assert not [char for char in cleaned if unicodedata.category(char) == "Cc"]
        assert _letters(cleaned) == _letters(text)


def _letters(text: str) -> list[str]:
    """What a text is made of, without spaces and control characters."""
    parts = unicodedata.normalize("NFD", text)
    return sorted(char for char in parts if not char.isspace() and unicodedata.category(char) != "Cc")
