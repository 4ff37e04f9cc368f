"""The slot trigger on its own event loop, against the local Popin."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_popin.client import retrying
from airflow_provider_popin.hooks import masking as masking_module
from airflow_provider_popin.triggers import popin as trigger_module
from airflow_provider_popin.triggers.popin import PopinSlotAvailabilityTrigger
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.operators.support import output
from tests.triggers.watching import FIRST_SLOT, slot_texts
from tests.waiting import PATIENCE_SECONDS, wait_until

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer

pytestmark = pytest.mark.usefixtures("popin_connection")


def trigger(*, seconds: float = 20, **arguments: Any) -> PopinSlotAvailabilityTrigger:
    deadline = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    given: dict[str, Any] = {"popin_conn_id": "popin_default", "poke_interval": 0.05} | arguments
    return PopinSlotAvailabilityTrigger(deadline=deadline, **given)


async def only_event(waiting: PopinSlotAvailabilityTrigger) -> dict[str, Any]:
    """Run a trigger to its end and return the payload of its one event."""
    (event,) = [event async for event in waiting.run()]
    payload: dict[str, Any] = json.loads(json.dumps(event.payload))
    return payload


async def test_it_reports_slots_in_one_event(sandbox: SandboxServer) -> None:
    sandbox.set_faults("slots:empty_availability@1-2")
    # Of today's slots at these hours, some may be past.
    tomorrow = datetime.now(ZoneInfo("Asia/Kolkata")).replace(hour=0, minute=0) + timedelta(days=1)

    event = await only_event(
        trigger(max_slots=2, hours=["11:00:00", "12:00:00"], earliest=tomorrow.isoformat())
    )

    assert event["status"] == "success"
    assert [slot["time"][-8:] for slot in event["slots"]] == ["11:00 AM", "11:15 AM"]
    assert {row["method"] for row in sandbox.requests()} == {"GET"}
    assert len(sandbox.requests()) == 3


async def test_only_the_asked_weekdays_count(sandbox: SandboxServer) -> None:
    times = slot_texts(*(day * 24 * 60 for day in range(7)))
    sandbox.reset(slots=times)

    event = await only_event(trigger(weekdays=[(FIRST_SLOT + timedelta(days=4)).weekday()]))

    assert [slot["time"] for slot in event["slots"]] == [times[4]]


async def test_slots_that_cannot_be_read_are_left_out_and_told(
    sandbox: SandboxServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.reset(slots=slot_texts(0, 15))
    sandbox.set_faults("slots:malformed_slots(some)")

    event = await only_event(trigger())

    assert [slot["time"] for slot in event["slots"]] == list(slot_texts(0, 15))
    assert "slots in Popin's answer were left out" in output(capfd, caplog)


async def test_a_sensor_that_pokes_without_a_pause_leaves_the_triggerer_to_others(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(trigger_module, "asyncio", SimpleNamespace(timeout=asyncio.timeout, sleep=sleep))
    sandbox.set_faults("slots:empty_availability@1")

    assert (await only_event(trigger(poke_interval=0.0)))["status"] == "success"
    assert pauses == [0.05]


async def test_a_deadline_does_not_strike_while_the_event_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(_: object) -> dict[str, object]:
        return {"status": "success"}

    monkeypatch.setattr(PopinSlotAvailabilityTrigger, "_wait", found)
    async for event in trigger(seconds=0).run():
        # A triggerer writes its log here. A deadline that has passed would strike at the first of these.
        for _ in range(3):
            await asyncio.sleep(0)
        assert event.payload == {"status": "success"}


def test_a_restarted_triggerer_makes_the_same_trigger_of_it() -> None:
    made = trigger(
        min_slots=2,
        max_slots=3,
        earliest="2030-01-01T00:00:00+00:00",
        latest="2031-01-01T00:00:00+00:00",
        hours=["10:00:00", "18:00:00"],
        weekdays=[0, 4],
        timezone="Asia/Kolkata",
        max_failures=7,
    )
    path, kwargs = made.serialize()

    assert path == f"{PopinSlotAvailabilityTrigger.__module__}.{PopinSlotAvailabilityTrigger.__qualname__}"
    again = PopinSlotAvailabilityTrigger(**json.loads(json.dumps(kwargs)))
    assert again.serialize() == made.serialize()
    assert API_KEY not in json.dumps(kwargs)
    assert SELLER_TOKEN not in json.dumps(kwargs)


def test_the_least_arguments_are_json_too() -> None:
    _, kwargs = trigger().serialize()

    assert json.loads(json.dumps(kwargs)) == kwargs


@pytest.mark.parametrize("fault", ["slots:empty_availability", "slots:slow(120)", "slots:503"])
async def test_the_deadline_holds_whatever_hangs(sandbox: SandboxServer, fault: str) -> None:
    sandbox.set_faults(fault)
    began = time.monotonic()

    assert await only_event(trigger(seconds=0.4)) == {"status": "timeout"}
    assert time.monotonic() - began < 60


async def test_a_deadline_that_has_passed_ends_it_before_any_request(sandbox: SandboxServer) -> None:
    assert await only_event(trigger(seconds=-5)) == {"status": "timeout"}
    assert sandbox.requests() == []


async def test_it_gives_up_after_so_many_failures_in_a_row_and_a_good_look_starts_anew(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "backoff_seconds", lambda *_: 0.0)
    # One look is five tries of the client. Looks: fail, fail, empty, fail, fail, fail.
    sandbox.set_faults("slots:500@1-10,12-26", "slots:empty_availability")

    event = await only_event(trigger(max_failures=3))

    assert event["status"] == "error"
    assert event["retry"] is True
    assert "connection 'popin_default'" in event["reason"]
    assert "HTTP 500" in event["reason"]
    assert len(sandbox.requests()) == 26


@pytest.mark.parametrize(("status", "said"), [(401, "login (seller token)"), (403, "login"), (404, "host")])
async def test_a_refusal_ends_it_at_once(sandbox: SandboxServer, status: int, said: str) -> None:
    sandbox.set_faults(f"slots:{status}")

    event = await only_event(trigger())

    assert (event["status"], event["retry"]) == ("error", False)
    assert said in event["reason"]
    assert len(sandbox.requests()) == 1


async def test_a_key_that_was_changed_meanwhile_counts(
    sandbox: SandboxServer, connect_popin: Callable[..., None]
) -> None:
    sandbox.set_faults("slots:empty_availability")
    waiting = asyncio.create_task(only_event(trigger(seconds=PATIENCE_SECONDS, max_slots=1)))
    await asyncio.to_thread(wait_until, sandbox.requests)

    # The extra field stands for another key, of which the sandbox has one only.
    connect_popin(timeout_seconds=29)
    sandbox.set_faults("slots:401@1")

    assert (await waiting)["status"] == "success"
    assert [row["status"] for row in sandbox.requests()][-2:] == [401, 200]


async def test_an_unusable_or_missing_connection_ends_it_at_once(
    set_connection: Callable[..., None], airflow_db: None
) -> None:
    set_connection("no_key", conn_type="popin", login=SELLER_TOKEN)

    unusable = await only_event(trigger(popin_conn_id="no_key"))
    missing = await only_event(trigger(popin_conn_id="nowhere"))

    assert (unusable["status"], unusable["retry"]) == ("error", False)
    assert "'no_key'" in unusable["reason"]
    assert "'password'" in unusable["reason"]
    assert (missing["status"], missing["retry"]) == ("error", False)
    assert "nowhere" in missing["reason"]


async def test_what_only_the_triggerers_machine_lacks_ends_it_at_once(
    set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"conn_type": "popin", "login": SELLER_TOKEN, "password": API_KEY}
    set_connection("no_bundle", **fields, extra={"verify": "/nowhere/bundle.pem"})
    set_connection("proxied", **fields)

    bundle = await only_event(trigger(popin_conn_id="no_bundle"))
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
    proxy = await only_event(trigger(popin_conn_id="proxied"))
    zone = await only_event(trigger(hours=["10:00", "12:00"], timezone="Mars/Olympus"))

    assert [(event["status"], event["retry"]) for event in (bundle, proxy, zone)] == [("error", False)] * 3
    assert "'no_bundle', field 'verify'" in bundle["reason"]
    assert "'proxied', field 'proxy'" in proxy["reason"]
    assert "argument 'timezone'" in zone["reason"]


async def test_it_leaves_the_event_loop_to_others(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    masking, others_ran = threading.Event(), threading.Event()
    waited: list[bool] = []

    def slow_masker(_: object) -> None:
        """Stand in for the blocking call to Airflow's supervisor that registering a secret is."""
        masking.set()
        waited.append(others_ran.wait(PATIENCE_SECONDS))

    monkeypatch.setattr(masking_module, "mask_secret", slow_masker)
    waiting = asyncio.create_task(only_event(trigger(max_slots=1)))
    while not waiting.done():
        await asyncio.sleep(0.005)
        if masking.is_set():
            others_ran.set()

    assert (await waiting)["status"] == "success"
    assert waited
    assert all(waited)
