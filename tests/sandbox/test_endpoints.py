"""The three endpoints without faults: what Popin documents, and what the sandbox infers."""

from __future__ import annotations

import base64
import re

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from tests.sandbox.talk import (
    FRIDAY,
    call,
    capture,
    headers,
    lead,
    new_customer,
    schedule,
    slots,
    times,
)

CAPTURE, SLOTS, SCHEDULE = (f"/api/v1/external/{name}" for name in ("capture", "slots", "schedule"))
METHODS = {CAPTURE: "POST", SLOTS: "GET", SCHEDULE: "POST"}
INVALID = "Validation failed"


def test_capture_as_documented(popin: SandboxServer) -> None:
    answer = capture(popin, group="5211", agent=210, pincode="221007", native=True)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    reply = answer.json()
    assert list(reply) == ["status", "customer_id", "url", "message"]
    assert reply["status"] == 1
    assert reply["message"] == "User captured successfully"
    assert re.fullmatch(r"https://live\.popin\.to/[0-9a-f]{4}-[0-9a-f]{4}", str(reply["url"]))
    assert base64.b64decode(str(reply["customer_id"])).decode().isdigit()


def test_capture_without_native_joins_at_the_dashboard_url(popin: SandboxServer) -> None:
    assert capture(popin, native=False).json()["url"] == popin.settings.dashboard_url


def test_customers_and_links_are_all_different(popin: SandboxServer) -> None:
    replies = [capture(popin, number).json() for number in range(5)]
    assert len({str(reply["customer_id"]) for reply in replies}) == 5
    assert len({str(reply["url"]) for reply in replies}) == 5


def test_same_mobile_is_a_new_customer_unless_switched(popin: SandboxServer) -> None:
    assert new_customer(popin, 1) != new_customer(popin, 1)
    popin.reset(same_mobile_same_customer=True)
    first = new_customer(popin, 1)
    assert new_customer(popin, 1, name="Another Example") == first
    assert new_customer(popin, 1, country="44") != first
    assert len(popin.customers()) == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": None}, "name"),
        ({"name": " "}, "name"),
        ({"name": 7}, "name"),
        ({"mobile": ""}, "mobile"),
        ({"mobile": 9544510895}, "mobile"),
        ({"mobile": "+919544510895"}, "mobile"),
        ({"mobile": "95445 10895"}, "mobile"),
        ({"email": "nobody"}, "email"),
        ({"country": "+91"}, "country"),
        ({"country": 91}, "country"),
        ({"group": 5211}, "group"),
        ({"pincode": 221007}, "pincode"),
        ({"pin_code": 221007}, "pin_code"),
        ({"agent": "210"}, "agent"),
        ({"agent": True}, "agent"),
        ({"native": 0}, "native"),
        ({"campaign": ["utm"]}, "campaign"),
    ],
)
def test_capture_refuses_by_field(popin: SandboxServer, changes: dict[str, object], field: str) -> None:
    answer = call(popin, "POST", CAPTURE, {**lead(), **changes})
    assert answer.status == 422
    assert answer.json()["message"] == INVALID
    errors = answer.json()["errors"]
    assert isinstance(errors, dict)
    assert list(errors) == [field]
    assert popin.customers() == []


def test_both_postal_spellings_are_accepted(popin: SandboxServer) -> None:
    assert capture(popin, pincode="221007").status == 200
    assert capture(popin, pin_code="221007").status == 200
    assert [row["fields"].get("pin_code") for row in popin.customers()] == [None, "221007"]


def test_slots_as_documented(popin: SandboxServer) -> None:
    reply = slots(popin).json()
    assert list(reply) == ["availability", "slotDiff", "timezone"]
    assert reply["slotDiff"] == 15
    assert reply["timezone"] == "Asia/Kolkata"
    days = reply["availability"]
    assert isinstance(days, list)
    assert [day["date"] for day in days] == ["Wed, 24 Sep 2025", "Thu, 25 Sep 2025", FRIDAY]
    # It is noon: the slot that starts now is past, as are those before it.
    assert days[0]["slots"][0] == "12:15 PM"
    assert days[1]["slots"][0] == "10:00 AM"
    assert days[1]["slots"][-1] == "09:45 PM"
    assert len(days[1]["slots"]) == 48


def test_no_slots_at_all(popin: SandboxServer) -> None:
    popin.reset(days=0)
    assert slots(popin).json()["availability"] == []


