"""Bytes become one model: the three documented envelopes, unknown ones, and anything at all."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.webhooks.envelopes import WebhookBodyError, parse_event
from airflow_provider_popin.webhooks.events import KINDS, EventKind, customer_id_of
from tests.privacy import assert_no_personal_data
from tests.webhooks.deliveries import PERSON, body, scheduled

OUTGOING = {
    "event": "popin_outgoing_call_missed",
    "session_id": "bf0b3a76-0596-4602-a2c3-43e0db01b991",
    "user_id": 58559,
    "call_id": 28844,
    "schedule_id": None,
    "participant": "agent",
    "agent": {"name": PERSON["agent"], "email": PERSON["agent_email"]},
    "user": {
        "name": PERSON["name"],
        "email": PERSON["email"],
        "phone_number": PERSON["mobile"],
        "country_code": "+91",
    },
    "meta": {"product": {"name": "Headphones", "id": "SKU-123", "url": "https://example.com/headphones"}},
    "timestamp": 1771832273,
}


def refused(raw: bytes) -> str:
    with pytest.raises(WebhookBodyError) as caught:
        parse_event(raw)
    assert str(caught.value) == caught.value.reason
    assert caught.value.__cause__ is None
    return caught.value.reason


class TestEnvelopes:
    def test_the_older_one(self) -> None:
        event = parse_event(scheduled(1_772_207_100, "315", zone="Asia/Kolkata"))
        assert (event.kind, event.name) == (EventKind.SCHEDULED, "popin_scheduled_created")
        assert event.customer_id == base64.b64encode(b"315").decode() == "MzE1"
        assert event.occurred_at is None
        assert event.scheduled_local == datetime(2026, 2, 27, 21, 15)  # noqa: DTZ001

    def test_the_newer_one(self) -> None:
        event = parse_event(
            body("popin_call_successful", "315", timestamp="2026-02-27T16:00:00Z", call_duration="340")
        )
        assert event.kind is EventKind.SUCCESSFUL
        assert event.occurred_at == 1_772_208_000
        assert event.scheduled_local is None
        told = {"customer_name": "***", "agent_name": "***", "call_duration": "340"}
        assert event.payload["properties"] == told
        assert event.payload["timestamp"] == "2026-02-27T16:00:00Z"

    def test_the_one_of_outgoing_calls(self) -> None:
        event = parse_event(json.dumps(OUTGOING).encode())
        assert (event.kind, event.customer_id) == (EventKind.OUTGOING_MISSED, "NTg1NTk=")
        assert event.occurred_at == 1_771_832_273
        assert event.payload["participant"] == "agent"
        assert event.payload["session_id"] == OUTGOING["session_id"]
        assert event.payload["schedule_id"] is None
        assert set(event.payload) == set(OUTGOING)

    def test_an_unknown_one_keeps_its_fields(self) -> None:
        event = parse_event(
            b'{"event":"popin_call_transferred","user_id":7777,"to":{"desk":"north"},"rating":4}'
        )
        assert (event.kind, event.name) == (EventKind.UNKNOWN, "popin_call_transferred")
        assert event.customer_id == "Nzc3Nw=="
        assert event.payload == {
            "event": "popin_call_transferred",
            "user_id": "***",
            "to": {"desk": "***"},
            "rating": 4,
        }

    @pytest.mark.parametrize("name", list(KINDS))
    def test_every_documented_event(self, name: str) -> None:
        event = parse_event(body(name, timestamp=1_771_832_273))
        assert event.kind is not EventKind.UNKNOWN
        assert event.name == name == event.payload["event"]

    def test_every_kind_has_a_name(self) -> None:
        assert set(KINDS.values()) == set(EventKind) - {EventKind.UNKNOWN}

    def test_nothing_personal_is_left(self) -> None:
        bodies = [*(body(name, timestamp="1771832273") for name in KINDS), scheduled(1_772_207_100)]
        for raw in (*bodies, json.dumps(OUTGOING).encode()):
            event = parse_event(raw)
            text = repr(event) + json.dumps(event.payload)
            assert_no_personal_data(text, PERSON.values())


class TestCustomer:
    @pytest.mark.parametrize("user_id", [315, "315"])
    def test_a_number_and_its_digits_are_the_same(self, user_id: object) -> None:
        assert customer_id_of(user_id) == "MzE1"

    @pytest.mark.parametrize(
        "user_id",
        [None, True, 0, -1, 3.5, "", "0315", " 315", "٣", "MzE1", [], {}, 7_000_012_345, "7000012345"],
    )
    def test_anything_else_is_nobody(self, user_id: object) -> None:
        # Ten digits may be a phone number, which base64 would not hide.
        assert customer_id_of(user_id) is None


class TestTime:
    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            (1_771_832_273, 1_771_832_273.0),
            ("1771832273", 1_771_832_273.0),
            (1_771_832_273.5, 1_771_832_273.5),
            (1_771_832_273_000, 1_771_832_273.0),
            ("2026-02-23T13:07:53+05:30", 1_771_832_273.0),
            ("2026-02-23 07:37:53", None),  # of which timezone?
            ("2026-02-23", None),
            ("2026-02-23T13:07:53.00000000000000+05:30", 1_771_832_273.0),
            ("2026-02-23T13:07:53.00000000000000+05:30, or later", None),
            ("yesterday", None),
            (None, None),
            (True, None),
            (7_000_012_345, None),  # a phone number
            (-5, None),
            ("9" * 5_000, None),
            ([1_771_832_273], None),
        ],
    )
    def test_an_instant_or_none(self, told: object, expected: float | None) -> None:
        assert parse_event(body("popin_call_missed", timestamp=told)).occurred_at == expected

    @pytest.mark.parametrize(
        ("date", "clock", "expected"),
        [
            ("27-Feb-2026", "09:30 PM", datetime(2026, 2, 27, 21, 30)),  # noqa: DTZ001
            ("27-Feb-2026", "12:00 AM", datetime(2026, 2, 27)),  # noqa: DTZ001
            ("27-Feb-2026", "12:15 PM", datetime(2026, 2, 27, 12, 15)),  # noqa: DTZ001
            ("7-FEB-2026", "9:30pm", datetime(2026, 2, 7, 21, 30)),  # noqa: DTZ001
            ("30-Feb-2026", "09:30 PM", None),
            ("27-02-2026", "09:30 PM", None),
            ("27-Feb-2026", "21:30", None),
            ("27-Feb-2026", "13:30 PM", None),
            ("27-Feb-1026", "09:30 PM", None),
            ("27-Feb-2026", None, None),
            (20_260_227, "09:30 PM", None),
        ],
    )
    def test_a_local_time_or_none(self, date: object, clock: object, expected: datetime | None) -> None:
        event = parse_event(body("popin_scheduled_created", scheduled_date=date, scheduled_time=clock))
        assert event.scheduled_local == expected


class TestHostile:
    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"", "not_json"),
            (b"\xff\xfe", "not_utf8"),
            (b"popin_call_missed", "not_json"),
            (b"[]", "not_an_object"),
            (b"null", "not_an_object"),
            (b'"event"', "not_an_object"),
            (b"{}", "no_event"),
            (b'{"event":""}', "no_event"),
            (b'{"event":7}', "no_event"),
            (b'{"event":["popin_call_missed"]}', "no_event"),
            (b'{"event":"popin_call_missed","event":"popin_scheduled_created"}', "no_event"),
            (b'{"event":"x"} {"event":"y"}', "not_json"),
            (b'{"event":"x","a":' + b"[" * 60_000 + b"]" * 60_000 + b"}", "too_deep"),
        ],
    )
    def test_what_cannot_be_a_webhook(self, raw: bytes, reason: str) -> None:
        assert refused(raw) == reason

    def test_a_key_that_is_there_twice_is_nobodys_word(self) -> None:
        event = parse_event(b'{"event":"popin_call_missed","user_id":315,"user_id":316,"timestamp":1}')
        assert event.customer_id is None
        same = parse_event(b'{"event":"popin_call_missed","user_id":315,"user_id":315}')
        assert same.customer_id == "MzE1"

    @pytest.mark.parametrize(
        "value",
        ["NaN", "-Infinity", "1e999", "9" * 10_000, '"\\ud800"', '"\\u0000"', "[" * 300 + "]" * 300],
    )
    def test_values_that_databases_and_parsers_choke_on(self, value: str) -> None:
        event = parse_event(f'{{"event":"popin_call_rated","user_id":315,"x":{value}}}'.encode())
        assert event.customer_id == "MzE1"
        stored = json.dumps(event.payload, ensure_ascii=True, allow_nan=False)
        assert stored.isprintable()

    def test_a_byte_order_mark(self) -> None:
        assert parse_event(b"\xef\xbb\xbf" + body("popin_call_missed")).kind is EventKind.MISSED

    @pytest.mark.parametrize("name", ["quorvex@example.com", "of 7000012345", "Zelrath", "x" * 300, "\ud800"])
    def test_a_name_that_is_none_of_popins_is_hidden(self, name: str) -> None:
        event = parse_event(json.dumps({"event": name}).encode())
        assert event.name == "***"
        assert event.payload["event"] in ("***", "of ***")

    @given(st.binary(max_size=300))
    def test_any_bytes(self, raw: bytes) -> None:
        with contextlib.suppress(WebhookBodyError):
            assert parse_event(raw).name

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=30,
        ),
        st.sampled_from(["user_id", "timestamp", "properties", "meta", "event2"]),
    )
    def test_any_json(self, value: object, field: str) -> None:
        raw = json.dumps({"event": "popin_scheduled_created", field: value}).encode()
        event = parse_event(raw)
        assert event.kind is EventKind.SCHEDULED
        # What is stored is plain text for every database.
        assert json.dumps(event.payload, ensure_ascii=True, allow_nan=False).isprintable()
