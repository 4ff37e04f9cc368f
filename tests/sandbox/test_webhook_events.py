"""The bodies of webhooks, field by field, as Popin's guide shows them."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from airflow_provider_popin.sandbox import webhook_events as events
from airflow_provider_popin.sandbox.webhook_events import (
    EVENTS,
    OUTGOING,
    OUTGOING_ENDS,
    PROPERTIES,
    Person,
    Style,
    call_payload,
    outgoing_payload,
    slot_values,
)

# 2026-02-27 21:30:05.25 in Kolkata.
OCCURRED = 1772208005.25
PERSON = Person(number=315, name="Asha Example", email="asha@example.com", country="91", mobile="9544500001")

NEWER = ["event", "user_id", "email", "country_code", "phone_number", "full_phone_number", "timestamp"]
OLDER = ["event", "user_id", "email", "country_code", "phone_number"]


def payload(event: str, style: Style = Style(), /, **values: object) -> dict[str, object]:  # noqa: B008
    return call_payload(event, PERSON, style=style, occurred=OCCURRED, values=values)


def test_completed_call_as_shown() -> None:
    assert payload(events.SUCCESSFUL, call_duration="185", url="https://live.popin.to/8131-a157") == {
        "event": "popin_call_successful",
        "user_id": "315",
        "email": "asha@example.com",
        "country_code": "91",
        "phone_number": "9544500001",
        "full_phone_number": "+919544500001",
        "timestamp": "2026-02-27T16:00:05.250000Z",
        "properties": {
            "customer_name": "Asha Example",
            "call_duration": "185",
            "url": "https://live.popin.to/8131-a157",
            "agent_name": "Sandbox Agent",
            "agent_email": "agent@example.com",
            "product": "",
            "meta": {},
        },
    }


def test_missed_call_as_shown() -> None:
    body = payload(events.MISSED, call_duration="185", remark="of another event")
    assert list(body) == [*NEWER, "properties"]
    assert body["properties"] == {"customer_name": "Asha Example", "url": "", "product": "", "meta": {}}


def test_scheduled_call_as_shown() -> None:
    slot = slot_values(datetime(2026, 2, 27, 21, 30))  # noqa: DTZ001
    body = payload(events.SCHEDULED, url="https://live.popin.to/8131-a157", **slot)
    assert list(body) == [*OLDER, "properties"]
    assert body["properties"] == {
        "customer_name": "Asha Example",
        "scheduled_time": "09:30 PM",
        "scheduled_date": "27-Feb-2026",
        "url": "https://live.popin.to/8131-a157",
        "agent_name": "Sandbox Agent",
    }


@pytest.mark.parametrize(("envelope", "fields"), [("newer", NEWER), ("older", OLDER)])
@pytest.mark.parametrize("event", list(PROPERTIES))
def test_envelopes(event: str, envelope: str, fields: list[str]) -> None:
    assert list(payload(event, Style(envelope=envelope))) == [*fields, "properties"]


def test_every_value_is_text_but_meta() -> None:
    for event in PROPERTIES:
        body = payload(event, Style(envelope="newer"))
        properties = body.pop("properties")
        assert isinstance(properties, dict)
        assert properties.pop("meta", {}) == {}
        assert {type(value) for value in (*body.values(), *properties.values())} == {str}


@pytest.mark.parametrize(
    ("style", "field", "value"),
    [
        (Style(timestamps="epoch"), "timestamp", "1772208005"),
        (Style(plus=True), "country_code", "+91"),
        (Style(plus=True), "full_phone_number", "+919544500001"),
    ],
)
def test_spellings_that_are_not_known(style: Style, field: str, value: str) -> None:
    assert payload(events.MISSED, style)[field] == value


@pytest.mark.parametrize(
    ("event", "more"),
    [
        (events.REMARK_ADDED, ["remark"]),
        (events.RATED, ["rating", "comments"]),
        (events.GUEST_CONNECTED, ["guest_name"]),
    ],
)
def test_further_fields_that_exist(event: str, more: list[str]) -> None:
    properties = payload(event, **dict.fromkeys(more, "text"))["properties"]
    assert isinstance(properties, dict)
    assert {name: properties[name] for name in more} == dict.fromkeys(more, "text")


def test_midnight_noon_and_one_digit_days() -> None:
    assert slot_values(datetime(2026, 3, 1, 0, 0)) == {  # noqa: DTZ001
        "scheduled_time": "12:00 AM",
        "scheduled_date": "01-Mar-2026",
    }
    assert slot_values(datetime(2026, 12, 9, 12, 5))["scheduled_time"] == "12:05 PM"  # noqa: DTZ001


@pytest.mark.parametrize("end", OUTGOING_ENDS)
def test_outgoing_call_as_shown(end: str) -> None:
    body = outgoing_payload(
        OUTGOING + end,
        PERSON,
        session_id="bf0b3a76-0596-4602-a2c3-43e0db01b991",
        call_id=28844,
        occurred=OCCURRED,
        participant=None,
    )
    participant = body.pop("participant", None)
    assert participant == ("user" if end == "network_failure" else None)
    meta = body.pop("meta")
    assert isinstance(meta, dict)
    assert list(meta["product"]) == ["name", "id", "url"]
    assert body == {
        "event": f"popin_outgoing_call_{end}",
        "session_id": "bf0b3a76-0596-4602-a2c3-43e0db01b991",
        "user_id": 315,
        "call_id": 28844,
        "schedule_id": None,
        "agent": {"name": "Sandbox Agent", "email": "agent@example.com"},
        "user": {
            "name": "Asha Example",
            "email": "asha@example.com",
            "phone_number": "9544500001",
            "country_code": "+91",
        },
        "timestamp": 1772208005,
    }


def test_every_event_of_the_guide_is_known() -> None:
    assert len(set(EVENTS)) == 11 + 9
    assert all(event.startswith("popin_") for event in EVENTS)


def test_a_person_is_not_shown() -> None:
    assert "Asha" not in repr(PERSON)
    assert "9544" not in repr(PERSON)
    assert json.dumps(payload(events.CAPTURED))