def test_absolute_slots(popin: SandboxServer) -> None:
    listed = ["Wed, 24 Sep 2025 09:00 AM", "Mon, 29 Dec 2025 11:10 PM"]
    popin.reset(slots=listed)
    assert times(slots(popin)) == listed[1:]
    assert schedule(popin, new_customer(popin), listed[1]).status == 200
    assert times(slots(popin)) == []


def test_schedule_as_documented(popin: SandboxServer) -> None:
    answer = schedule(popin, new_customer(popin), f"{FRIDAY} 07:30 PM", agent=210)
    assert answer.status == 200
    assert answer.json() == {
        "status": 1,
        "schedule": {
            "data": {"name": "Asha Example1", "time": "Fri, Sep 26 | 07:30 PM", "timezone": "Asia/Kolkata"}
        },
        "data": "+919544500001",
    }
    (booking,) = popin.bookings()
    assert booking["lead"] == "lead-1"
    assert booking["time"] == f"{FRIDAY} 07:30 PM"
    assert booking["start"] == "2025-09-26T14:00:00+00:00"
    assert booking["timezone"] == "Asia/Kolkata"
    assert booking["agent"] == 210


def test_country_defaults_to_91(popin: SandboxServer) -> None:
    customer = new_customer(popin, country=None)
    assert schedule(popin, customer, f"{FRIDAY} 10:00 AM").json()["data"] == "+919544500001"
    customer = new_customer(popin, country="44", mobile="7700900123")
    assert schedule(popin, customer, f"{FRIDAY} 10:15 AM").json()["data"] == "+447700900123"


def test_join_link_table(popin: SandboxServer) -> None:
    reply = capture(popin).json()
    own = "https://example.com/product-detail/ring"
    asked: list[dict[str, object]] = [
        {},
        {"native": True, "url": own},
        {"native": False, "url": own},
        {"native": False},
    ]
    for minute, more in zip((0, 15, 30, 45), asked, strict=True):
        answer = schedule(popin, str(reply["customer_id"]), f"{FRIDAY} 10:{minute:02d} AM", **more)
        assert answer.status == 200
    links = [booking["join_url"] for booking in popin.bookings()]
    assert links == [reply["url"], reply["url"], own, popin.settings.dashboard_url]


def test_booking_takes_a_seat_and_a_full_slot_disappears(popin: SandboxServer) -> None:
    popin.reset(seats_per_slot=2)
    before, time = times(slots(popin)), f"{FRIDAY} 10:00 AM"
    assert schedule(popin, new_customer(popin, 1), time).status == 200
    assert times(slots(popin)) == before
    assert schedule(popin, new_customer(popin, 2), time).status == 200
    assert times(slots(popin)) == [other for other in before if other != time]
    refused = schedule(popin, new_customer(popin, 3), time)
    assert refused.status == 422
    assert popin.stats()["bookings_per_slot_max"] == 2
    assert popin.stats()["free_seats"] == 2 * len(before) - 2


@pytest.mark.parametrize(
    ("time", "why"),
    [
        (f"{FRIDAY} 10:00 AM", "already booked"),
        ("Wed, 24 Sep 2025 12:00 PM", "past"),
        ("Wed, 24 Sep 2025 10:00 AM", "past"),
        ("Tue, 23 Sep 2025 10:00 AM", "past"),
        ("Thu, 26 Sep 2025 10:00 AM", "weekday"),
        (f"{FRIDAY} 10:07 AM", "not an available"),
        (f"{FRIDAY} 10:00 PM", "not an available"),
        ("Mon, 24 Sep 2035 10:00 AM", "not an available"),
        ("26-09-2025 10:00 AM", "format"),
    ],
)
def test_times_are_refused_in_both_styles(popin: SandboxServer, time: str, why: str) -> None:
    for style in ("422", "status0"):
        popin.reset(refusal=style)
        customer = new_customer(popin)
        assert schedule(popin, customer, f"{FRIDAY} 10:00 AM").status == 200
        answer = schedule(popin, customer, time)
        reply = answer.json()
        if style == "422":
            assert answer.status == 422
            assert reply["message"] == INVALID
            errors = reply["errors"]
            assert isinstance(errors, dict)
            assert list(errors) == ["time"]
            assert why in errors["time"][0]
        else:
            assert answer.status == 200
            assert reply["status"] == 0
            assert why in str(reply["message"])
        assert len(popin.bookings()) == 1


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"customer_id": "unknown=="}, ["customer_id"]),
        ({"customer_id": 1001}, ["customer_id"]),
        ({"customer_id": None, "time": None}, ["customer_id", "time"]),
        ({"time": 7}, ["time"]),
        ({"agent": "210"}, ["agent"]),
        ({"native": "yes"}, ["native"]),
        ({"url": "ring"}, ["url"]),
    ],
)
def test_schedule_refuses_by_field(
    popin: SandboxServer, changes: dict[str, object], fields: list[str]
) -> None:
    body = {"customer_id": new_customer(popin), "time": f"{FRIDAY} 10:00 AM", **changes}
    answer = call(popin, "POST", SCHEDULE, body)
    assert answer.status == 422
    errors = answer.json()["errors"]
    assert isinstance(errors, dict)
    assert list(errors) == fields
    assert popin.bookings() == []


