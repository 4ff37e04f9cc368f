"""Popin's texts without the people in them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client import redaction
from airflow_provider_popin.client.redaction import HIDDEN, VOCABULARY, redact_text, shortened


@pytest.mark.parametrize(
    "text",
    [
        "Validation failed",
        "The mobile field is required.",
        "The name must be at least 3 characters",
        "This slot is already booked, please choose another time.",
        "Too Many Attempts.",
        "The selected customer id is invalid.",
        "customer_id: not found (404)",
        "Unauthenticated.",
        "Seen in the dashboard, the customer confirmed it twice.",
    ],
)
def test_ordinary_error_texts_stay(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Customer Vijith is already registered", "Customer *** is already registered"),
        ("Customer Vijith Example is already registered", "Customer *** is already registered"),
        ("Mary-Jane O'Hara: invalid", "***: invalid"),
        ("no customer asha.example@example.co.in found", "no customer *** found"),
        ("+91 98765 43210 is invalid", "*** is invalid"),
        ("The number (201) 555-0123 is invalid", "The number (*** is invalid"),
        ("9 8 7 6 5 is invalid", "*** is invalid"),
        ("must be 10 digits, 2 given", "must be 10 digits, 2 given"),
        ("code 1234", "code ***"),
        ("Müller is busy", "*** is busy"),
        ("सीमा is busy", "*** is busy"),
        ("Theé is busy", "*** is busy"),
        ("\uff19\uff18\uff17\uff16\uff15 is invalid", "*** is invalid"),
        ("user Do is busy", "user *** is busy"),
        ("Do is busy", "*** is busy"),
        ("user An No In He is busy", "user *** is busy"),
        ("No slot", "No slot"),
        ("<b>Vijith</b>", "***"),
        ("key sk_x1_abc123def", "key ***"),
        ("Page Postlethwaite is busy", "*** is busy"),
        ("Post: invalid", "***: invalid"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_everything_else_is_hidden(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_own_values_are_hidden_even_when_they_are_ordinary_words() -> None:
    assert redact_text("name Field is required", ("Field Name",)) == "*** is required"
    assert redact_text("pin 560 is invalid", ("560",)) == "pin *** is invalid"
    assert redact_text("pin 5-6-0 is invalid", ("560",)) == "pin *** is invalid"
    assert redact_text("the NAME is invalid", ("name",)) == "the *** is invalid"


def test_length() -> None:
    assert len(redact_text("required " * 100)) == 200
    assert redact_text("required " * 100).endswith("...")
    assert len(redact_text("x" * 10**6)) < 200


def test_an_address_is_looked_for_from_the_beginning_of_a_word_only() -> None:
    """From each character of a long word, the time would grow with the square of its length."""
    assert redaction._EMAIL.match("asha@example.com")
    assert [at for at in range(16) if redaction._EMAIL.match("asha@example.com", at)] == [0]


@pytest.mark.parametrize("character", ["\u3316", "\ufdfa"], ids=["becomes six", "becomes eighteen"])
def test_no_more_is_looked_through_than_is_read(character: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_through = []

    class Pattern:
        def sub(self, _: str, text: str) -> str:
            looked_through.append(len(text))
            return text

    monkeypatch.setattr(redaction, "_EMAIL", Pattern())
    redact_text(character * 3_000)
    assert looked_through == [redaction._READ_CHARACTERS]


@given(st.text(alphabet="a@ \n", max_size=30) | st.text())
def test_an_address_is_found_as_if_it_were_looked_for_everywhere(text: str) -> None:
    assert redaction._EMAIL.sub(HIDDEN, text) == re.sub(r"\S+@\S+", HIDDEN, text)


names = st.text(alphabet=st.characters(categories=["L"]), min_size=1, max_size=12)


@given(st.lists(st.sampled_from(sorted(VOCABULARY)) | names, max_size=30), names)
def test_own_values_never_pass(words: list[str], name: str) -> None:
    shown = redact_text(" ".join([*words, name]), (name,))
    assert name.casefold() not in shown.casefold().split()


@given(st.text())
def test_only_the_vocabulary_passes(text: str) -> None:
    shown = redact_text(text)
    assert len(shown) <= 200
    for word in "".join(char if char.isalpha() else " " for char in shown).split():
        assert word.casefold() in VOCABULARY


@given(st.from_regex(r"\+?[0-9][0-9 ()./-]{6,20}[0-9]", fullmatch=True))
def test_no_phone_number_passes(number: str) -> None:
    digits = "".join(char for char in number if char.isdigit())
    shown = redact_text(f"number {number} is invalid")
    assert len(digits) <= 3 or not any(char.isdigit() for char in shown)
    if len(digits) > 3:
        assert HIDDEN in shown


def test_digits_of_ones_own_are_hidden_however_they_are_written() -> None:
    assert redact_text("pin 123 is not 124", ["1-23"]) == "pin *** is not 124"


def test_two_hundred_characters_are_not_too_many() -> None:
    assert shortened("x" * 200) == "x" * 200
    assert shortened("x" * 201) == "x" * 197 + "..."
