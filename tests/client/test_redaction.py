"""Popin's texts without the people in them."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client import redaction
from airflow_provider_popin.client.redaction import HIDDEN, VOCABULARY, redact_text


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


@pytest.mark.parametrize(
    "text",
    [
        "\u3316" * 2_000,  # six characters when it is normalized
        "\ufdfa" * 2_000,  # eighteen
        "a" * 2_000,
        "1" + " -" * 1_000,
        "1- " * 700,
        "*" * 2_000,
        "***- " * 400 + "x",
        "a " * 1_000,
        "e" + "\u0327\u0301" * 1_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    for _ in range(10):
        redact_text(text)
    # Of the longest body there are about 30 such texts; milliseconds are measured.
    assert time.process_time() - started < 1.5


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
