"""Every fault, as a client sees it and as the oracle tells it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_popin.sandbox import runner
from airflow_provider_popin.sandbox.fault_kinds import ALIASES, KINDS, Stage
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.transport import Connections, protocol_for
from tests.sandbox.talk import (
    FRIDAY,
    SETTINGS,
    Answer,
    call,
    capture,
    headers,
    lead,
    new_customer,
    schedule,
    slots,
    times,
)

RESET = "reset"
CUT = "cut"
TEN = f"{FRIDAY} 10:00 AM"
QUICK_VALUES = {"slow_before_commit": "0.02", "slow_after_commit": "0.02", "slow_body": "0.02", "outage": "0"}
TWO_SIDED = sorted(name.removesuffix("_after_commit") for name in KINDS if name.endswith("_after_commit"))
# What the client gets: HTTP status, or how the connection ended.
OUTCOMES: dict[str, int | str] = {
    "refuse": RESET,
    "outage": RESET,
    "reset": RESET,
    "cut_body": CUT,
    "redirect": 302,
    "502_html": 502,
    "422_html": 422,
    "422_no_field": 422,
    "echo": 422,
    **{name: int(name) for name in KINDS if name.isdigit()},
    **{name: int(name) for name in TWO_SIDED if name.isdigit()},
}


@dataclass(frozen=True, slots=True)
class Case:
    endpoint: str
    name: str

    @property
    def spec(self) -> str:
        value = QUICK_VALUES.get(self.name)
        return f"{self.endpoint}:{self.name}" + (f"({value})" if value else "")

    @property
    def outcome(self) -> int | str:
        base = self.name.removesuffix("_before_commit").removesuffix("_after_commit")
        return OUTCOMES.get(base, 200)

    @property
    def commits(self) -> bool:
        return self.endpoint != "slots" and KINDS[self.name].stage not in (Stage.CONNECTION, Stage.INSTEAD)


CASES = [Case(endpoint, name) for name, kind in KINDS.items() for endpoint in kind.endpoints]


def outcome(server: SandboxServer, endpoint: str, customer_id: str) -> int | str:
    try:
        if endpoint == "slots":
            return slots(server).status
        if endpoint == "capture":
            return capture(server, 2).status
        return schedule(server, customer_id, TEN).status
    except ConnectionResetError:
        return RESET
    except http.client.IncompleteRead:
        return CUT


@pytest.fixture(params=["uvloop", "asyncio", "h11"])
def any_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxServer]:
    """A server on each of the event loops and protocols that it may find installed."""
    if request.param == "asyncio":
        monkeypatch.setattr(runner, "LOOP_FACTORY", None)
    if request.param == "h11":

        def h11(registry: Connections) -> type:
            return protocol_for(registry, H11Protocol)

        monkeypatch.setattr(runner, "protocol_for", h11)
    with SandboxServer(SETTINGS) as server:
        yield server


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.endpoint}-{case.name}")
def test_every_fault_on_every_endpoint(popin: SandboxServer, case: Case) -> None:
    check(popin, case)


@pytest.mark.parametrize(
    "name", ["refuse", "reset_before_commit", "reset_after_commit", "cut_body", "slow_body"]
)
def test_connections_end_the_same_on_every_loop(any_loop: SandboxServer, name: str) -> None:
    check(any_loop, Case("schedule", name))
    check(any_loop, Case("capture", name))


def check(popin: SandboxServer, case: Case) -> None:
    """The second request is struck, and only it; the oracle says what it was and whether it was committed."""
    popin.reset()
    customer_id = new_customer(popin, 1)
    before = [popin.stats()["committed"][each] for each in ("capture", "schedule")]
    popin.set_faults(f"{case.spec}@1")
    assert outcome(popin, case.endpoint, customer_id) == case.outcome
    popin.wait_idle()
    row = popin.requests(endpoint=case.endpoint)[-1]
    assert row["faults"] == [case.name]
    assert row["committed"] is case.commits
    assert row["status"] == (None if case.outcome == RESET else 200 if case.outcome == CUT else case.outcome)
    after = [popin.stats()["committed"][each] for each in ("capture", "schedule")]
    assert sum(after) - sum(before) == int(case.commits)
    assert len(popin.bookings()) == int(case.commits and case.endpoint == "schedule")
    if KINDS[case.name].stage is not Stage.CONNECTION:
        assert row["lead"] == {"capture": "lead-2", "schedule": "lead-1", "slots": None}[case.endpoint]
    popin.wait_listening()
    expected = 422 if case.endpoint == "schedule" and case.commits else 200
    assert outcome(popin, case.endpoint, customer_id) == expected
    assert popin.stats()["faults"][case.endpoint] == {case.name: 1}


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_a_bare_name_means_one_side(popin: SandboxServer, alias: str) -> None:
    value = "(0)" if alias == "slow" else ""
    popin.set_faults(f"capture:{alias}{value}")
    if alias == "reset":
        with pytest.raises(ConnectionResetError):
            capture(popin)
    else:
        capture(popin)
    popin.wait_idle()
    assert popin.requests()[-1]["faults"] == [ALIASES[alias]]


@pytest.mark.parametrize("value", ["2", "none", "date:90", "date:-5", "soon", ""])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(popin: SandboxServer, status: int, value: str) -> None:
    popin.set_faults(f"slots:{status}({value})")
    answer = slots(popin)
    assert answer.status == status
    told = answer.headers.get("retry-after")
    if value.startswith("date:"):
        assert told is not None
        ahead = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
        assert float(value[5:]) - 3 < ahead <= float(value[5:])
    else:
        assert told == (None if value == "none" else value)


def test_errors_maps_name_a_field(popin: SandboxServer) -> None:
    for spec, field in (("422(time)", "time"), ("409", "agent"), ("400(mobile)", "mobile")):
        popin.set_faults(f"capture:{spec}")
        errors = capture(popin).json()["errors"]
        assert isinstance(errors, dict)
        assert list(errors) == [field]


@pytest.mark.parametrize("endpoint", ["capture", "schedule"])
def test_echo_repeats_the_person(popin: SandboxServer, endpoint: str) -> None:
    customer_id = new_customer(popin, 1)
    for value in ("200", "422", "500"):
        popin.set_faults(f"{endpoint}:echo({value})")
        answer = capture(popin, 1) if endpoint == "capture" else schedule(popin, customer_id, TEN)
        assert answer.status == int(value)
        for told in ("Asha Example1", "9544500001", "+919544500001", "asha1@example.com"):
            assert told in answer.body.decode()
    assert popin.bookings() == []


def test_echo_of_an_unknown_customer_says_nothing(popin: SandboxServer) -> None:
    popin.set_faults("schedule:echo")
    assert schedule(popin, "unknown==", TEN).json()["errors"] == {}


@pytest.mark.parametrize("wrong", [("status_true", True), ("status_text", "1")])
def test_wrong_status_type_in_a_real_success(popin: SandboxServer, wrong: tuple[str, object]) -> None:
    customer_id = new_customer(popin)
    popin.set_faults(f"schedule:{wrong[0]}")
    reply = schedule(popin, customer_id, TEN).json()
    assert reply["status"] is wrong[1] or reply["status"] == wrong[1]
    assert type(reply["status"]) is type(wrong[1])
    assert reply["data"] == "+919544500001"
    assert len(popin.bookings()) == 1


def test_changes_leave_a_refusal_alone(popin: SandboxServer) -> None:
    popin.set_faults("schedule:wrong_time")
    assert schedule(popin, "unknown==", TEN).status == 422
    popin.reset(refusal="status0", faults=["schedule:missing_parts"])
    assert schedule(popin, new_customer(popin), "never").json()["message"]


def test_wrong_time(popin: SandboxServer) -> None:
    customer_id = new_customer(popin)
    for value, told in (("", "Fri, Sep 26 | 10:30 AM"), ("(-1440)", "Thu, Sep 25 | 10:15 AM")):
        popin.set_faults(f"schedule:wrong_time{value}")
        clock = "10:00 AM" if not value else "10:15 AM"
        reply = schedule(popin, customer_id, f"{FRIDAY} {clock}").json()
        assert reply["schedule"] == {
            "data": {"name": "Asha Example1", "time": told, "timezone": "Asia/Kolkata"}
        }
    assert [booking["time"] for booking in popin.bookings()] == [f"{FRIDAY} 10:00 AM", f"{FRIDAY} 10:15 AM"]


def test_missing_parts(popin: SandboxServer) -> None:
    popin.set_faults("*:missing_parts")
    assert capture(popin).json() == {"status": 1}
    assert slots(popin).json() == {}
    popin.set_faults("capture:missing_parts(url+nothing.here)", "schedule:missing_parts(schedule.data.time)")
    reply = capture(popin).json()
    assert set(reply) == {"status", "customer_id", "message"}
    scheduled = schedule(popin, str(reply["customer_id"]), TEN).json()
    assert scheduled["schedule"] == {"data": {"name": "Asha Example1", "timezone": "Asia/Kolkata"}}


def test_malformed_slots(popin: SandboxServer) -> None:
    good = times(slots(popin))
    popin.set_faults("slots:malformed_slots")
    days = slots(popin).json()["availability"]
    assert isinstance(days, list)
    assert "31 Feb" in days[1]["date"]
    clocks = days[0]["slots"]
    assert clocks[0] == "12:15 PM"
    assert clocks[-1] == "09:45 PM"
    assert "25:99 PM" in clocks[1:-1]
    mixed = times(slots(popin))
    assert set(good) < set(mixed)
    popin.set_faults("slots:malformed_slots(all)")
    assert not set(good) & set(times(slots(popin)))


def test_empty_availability(popin: SandboxServer) -> None:
    popin.set_faults("slots:empty_availability@1")
    assert slots(popin).json() == {"availability": [], "slotDiff": 15, "timezone": "Asia/Kolkata"}
    assert times(slots(popin))


def test_timezone_changes_for_good(popin: SandboxServer) -> None:
    customer_id = new_customer(popin)
    assert schedule(popin, customer_id, TEN).status == 200
    popin.set_faults("slots:timezone_change(Asia/Dubai)@2")
    zones = [slots(popin).json()["timezone"] for _ in range(3)]
    assert zones == ["Asia/Kolkata", "Asia/Dubai", "Asia/Dubai"]
    assert schedule(popin, customer_id, TEN).status == 200
    # 10:00 in Dubai is 11:30 in Kolkata: another instant, so both calls stand.
    starts = [booking["start"] for booking in popin.bookings()]
    assert starts == ["2025-09-26T04:30:00+00:00", "2025-09-26T06:00:00+00:00"]
    popin.reset()
    assert slots(popin).json()["timezone"] == "Asia/Kolkata"


def test_html_redirect_and_broken_json(popin: SandboxServer) -> None:
    popin.set_faults(
        "slots:html@1", "slots:redirect(http://127.0.0.1:1/login)@2", "slots:not_json@3", "slots:empty_body@4"
    )
    html, redirect, broken, empty = (slots(popin) for _ in range(4))
    assert html.headers["content-type"] == "text/html; charset=UTF-8"
    assert redirect.headers["location"] == "http://127.0.0.1:1/login"
    assert broken.headers["content-type"] == "application/json"
    with pytest.raises(json.JSONDecodeError):
        broken.json()
    assert empty.body == b""


def test_delays(popin: SandboxServer) -> None:
    popin.set_faults("slots:slow(0.1)", "slots:slow_after_commit(0.1)", "slots:slow_body(0.1)")
    began = time.monotonic()
    assert times(slots(popin))
    assert time.monotonic() - began >= 0.3
    assert popin.requests()[-1]["faults"] == ["slow_before_commit", "slow_after_commit", "slow_body"]


def test_a_bad_body_is_refused_under_faults_too(popin: SandboxServer) -> None:
    popin.set_faults("capture:500_after_commit")
    assert call(popin, "POST", "/api/v1/external/capture", b"{").status == 400


def test_wrong_headers_do_not_use_up_a_fault(popin: SandboxServer) -> None:
    popin.set_faults("capture:500@1")
    wrong = call(popin, "POST", "/api/v1/external/capture", lead(), with_headers=headers(X_TOKEN="52"))
    assert (wrong.status, capture(popin).status) == (401, 500)


def test_faults_at_start(popin: SandboxServer) -> None:
    popin.reset(faults=["capture:500_before_commit@2"])
    answers: list[Answer] = [capture(popin, n) for n in range(3)]
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert len(popin.customers()) == 2
