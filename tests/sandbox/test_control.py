"""`/_sandbox/*`: settings, faults, resets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from airflow_provider_popin.sandbox.app import SandboxApp
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.transport import Connections
from tests.sandbox.talk import call, capture, control, slots


def test_overview_hides_the_key_and_explains_the_faults(popin: SandboxServer) -> None:
    popin.set_faults("capture:500@1")
    answer = control(popin, "GET", "")
    reply = answer.json()
    assert reply["faults"] == ["capture:500@1"]
    settings, known = reply["settings"], reply["known_faults"]
    assert isinstance(settings, dict)
    assert isinstance(known, dict)
    assert settings["now"] == "2025-09-24T06:30:00+00:00"
    assert settings["opens"] == "10:00:00"
    assert "api_key" not in settings
    assert "RST" in known["reset_after_commit"]


def test_faults_over_http(popin: SandboxServer) -> None:
    specs = ["capture:500@1", "slots:429(7)@2"]
    assert control(popin, "POST", "/faults", {"faults": specs, "seed": 3}).json() == {"faults": specs}
    assert control(popin, "GET", "/faults").json() == {"faults": specs}
    assert [capture(popin).status, slots(popin).status, slots(popin).status] == [500, 200, 429]
    assert control(popin, "POST", "/faults", {}).json() == {"faults": []}
    assert slots(popin).status == 200


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/faults", {"faults": ["capture:gremlins"]}, "known: "),
        ("/faults", {"faults": "capture:500"}, "a list of text"),
        ("/faults", {"faults": [500]}, "a list of text"),
        ("/faults", {"fault": ["capture:500"]}, "a list of text"),
        ("/faults", {"seed": "x"}, "seed"),
        ("/faults", {"seed": True}, "seed"),
        ("/faults", b"{", "not JSON"),
        ("/faults", b"[" * 100_000, "not JSON"),
        ("/faults", [], "not a JSON object"),
        ("/reset", {"now": "9999-12-31T23:59:59+00:00"}, "now"),
        ("/reset", {"colour": "red"}, "unknown setting"),
        ("/reset", {"host": "0.0.0.0"}, "unknown setting"),
        ("/outage", {"seconds": "1"}, "seconds"),
        ("/outage", {"seconds": True}, "seconds"),
        ("/outage", {"seconds": -1}, "seconds"),
    ],
)
def test_unusable_requests(popin: SandboxServer, path: str, body: object, why: str) -> None:
    popin.set_faults("capture:500@5")
    capture(popin)
    answer = control(popin, "POST", path, body)
    assert answer.status == 400
    assert why in str(answer.json()["message"])
    assert control(popin, "GET", "/faults").json() == {"faults": ["capture:500@5"]}
    assert len(popin.customers()) == 1


@pytest.mark.parametrize("query", ["endpoint=calendar", "limit=x", "limit=-1", f"limit={'9' * 5000}"])
def test_unusable_filters(popin: SandboxServer, query: str) -> None:
    assert control(popin, "GET", f"/requests?{query}").status == 400


def test_reset_returns_to_the_start(popin: SandboxServer) -> None:
    reply = control(popin, "POST", "/reset", {"slot_minutes": 30, "faults": ["capture:500@1"]}).json()
    settings = reply["settings"]
    assert isinstance(settings, dict)
    assert settings["slot_minutes"] == 30
    assert capture(popin).status == 500
    assert slots(popin).json()["slotDiff"] == 30
    assert control(popin, "POST", "/reset").status == 200
    assert slots(popin).json()["slotDiff"] == 15
    assert capture(popin).status == 200
    assert popin.stats()["requests"]["all"] == 2


def test_reset_may_change_the_keys(popin: SandboxServer) -> None:
    popin.reset(api_key="another-key")
    assert slots(popin).status == 401
    popin.reset()
    assert slots(popin).status == 200


def test_wrong_method_and_path(popin: SandboxServer) -> None:
    assert control(popin, "POST", "/stats").status == 405
    assert control(popin, "GET", "/nothing").status == 404
    assert popin.stats()["other_paths"] == 2
    assert call(popin, "GET", "/_sandbox/stats").status == 200


@pytest.mark.parametrize(
    ("client", "status"), [(("192.0.2.7", 5), 403), (None, 403), (("127.0.0.1", 5), 200)]
)
def test_only_this_machine_may_ask(client: tuple[str, int] | None, status: int) -> None:
    app = SandboxApp(settings=SandboxSettings(), connections=Connections(), outage=lambda seconds: None)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/_sandbox/stats",
        "query_string": b"",
        "headers": [],
        "client": client,
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == status
