"""What was told outlives the triggerer, and a store that fails costs no more than that."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.triggers import _cursor
from airflow_provider_popin.triggers._told_slots import ToldSlots
from airflow_provider_popin.triggers.slots_open import PopinSlotsOpenTrigger
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.triggers.watching import PAUSE_SECONDS, Watching, make_trigger, slot_texts

pytestmark = pytest.mark.usefixtures("popin_connection")

TEN = slot_texts(*range(0, 150, 15))


class FailingStore:
    """A store that keeps JSON as Airflow's does, and fails when told to.

    Airflow's own is used in ``tests/scheduler``; it takes a triggerer.
    """

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.reading: Exception | None = None
        self.writing: Exception | None = None
        self.hangs = False
        self.writes = 0

    async def aget(self, key: str, default: Any = None) -> Any:
        if self.hangs:
            await asyncio.sleep(60)
        if self.reading is not None:
            raise self.reading
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        if self.hangs:
            await asyncio.sleep(60)
        if self.writing is not None:
            raise self.writing
        self.writes += 1
        self.values[key] = json.dumps(value)


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the warnings about the store so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [text for record in caplog.records if "asset's state" in (text := record.getMessage())]


def events(store: FailingStore, **arguments: Any) -> AsyncIterator[Any]:
    """Run a trigger with a store, as a triggerer of Airflow 3.3 does."""
    trigger = make_trigger(**arguments)
    trigger.asset_state_store = store  # type: ignore[assignment]
    return trigger.run()


async def test_a_restarted_triggerer_tells_nothing_twice(sandbox: SandboxServer, store: FailingStore) -> None:
    sandbox.reset(slots=TEN[:3])
    async with Watching(sandbox, events(store)) as watching:
        await watching.until(lambda: watching.told)
    async with Watching(sandbox, events(store)) as restarted:
        await restarted.looked(3)
        assert restarted.told == []
        sandbox.reset(slots=TEN[:4])
        await restarted.looked(2)
        assert restarted.times == [[TEN[3]]]


async def test_the_cursor_is_kept_before_the_event_leaves(
    sandbox: SandboxServer, store: FailingStore
) -> None:
    sandbox.reset(slots=TEN[:3])
    running = events(store)
    await anext(running)
    # It dies at this moment: the event may be lost, and is not told twice.
    await running.aclose()  # type: ignore[attr-defined]
    (kept,) = store.values.values()
    assert sum(len(group) - 1 for group in json.loads(kept)["told"]) == 3
    async with Watching(sandbox, events(store)) as restarted:
        await restarted.looked(2)
        assert restarted.told == []


async def test_it_writes_only_what_changed(sandbox: SandboxServer, store: FailingStore) -> None:
    sandbox.reset(slots=TEN[:3])
    async with Watching(sandbox, events(store)) as watching:
        await watching.looked(6)
    assert store.writes == 1


async def test_without_a_store_a_restart_tells_once_more(sandbox: SandboxServer) -> None:
    sandbox.reset(slots=TEN[:3])
    for _ in range(2):
        async with Watching(sandbox, make_trigger().run()) as watching:
            await watching.looked(3)
            assert len(watching.told) == 1


async def test_triggers_of_one_asset_keep_cursors_of_their_own(
    sandbox: SandboxServer, store: FailingStore, set_connection: Callable[..., None]
) -> None:
    sandbox.reset(slots=TEN)
    set_connection("also", conn_type="popin", host=sandbox.url, login=SELLER_TOKEN, password=API_KEY)
    for arguments in ({}, {"hours": "10:00-11:00"}, {"min_slots": 2}, {"popin_conn_id": "also"}):
        async with Watching(sandbox, events(store, **arguments)) as watching:
            await watching.looked(2)
            assert len(watching.told) == 1
    # What does not decide about telling is no reason to tell again.
    async with Watching(sandbox, events(store, max_slots=3)) as watching:
        await watching.looked(2)
        assert watching.told == []
    assert len(store.values) == 4
    assert all(len(key) <= 512 for key in store.values)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("422 too large: secret"), ValueError("Task has 2 concrete inlets"), TimeoutError()],
    ids=repr,
)
async def test_a_store_that_refuses_costs_one_warning_and_no_event(
    sandbox: SandboxServer, store: FailingStore, warnings: Callable[[], list[str]], error: Exception
) -> None:
    sandbox.reset(slots=TEN[:1])
    store.writing = error
    async with Watching(sandbox, events(store)) as watching:
        for count in range(2, 5):
            await watching.looked(2)
            sandbox.reset(slots=TEN[:count])
        await watching.looked(2)
        assert watching.times == [[TEN[0]], [TEN[1]], [TEN[2]], [TEN[3]]]
        assert len(warnings()) == 1
        assert type(error).__name__ in warnings()[0]
        assert "secret" not in warnings()[0]
        store.writing = None
        await watching.looked(2)
        # It is written as soon as it can be, though nothing was told meanwhile.
        assert store.writes == 1
        store.writing = error
        sandbox.reset(slots=TEN[:5])
        await watching.looked(2)
        assert len(warnings()) == 2


async def test_a_store_that_cannot_be_read_for_a_moment_is_waited_for(
    sandbox: SandboxServer, store: FailingStore, warnings: Callable[[], list[str]]
) -> None:
    sandbox.reset(slots=TEN[:3])
    async with Watching(sandbox, events(store)) as watching:
        await watching.until(lambda: watching.told)
    store.reading = RuntimeError("database is restarting")
    cursor = _cursor.Cursor(store, key=next(iter(store.values)))
    for _ in range(_cursor.MOST_READS - 1):
        assert await cursor.read() is None
    store.reading = None
    told = await cursor.read()
    assert told is not None
    assert len(told.told) == 3
    assert len(warnings()) == 1
    store.writing = RuntimeError("database is restarting again")
    await cursor.advance(ToldSlots())
    assert len(warnings()) == 2


async def test_nothing_is_told_before_the_store_has_answered(
    sandbox: SandboxServer, store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cursor, "MOST_READS", 1_000_000)
    sandbox.reset(slots=TEN[:3])
    async with Watching(sandbox, events(store)) as watching:
        await watching.until(lambda: watching.told)
    store.reading = RuntimeError("database is restarting")
    async with Watching(sandbox, events(store)) as watching:
        await watching.looked(3)
        assert watching.told == []
        store.reading = None
        await watching.looked(3)
        assert watching.told == []


async def test_a_store_that_cannot_be_read_at_all_is_done_without(
    sandbox: SandboxServer, store: FailingStore, warnings: Callable[[], list[str]]
) -> None:
    sandbox.reset(slots=TEN[:3])
    store.reading = store.writing = RuntimeError("gone")
    async with Watching(sandbox, events(store)) as watching:
        await watching.looked(_cursor.MOST_READS + 2)
        assert watching.times == [list(TEN[:3])]
    assert len(warnings()) == 1


async def test_a_store_that_hangs_holds_nobody_up_for_ever(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(_cursor, "STORE_SECONDS", 0.02)
    store.hangs = True
    cursor = _cursor.Cursor(store, key="k")
    assert [await cursor.read() for _ in range(_cursor.MOST_READS)] == [None, None, ToldSlots()]
    await cursor.advance(ToldSlots(account="shop"))
    assert await cursor.read() == ToldSlots(account="shop")
    assert store.writes == 0
    assert "TimeoutError" in warnings()[0]


async def test_what_somebody_else_wrote_there_is_told_about_and_replaced(
    sandbox: SandboxServer, store: FailingStore, warnings: Callable[[], list[str]]
) -> None:
    sandbox.reset(slots=TEN[:3])
    key = PopinSlotsOpenTrigger()._cursor_key()
    store.values[key] = '"nonsense"'
    async with Watching(sandbox, events(store)) as watching:
        await watching.looked(3)
        assert watching.times == [list(TEN[:3])]
    assert len(warnings()) == 1
    assert json.loads(store.values[key])["version"] == 1


@pytest.fixture
def manager() -> Any:
    """Return what shares streams in a triggerer of Airflow 3.3."""
    shared_stream = pytest.importorskip(
        "airflow.triggers.shared_stream", reason="shared streams exist from Airflow 3.3 on"
    )
    return shared_stream.SharedStreamManager()


async def test_triggers_of_one_connection_share_one_look(sandbox: SandboxServer, manager: Any) -> None:
    sandbox.reset(slots=TEN)
    triggers = [
        make_trigger(hours="10:00-11:00"),
        make_trigger(hours="11:00-12:00"),
        make_trigger(min_slots=11),
    ]
    streams = [
        trigger.filter_shared_stream(
            manager.subscribe(trigger_id=number, trigger=trigger, key=trigger.shared_stream_key())
        )
        for number, trigger in enumerate(triggers)
    ]
    async with (
        Watching(sandbox, streams[0]) as morning,
        Watching(sandbox, streams[1]) as noon,
        Watching(sandbox, streams[2]) as many,
    ):
        await morning.looked(3)
        asked = morning.requests()
        assert (morning.times, noon.times, many.times) == ([list(TEN[:4])], [list(TEN[4:8])], [])
        await asyncio.sleep(5 * PAUSE_SECONDS)
        # Three triggers that each asked for themselves would have asked three times as often.
        assert morning.requests() - asked <= 6
        assert len(manager._groups) == 1
        sandbox.set_faults("slots:500")
        await morning.until_requests(morning.requests() + 2)
        sandbox.set_faults()
    await manager.stop_all()
