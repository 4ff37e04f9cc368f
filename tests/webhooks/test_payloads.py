"""A payload without the people in it: what is harmless is listed, everything else is hidden."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.webhooks.payloads import (
    MAX_VALUES,
    redact_webhook,
    safe_event_name,
)
from tests.privacy import assert_no_personal_data

PHONE = "7000012345"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("call_duration", "340"),
        ("call_duration", 340.5),
        ("call_duration", "05:40"),
        ("rating", 5),
        ("rating", "4"),
        ("participant", "user"),
        ("scheduled_date", "27-Feb-2026"),
        ("scheduled_time_local", "09:30 PM"),
        ("session_id", "bf0b3a76-0596-4602-a2c3-43e0db01b991"),
        ("timestamp", "2026-02-27T16:00:00Z"),
        ("timestamp", "2026-02-27T16:00:00+05:30"),
        ("anything", True),
        ("anything", None),
        ("anything", 12),
        ("anything", "call was cancelled"),
        ("anything", ""),
    ],
)
def test_what_is_kept(key: str, value: object) -> None:
    assert redact_webhook({key: value}) == {key: value}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("call_duration", PHONE),
        ("rating", PHONE),
        ("rating", 7_000_012_345),
        ("participant", "Zelrath"),
        ("scheduled_date", f"27-Feb-2026 {PHONE}"),
        ("scheduled_time", PHONE),
        ("session_id", PHONE),
        ("timestamp", PHONE),
        ("timestamp", f"2026-02-27T16:00:00 {PHONE}"),
        # Half of a surrogate pair: no page could be encoded that shows it.
        ("timestamp", "2026-02-27T16:00:00\ud800"),
        ("timestamp", "2026-02-27T16:00:00\N{RIGHT-TO-LEFT OVERRIDE}"),
        ("phone_number", PHONE),
        ("meta", int(PHONE)),
        ("meta", -int(PHONE)),
        ("meta", 7_000_012.345),
        ("meta", "quorvex@example.com"),
        ("meta", "Zelrath"),
        ("meta", "\uff17\uff10\uff10\uff10 \uff10\uff11\uff12\uff13\uff14\uff15"),  # full width
        ("meta", "\u0667\u0660\u0660\u0660\u0660\u0661\u0662\u0663\u0664\u0665"),  # Arabic
        ("meta", "seven 70-000-12-345"),
        ("meta", "700 001 234"),
        ("url", "https://live.example.com/8131-a157"),
    ],
)
def test_what_is_hidden(key: str, value: object) -> None:
    (told,) = redact_webhook({key: value}).values()
    assert "***" in str(told)
    assert not any(char.isdigit() for char in str(told))


@pytest.mark.parametrize(
    "key",
    ["customer_name", "agentName", "email", "full_phone_number", "mobile_no", "agent", "user", "Customer"],
)
@pytest.mark.parametrize("value", ["booked", "Call", ["busy"], {"first": "free", "more": [{"x": "code"}]}])
def test_no_text_of_a_person_is_kept(key: str, value: object) -> None:
    """Anybody may be named like an ordinary word."""
    told = str(redact_webhook({key: value}))
    assert "***" in told
    assert not any(word in told for word in ("booked", "Call", "busy", "free", "code"))


def test_an_event_is_named_at_the_top_only() -> None:
    inner = {"event": "popin_asha_example", "meta": {"event": "asha_example"}}
    told = redact_webhook({"event": "popin_call_missed", "properties": inner})
    assert told == {
        "event": "popin_call_missed",
        "properties": {"event": "popin_***", "meta": {"event": "***"}},
    }
    assert redact_webhook({"event": "asha_example"}) == {"event": "***"}


def test_the_shape_stays() -> None:
    payload = {"meta": {"a": {"b": ["Zelrath", {"c": "Ostrek"}, 1]}, "ok": True}}
    assert redact_webhook(payload) == {"meta": {"a": {"b": ["***", {"c": "***"}, "***"]}, "ok": True}}


@pytest.mark.parametrize(
    "key", [PHONE, "quorvex@example.com", "Quorvex Zelrath", "", "x" * 49, "\x00", "a1b2c3d4"]
)
def test_a_key_that_looks_personal_is_hidden(key: str) -> None:
    assert redact_webhook({key: True}) == {"***": True}


def test_hidden_keys_stay_apart() -> None:
    told = redact_webhook({PHONE: 1, "7000012346": 2, "7000012347": 3, "kept": 4})
    assert told == {"***": 1, "***2": 2, "***3": 3, "kept": 4}


def test_digits_in_a_list_are_hidden_one_by_one() -> None:
    assert redact_webhook({"digits": [7, 0, 0, 0, 0, 1, 2]}) == {"digits": ["***"] * 7}


def test_depth_and_size_are_bounded() -> None:
    deep: object = "end"
    for _ in range(100):
        deep = {"next": deep}
    assert json.dumps(redact_webhook({"meta": deep})).count("next") < 10
    wide = redact_webhook({f"k{'abcdefghij'[n % 10]}": [n] * 900 for n in range(10)})
    assert len(json.dumps(wide)) < 10 * MAX_VALUES
    many = redact_webhook({"k" + "x" * n: True for n in range(48)} | {"list": [True] * 5_000})
    assert len(json.dumps(many)) < 20 * MAX_VALUES
    assert str(many["list"]).endswith("True, 'too much']")
    cut = redact_webhook({f"k{'x' * n}{'y' * m}": True for n in range(22) for m in range(22)})
    assert list(cut)[MAX_VALUES:] == ["***"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("popin_call_missed", "popin_call_missed"),
        ("popin_2", "popin_2"),
        ("p1234", "***"),
        ("Popin", "***"),
        ("asha_example", "***"),
        ("popin_", "***"),
        ("popin_1234", "***"),
        ("popin_" + "x" * 58, "***"),
    ],
)
def test_names_of_events(name: str, expected: str) -> None:
    assert safe_event_name(name) == expected


PERSONAL = st.sampled_from(
    ["7000012345", "+91 70000 12345", "Quorvex Zelrath", "quorvex.zelrath@example.com", "(700) 001-2345"]
)


@given(
    st.recursive(
        PERSONAL | st.just(7_000_012_345),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
        max_leaves=10,
    ),
    st.sampled_from(["rating", "timestamp", "event", "meta", "call_duration", "remark", "scheduled_time"]),
)
def test_nobody_is_found_in_anything(value: object, key: str) -> None:
    told = json.dumps(redact_webhook({key: value}))
    people = ["7000012345", "Quorvex Zelrath", "quorvex.zelrath@example.com"]
    assert_no_personal_data(told, people)