@pytest.mark.parametrize("path", [CAPTURE, SLOTS, SCHEDULE])
def test_wrong_headers(popin: SandboxServer, path: str) -> None:
    method = METHODS[path]
    body = None if method == "GET" else lead()
    for wrong in ({"X_API_KEY": "no"}, {"X_API_KEY": None}, {"X_TOKEN": "52"}, {"X_TOKEN": None}):
        answer = call(popin, method, path, body, with_headers=headers(**wrong))
        assert (answer.status, answer.json()) == (401, {"message": "Unauthenticated."})
    for accept in (None, "*/*", "text/html"):
        answer = call(popin, method, path, body, with_headers=headers(Accept=accept))
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert b"<html>" in answer.body
    assert popin.stats()["refused_headers"] == 7
    assert popin.customers() == []


@pytest.mark.parametrize("path", [CAPTURE, SLOTS, SCHEDULE])
def test_wrong_method(popin: SandboxServer, path: str) -> None:
    for method in {"GET", "POST", "PUT", "DELETE"} - {METHODS[path]}:
        answer = call(popin, method, path)
        assert answer.status == 405
        assert answer.headers["allow"] == METHODS[path]
        assert "not supported" in str(answer.json()["message"])


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_unknown_content_type(popin: SandboxServer, content_type: str | None) -> None:
    answer = call(popin, "POST", CAPTURE, lead(), with_headers=headers(Content_Type=content_type))
    assert answer.status == 415


def test_content_type_may_have_a_charset(popin: SandboxServer) -> None:
    right = headers(Content_Type="Application/JSON; charset=utf-8")
    assert call(popin, "POST", CAPTURE, lead(), with_headers=right).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 200_000, 400),
        (b'{"name":NaN}', 400),
        (b'{"name":"\\ud800","mobile":"9544510895"}', 400),
        (b"[]", 422),
        (b"", 400),
        (b'{"name":"' + b"x" * 1_100_000 + b'"}', 413),
        (b'{"name":"' + b"x" * 3_000_000 + b'"}', 413),
    ],
    ids=["open", "not-utf8", "deep", "nan", "half-pair", "list", "empty", "large", "huge"],
)
def test_bodies_that_must_not_be(popin: SandboxServer, body: bytes, status: int) -> None:
    assert call(popin, "POST", CAPTURE, body).status == status
    assert popin.customers() == []


def test_whole_surrogate_pairs_are_text(popin: SandboxServer) -> None:
    assert call(popin, "POST", CAPTURE, b'{"name":"\\uD83D\\ude00","mobile":"9544510895"}').status == 200
    assert [row["fields"]["name"] for row in popin.customers()] == ["\N{GRINNING FACE}"]


def test_get_with_body(popin: SandboxServer) -> None:
    assert call(popin, "GET", SLOTS, b"{}").status == 400


@pytest.mark.parametrize("path", ["/api/v1/external/slots/", "/api/v1/slots", "/", "/external/capture"])
def test_other_paths(popin: SandboxServer, path: str) -> None:
    answer = call(popin, "GET", path)
    assert answer.status == 404
    assert "message" in answer.json()
    assert popin.stats()["other_paths"] == 1


def test_a_new_day_moves_the_calendar(popin: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1_758_700_000.0  # 24 September 2025, 13:16:40 in Kolkata
    monkeypatch.setattr("airflow_provider_popin.sandbox.seats.time.time", lambda: clock)
    popin.reset(now=None, days=1, opens="00:00", closes="00:00", slot_minutes=60)
    assert times(slots(popin))[0] == "Wed, 24 Sep 2025 02:00 PM"
    clock += 86_400
    assert times(slots(popin))[0] == "Thu, 25 Sep 2025 02:00 PM"
