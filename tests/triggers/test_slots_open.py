"""The event trigger for slots on its own event loop, against the local Popin."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_popin.client import client, outcomes, retrying
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.triggers import _looks, slots_open
from airflow_provider_popin.triggers.slots_open import PopinSlotsOpenTrigger
from tests.airflow_runs import IS_AIRFLOW_3
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.triggers.watching import FIRST_SLOT, PAUSE_SECONDS, SELLER, Watching, make_trigger, slot_texts

pytestmark = pytest.mark.usefixtures("popin_connection", "_fast")

SetConnection = Callable[..., None]
TEN = slot_texts(*range(0, 150, 15))


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "backoff_seconds", lambda *_: 0.0)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the warnings of the trigger so far."""
    caplog.set_level(logging.INFO, logger="airflow_provider_popin")

    def read() -> list[str]:
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelno >= logging.WARNING and "airflow_provider_popin" in record.name
        ]

    return read


async def test_it_tells_what_is_open_and_then_what_opens_up(sandbox: SandboxServer) -> None:
    sandbox.reset(slots=TEN[:3])
    async with Watching(sandbox, make_trigger(max_slots=2).run()) as watching:
        await watching.until(lambda: watching.told)
        await watching.looked(2)
        assert watching.told == [
            {
                "slots": [
                    {
                        "time": text,
                        "start": PopinHook(popin_conn_id="popin_default")
                        .get_slots()
                        .slots[n]
                        .start.isoformat(),
                        "timezone": SELLER,
                    }
                    for n, text in enumerate(TEN[:2])
                ],
                "count": 3,
                "popin_conn_id": "popin_default",
            }
        ]
        sandbox.reset(slots=TEN[:5])
        await watching.looked(2)
        assert watching.times[1:] == [[TEN[3], TEN[4]]]
    assert {row["method"] for row in sandbox.requests()} == {"GET"}


async def test_slots_that_disappear_and_come_back_are_told_again(sandbox: SandboxServer) -> None:
    sandbox.reset(slots=TEN)
    sandbox.set_faults("slots:empty_availability@3-4")
    async with Watching(sandbox, make_trigger().run()) as watching:
        await watching.looked(7)
        assert watching.times == [list(TEN), list(TEN)]


