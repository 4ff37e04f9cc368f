"""Requests as Popin documents them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_popin.client import protocol
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.exchange import Endpoint, Reply, Request
from airflow_provider_popin.client.leads import make_lead
from tests.client.support import SLOT_TIME, a_config


def fields_of(request: Request) -> Any:
    assert request.body is not None
    assert request.body.isascii()
    return json.loads(request.body)


def test_capture_with_everything() -> None:
    lead = make_lead(
        name="आशा Example",
        mobile="9876543210",
        country="+91",
        email="asha@example.com",
        group=5211,
        agent=210,
        pincode="560001",
        native=False,
        campaign={"utm_source": "google"},
    )
    request = protocol.build_capture(lead)
    assert (request.endpoint, request.method, request.path) == (Endpoint.CAPTURE, "POST", "/external/capture")
    assert fields_of(request) == {
        "name": "आशा Example",
        "mobile": "9876543210",
        "country": "91",
        "email": "asha@example.com",
        "group": "5211",
        "agent": 210,
        "pincode": "560001",
        "native": False,
        "campaign": {"utm_source": "google"},
    }
    assert "9876543210" not in repr(request)
    renamed = fields_of(protocol.build_capture(lead, postal_code_field="pin_code"))
    assert renamed["pin_code"] == "560001"
    assert "pincode" not in renamed
    with pytest.raises(PopinInputError):
        protocol.build_capture(lead, postal_code_field="zip")


def test_capture_with_nothing_optional_still_names_the_country() -> None:
    request = protocol.build_capture(make_lead(name="Asha", mobile="+919876543210"))
    assert fields_of(request) == {"name": "Asha", "mobile": "9876543210", "country": "91"}


def test_slots() -> None:
    assert protocol.build_slots() == Request(Endpoint.SLOTS, "GET", "/external/slots", None)


def test_schedule() -> None:
    request = protocol.build_schedule(
        "MzE1==", SLOT_TIME, agent=210, native=False, url="https://example.com/ring"
    )
    assert (request.endpoint, request.method, request.path) == (
        Endpoint.SCHEDULE,
        "POST",
        "/external/schedule",
    )
    assert fields_of(request) == {
        "customer_id": "MzE1==",
        "time": SLOT_TIME,
        "agent": 210,
        "native": False,
        "url": "https://example.com/ring",
    }
    assert fields_of(protocol.build_schedule("MzE1", SLOT_TIME)) == {"customer_id": "MzE1", "time": SLOT_TIME}


@pytest.mark.parametrize(
    ("argument", "value", "code"),
    [
        ("customer_id", "", "customer_id_invalid"),
        ("customer_id", None, "customer_id_invalid"),
        ("customer_id", 315, "customer_id_invalid"),
        ("customer_id", "a\0", "customer_id_invalid"),
        ("customer_id", "\ud800", "customer_id_invalid"),
        ("customer_id", "x" * 256, "customer_id_invalid"),
        ("time", "2025-09-25T15:15:00+05:30", "time_malformed"),
        ("time", None, "time_malformed"),
        ("agent", "210", "agent_invalid"),
        ("agent", True, "agent_invalid"),
        ("agent", 0, "agent_invalid"),
        ("agent", -1, "agent_invalid"),
        ("agent", 10**30, "agent_invalid"),
        ("native", 0, "native_invalid"),
        ("native", "false", "native_invalid"),
        ("url", "example.com", "url_invalid"),
        ("url", "javascript:alert(1)", "url_invalid"),
        ("url", 5, "url_invalid"),
        ("url", "https://example.com/\ud800", "url_invalid"),
    ],
)
def test_unusable_schedule_arguments(argument: str, value: object, code: str) -> None:
    arguments: dict[str, Any] = {"customer_id": "MzE1", "time": SLOT_TIME, argument: value}
    with pytest.raises(PopinInputError) as caught:
        protocol.build_schedule(**arguments)
    assert (caught.value.code, caught.value.field) == (code, argument)


def test_free_requests() -> None:
    assert protocol.build_free("post", "/export?day=1", {"a": [1]}) == Request(
        None, "POST", "/export?day=1", b'{"a": [1]}'
    )
    assert protocol.build_free("GET", "/x").body is None
    assert protocol.build_free("POST", "/x", []).body == b"[]"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("G ET", "/x", None),
        ("", "/x", None),
        (None, "/x", None),
        ("GET", "x", None),
        ("GET", "", None),
        ("GET", "@evil.example/x", None),
        ("GET", "/x y", None),
        ("GET", "/x\r\nX-Evil: 1", None),
        ("GET", "/ü", None),
        ("POST", "/x", {1, 2}),
        ("POST", "/x", float("nan")),
    ],
)
def test_unusable_free_requests(method: str, path: str, body: object) -> None:
    with pytest.raises(PopinInputError) as caught:
        protocol.build_free(method, path, body)
    assert caught.value.__cause__ is None


def test_a_body_too_deep_for_json() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(PopinInputError, match="json_invalid"):
        protocol.build_free("POST", "/x", deep)


def test_urls() -> None:
    request = protocol.build_slots()
    assert (
        protocol.url(a_config("https://popin.example"), request)
        == "https://popin.example/api/v1/external/slots"
    )
    assert protocol.url(a_config("https://popin.example/api/v1/"), request).count("/api/v1") == 1
    assert (
        protocol.url(a_config("http://127.0.0.1:1/pre"), request)
        == "http://127.0.0.1:1/pre/api/v1/external/slots"
    )
    evil = protocol.build_free("GET", "//evil.example/@x")
    assert protocol.url(a_config("https://popin.example"), evil).startswith("https://popin.example/api/v1//")


def test_headers() -> None:
    headers = protocol.headers(a_config("https://popin.example"))
    assert headers["X-API-KEY"] == "key-of-tests"
    assert headers["X-TOKEN"] == "tok"
    assert headers["Accept"] == "application/json"


def test_nothing_personal_in_reprs() -> None:
    assert "secret" not in repr(Reply(200, {"x": "secret"}, b"secret"))
