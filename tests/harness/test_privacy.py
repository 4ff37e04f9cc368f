"""The search for personal data finds people in every spelling, and nobody where there is nobody."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.privacy import assert_no_personal_data, find_personal_data, personal_values

LEAD = SimpleNamespace(name="Zoë O'Test Müller", mobile="2025550143", email="zoe+x@example.com")


@pytest.mark.parametrize(
    "text",
    [
        "2025550143",
        "+12025550143",
        "0012025550143,",
        "+1 (202) 555-0143",
        "202.555.0143",
        "mobile=202%20555%200143",
    ],
)
def test_phone_is_found_in_any_format(text: str) -> None:
    assert find_personal_data(text, [LEAD]) == ["2025550143"]


@pytest.mark.parametrize("text", ["<zoe+x@example.com>", "ZOE+X@EXAMPLE.COM", "?e=zoe%2Bx%40example.com"])
def test_email_is_found(text: str) -> None:
    assert find_personal_data(text, [LEAD.email]) == [LEAD.email]


@pytest.mark.parametrize(
    "text",
    ["Dear Zoë,", "müller", "Zoë O'Test Müller", '{"n": "M\\u00fcller"}', "?n=M%C3%BCller", "n='O'Test'"],
)
def test_name_is_found_whole_and_by_its_words(text: str) -> None:
    assert find_personal_data(text, [LEAD]) == [LEAD.name]


def test_key_is_found_and_short_values_are_not_searched_for() -> None:
    assert find_personal_data("X-API-KEY: k3y-9f", ["k3y-9f", "51", "Al"]) == ["k3y-9f"]
    assert find_personal_data("all of 51 leads", ["51", "Al"]) == []


def test_ordinary_text_is_clean() -> None:
    text = "lead A-17 booked at 2026-11-23T10:00:00+05:30 (Monday, 23 Nov 2026 10:00 AM), 12 of 20255 done"
    assert_no_personal_data(text, [LEAD, "Ann Lee", "+91 95445 10895"])


def test_assertion_names_the_value() -> None:
    with pytest.raises(AssertionError, match="2025550143"):
        assert_no_personal_data("call 2025550143", [LEAD])


def test_values_of_mappings_objects_and_texts() -> None:
    class Lead:
        name = "A Person"

        def personal_values(self) -> tuple[str, ...]:
            return ("A Person", "extra")

    assert personal_values({"name": "N", "phone": "1", "email": None, "city": "X"}) == ["N", "1"]
    assert personal_values(Lead()) == ["A Person", "A Person", "extra"]
    assert personal_values("text") == ["text"]