async def test_only_slots_in_the_window_and_with_notice_count(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 10:00 to 12:15 at the seller's.
    sandbox.reset(slots=TEN)
    monkeypatch.setattr(slots_open, "_now", lambda: FIRST_SLOT)
    # 8:30 to 10:45 there, all the year round.
    trigger = make_trigger(min_notice_minutes=15, hours="08:00-09:30", timezone="Asia/Dubai")
    async with Watching(sandbox, trigger.run()) as watching:
        await watching.looked(2)
        assert watching.times == [list(TEN[2:4])]


async def test_with_fewer_than_min_slots_it_waits(sandbox: SandboxServer) -> None:
    sandbox.reset(slots=TEN[:3])
    async with Watching(sandbox, make_trigger(min_slots=4).run()) as watching:
        await watching.looked(3)
        assert watching.told == []
        sandbox.reset(slots=TEN[:4])
        await watching.looked(2)
        assert watching.times == [list(TEN[:4])]


async def test_slots_that_stay_open_are_told_once_an_hour(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.reset(slots=TEN[:1])
    clock = itertools.count()
    start = datetime.now(UTC)
    # A quarter of an hour passes from look to look.
    monkeypatch.setattr(slots_open, "_now", lambda: start + timedelta(minutes=15 * next(clock)))
    async with Watching(sandbox, make_trigger().run()) as watching:
        await watching.looked(12)
        looked = watching.requests()
    assert looked // 4 - 1 <= len(watching.told) <= looked // 4 + 1


async def test_another_timezone_makes_all_slots_new(sandbox: SandboxServer) -> None:
    sandbox.reset(slots=TEN[:2])
    async with Watching(sandbox, make_trigger().run()) as watching:
        await watching.until(lambda: watching.told)
        sandbox.set_faults("slots:timezone_change(Asia/Tokyo)@1")
        await watching.looked(3)
        assert watching.times == [list(TEN[:2])] * 2
        assert {slot["timezone"] for slot in watching.told[1]["slots"]} == {"Asia/Tokyo"}


async def test_malformed_slots_are_left_out_and_logged_once(
    sandbox: SandboxServer, warnings: Callable[[], list[str]]
) -> None:
    sandbox.reset(slots=TEN)
    sandbox.set_faults("slots:malformed_slots(some)")
    async with Watching(sandbox, make_trigger().run()) as watching:
        await watching.looked(4)
        assert watching.times == [list(TEN)]
    assert len(warnings()) == 1
    assert "slots in Popin's answer were left out" in warnings()[0]


@pytest.mark.parametrize(
    "fault", ["500", "html", "not_json", "reset", "cut_body", "malformed_slots(all)", "422"]
)
async def test_failed_looks_tell_nothing_forget_nothing_and_are_logged_once(
    sandbox: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    monkeypatch.setattr(_looks, "LONGEST_PAUSE_SECONDS", 0.05)
    sandbox.reset(slots=TEN)
    sandbox.set_faults(f"slots:{fault}@2-16")
    async with Watching(sandbox, make_trigger().run()) as watching:
        await watching.until_requests(20)
        assert watching.times == [list(TEN)]
    assert len(warnings()) == 1
    assert "connection 'popin_default'" in warnings()[0]
    assert "can be seen again" in caplog.text
    assert API_KEY not in caplog.text


async def test_pauses_between_failed_looks_grow_to_a_limit_and_shrink_again(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_looks, "LONGEST_PAUSE_SECONDS", 0.1)
    sandbox.reset(slots=TEN)
    sandbox.set_faults("slots:422@1-5")
    watch = _looks._Watch("popin_default", PAUSE_SECONDS)
    pauses = []
    for _ in range(6):
        look = await watch.look()
        pauses.append(watch.pause)
    assert pauses == [0.02, 0.04, 0.08, 0.1, 0.1, 0.02]
    assert look is not None


async def test_another_cause_is_told_and_what_fails_after_a_success_fails_anew(
    sandbox: SandboxServer, warnings: Callable[[], list[str]]
) -> None:
    sandbox.reset(slots=TEN)
    sandbox.set_faults("slots:422@1", "slots:400@2-3", "slots:400@5")
    watch = _looks._Watch("popin_default", PAUSE_SECONDS)
    pauses = []
    for _ in range(5):
        await watch.look()
        pauses.append(watch.pause)
    assert pauses == [0.02, 0.04, 0.08, 0.02, 0.02]
    told = warnings()
    assert [text[text.index("HTTP ") :][:8] for text in told] == ["HTTP 422", "HTTP 400", "HTTP 400"]
    assert all(text.endswith("Next try within 900 s") for text in told)


async def test_a_wait_that_popin_asks_for_is_kept_within_the_limit(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.set_faults("slots:429(300)@1", "slots:429(7200)@2")
    watch = _looks._Watch("popin_default", PAUSE_SECONDS)
    assert await watch.look() is None
    assert watch.pause == 300
    assert await watch.look() is None
    assert watch.pause == _looks.LONGEST_PAUSE_SECONDS


async def test_what_fails_is_not_looked_at_more_often_than_what_works(sandbox: SandboxServer) -> None:
    sandbox.set_faults("slots:401")
    watch = _looks._Watch("popin_default", 86_400.0)
    assert await watch.look() is None
    assert watch.pause == 86_400


async def test_a_thousand_failures_are_no_problem(
    set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object) -> None:
        raise RuntimeError("vault token hunter2")

    monkeypatch.setattr(PopinHook, "get_async_config", fail)
    watch = _looks._Watch("popin_default", 60.0)
    for _ in range(2_000):
        assert await watch.look() is None
    assert watch.pause == _looks.LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "login (seller token) and password (API key)"), (403, "password (API key)"), (404, "host")],
)
async def test_a_refusal_is_tried_again_late_and_says_what_to_do(
    sandbox: SandboxServer, warnings: Callable[[], list[str]], status: int, said: str
) -> None:
    sandbox.set_faults(f"slots:{status}")
    watch = _looks._Watch("popin_default", PAUSE_SECONDS)
    for _ in range(3):
        assert await watch.look() is None
        assert watch.pause == _looks.LONGEST_PAUSE_SECONDS
    assert len(warnings()) == 1
    assert said in warnings()[0]
    assert f"HTTP {status}" in warnings()[0]
    assert "'popin_default'" in warnings()[0]
    assert "900 s" in warnings()[0]
    assert API_KEY not in warnings()[0]


async def test_a_corrected_key_counts_at_the_next_look(
    sandbox: SandboxServer,
    set_connection: SetConnection,
    monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
) -> None:
    monkeypatch.setattr(_looks, "LONGEST_PAUSE_SECONDS", 0.05)
    sandbox.reset(slots=TEN)
    fields: dict[str, Any] = {"conn_type": "popin", "host": sandbox.url, "login": SELLER_TOKEN}
    set_connection("popin_default", **fields, password="wrong-key-0815")
    async with Watching(sandbox, make_trigger().run()) as watching:
        await watching.until(lambda: warnings())
        set_connection("popin_default", **fields, password=API_KEY)
        await watching.until(lambda: watching.told)
    assert watching.times == [list(TEN)]
    assert "wrong-key" not in "".join(warnings())


async def test_whatever_is_wrong_with_the_connection_is_said_by_name_and_once_per_change(
    set_connection: SetConnection,
    monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
    airflow_db: None,
) -> None:
    missing = _looks._Watch("nowhere", PAUSE_SECONDS)
    for _ in range(2):
        assert await missing.look() is None
    assert missing.pause == _looks.LONGEST_PAUSE_SECONDS
    assert len(warnings()) == 1
    assert "'nowhere'" in warnings()[0]

    set_connection("changing", conn_type="popin", login=SELLER_TOKEN)
    changing = _looks._Watch("changing", PAUSE_SECONDS)
    for _ in range(2):
        assert await changing.look() is None
    assert changing.pause == _looks.LONGEST_PAUSE_SECONDS
    assert len(warnings()) == 2
    assert "'password'" in warnings()[1]

    async def fail(_: object) -> None:
        raise RuntimeError("vault token hunter2")

    monkeypatch.setattr(PopinHook, "get_async_config", fail)
    for _ in range(2):
        assert await changing.look() is None
    assert len(warnings()) == 3
    assert "RuntimeError" in warnings()[2]
    assert "hunter2" not in warnings()[2]


async def test_unknown_fields_of_the_connection_are_warned_of_once(
    sandbox: SandboxServer,
    set_connection: SetConnection,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.reset(slots=TEN)
    extra = {"requests_per_second": 0, "colour": "red"}
    fields: dict[str, Any] = {"conn_type": "popin", "host": sandbox.url, "login": SELLER_TOKEN}
    set_connection("popin_default", **fields, password=API_KEY, extra=extra)
    watch = _looks._Watch("popin_default", PAUSE_SECONDS)
    for _ in range(3):
        assert await watch.look() is not None
    # Airflow 3 prints it, Airflow 2 prints and logs it.
    texts = ("".join(capfd.readouterr()), caplog.text)
    assert max(text.count("without a meaning here are ignored") for text in texts) == 1


async def test_a_seller_with_ten_thousand_slots_is_one_small_event_and_not_read_in_the_loop(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()

    def classify(*arguments: Any, **named: Any) -> Any:
        threads.add(threading.get_ident())
        return outcomes.classify(*arguments, **named)

    # Reading so many slots takes 0.1 s; Airflow warns of triggers that block its loop for 0.2 s.
    monkeypatch.setattr(client, "classify", classify)
    sandbox.reset(days=105, opens="00:00", closes="00:00")
    trigger = make_trigger(weekdays="mon,tue,wed,thu,fri", hours="06:00-23:00")
    async with Watching(sandbox, trigger.run()) as watching:
        await watching.looked(2)
    assert len(watching.told) == 1
    assert watching.told[0]["count"] > 4_000
    assert len(watching.told[0]["slots"]) == 100
    assert len(json.dumps(watching.told[0])) < 20_000
    assert threading.get_ident() not in threads


async def test_a_trigger_that_is_stopped_leaves_nothing_behind(sandbox: SandboxServer) -> None:
    sandbox.set_faults("slots:slow(30)")
    async with Watching(sandbox, make_trigger().run()) as watching:
        await watching.until(lambda: sandbox.stats()["open_requests"] == 1)
    before = len(asyncio.all_tasks())
    assert before == 1
    sandbox.set_faults()


def test_the_arguments_that_airflow_keeps_are_json_and_the_same_however_they_were_written() -> None:
    written = PopinSlotsOpenTrigger(
        earliest="2030-01-01T05:30:00+05:30",
        latest=datetime(2031, 1, 1, tzinfo=UTC),
        hours="10:00-18:00",
        weekdays="Tue, monday",
        timezone=" Asia/Kolkata ",
        poll_interval=30,
    )
    path, kwargs = written.serialize()
    assert path == f"{PopinSlotsOpenTrigger.__module__}.{PopinSlotsOpenTrigger.__qualname__}"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert kwargs["earliest"] == "2030-01-01T00:00:00+00:00"
    again = PopinSlotsOpenTrigger(**json.loads(json.dumps(kwargs)))
    assert again.serialize() == written.serialize()
    assert (
        PopinSlotsOpenTrigger(
            earliest=datetime(2030, 1, 1, tzinfo=UTC),
            latest="2031-01-01T00:00:00Z",
            hours=("10:00", "18:00:00"),
            weekdays=[1, 0],
            timezone="Asia/Kolkata",
            poll_interval=30.0,
        ).serialize()
        == written.serialize()
    )
    least = PopinSlotsOpenTrigger().serialize()[1]
    assert json.loads(json.dumps(least)) == least


@pytest.mark.parametrize(
    "arguments",
    [
        {"popin_conn_id": ""},
        {"poll_interval": 0.5},
        {"poll_interval": float("nan")},
        {"poll_interval": "60"},
        {"poll_interval": 1e9},
        {"poll_interval": True},
        {"min_slots": 0},
        {"max_slots": 1_001},
        {"min_notice_minutes": -1},
        {"min_notice_minutes": 525_600.5},
        {"min_notice_minutes": float("inf")},
        {"earliest": "2030-01-01T00:00:00"},
        {"earliest": "0001-01-01T00:00:00+05:00"},
        {"latest": "tomorrow"},
        {"latest": "2030-01-01T00:00:00Z", "earliest": "2030-01-01T01:00:00+01:00"},
        {"hours": "10"},
        {"weekdays": "someday"},
        {"timezone": "Mars/Olympus"},
    ],
    ids=str,
)
def test_an_unusable_argument_is_an_error_that_a_triggerer_survives(arguments: dict[str, Any]) -> None:
    with pytest.raises(PopinInputError) as caught:
        PopinSlotsOpenTrigger(**arguments)
    assert caught.value.field == next(iter(arguments))
    # The only class of error that Airflow's triggerer catches when it makes a trigger.
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("arguments", [{"weekday": "sat"}, {"conn_id": "x"}, {"min_notice": 5}])
def test_an_argument_that_it_does_not_have_is_an_error(arguments: dict[str, Any]) -> None:
    """Airflow's own triggers would take it, and this one would tell of every slot of another account."""
    with pytest.raises(TypeError, match=next(iter(arguments))):
        PopinSlotsOpenTrigger(**arguments)


@pytest.mark.skipif(not IS_AIRFLOW_3, reason="Airflow 3 has event triggers")
def test_it_is_an_event_trigger_that_airflow_recognises_by_its_arguments() -> None:
    from airflow.triggers.base import BaseEventTrigger

    trigger = PopinSlotsOpenTrigger(hours="10:00-18:00")
    again = PopinSlotsOpenTrigger(**trigger.serialize()[1])
    assert isinstance(trigger, BaseEventTrigger)
    assert BaseEventTrigger.hash(*trigger.serialize()) == BaseEventTrigger.hash(*again.serialize())


def test_what_is_shared_depends_on_connection_and_pace_only() -> None:
    key = PopinSlotsOpenTrigger().shared_stream_key()
    assert PopinSlotsOpenTrigger(min_slots=5, hours="10:00-18:00", max_slots=3).shared_stream_key() == key
    assert PopinSlotsOpenTrigger(poll_interval=61).shared_stream_key() != key
    assert PopinSlotsOpenTrigger(popin_conn_id="another").shared_stream_key() != key
