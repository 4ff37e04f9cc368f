"""The list of free slots while booking; how it serves a run is in ``tests/faults``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.client import fetch_calendar
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.models import Calendar, Slot
from airflow_provider_popin.sync import calendar_keeper
from airflow_provider_popin.sync.calendar_keeper import CalendarKeeper
from airflow_provider_popin.sync.stop_switch import StopSwitch
from tests.conftest import API_KEY, SELLER_TOKEN

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer


async def read(
    sandbox: SandboxServer, *, min_notice: timedelta = timedelta(minutes=30)
) -> tuple[CalendarKeeper, Slot]:
    """A keeper that has read the calendar, and the first slot that is listed."""
    config = ClientConfig(base_url=sandbox.url, seller_token=SELLER_TOKEN, api_key=API_KEY)
    switch = StopSwitch()
    switch.attach()
    async with AsyncSender(config) as sender:
        keeper = CalendarKeeper(sender=sender, config=config, switch=switch, min_notice=min_notice)
        return keeper, (await keeper.refresh()).slots[0]


async def test_a_list_is_as_old_as_the_question_for_it(
    sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Popin may have looked as soon as it was asked, however long its answer takes."""
    clock = [100.0]

    async def slow(sender: AsyncSender, config: ClientConfig) -> Calendar:
        clock[0] += 30
        return await fetch_calendar(sender, config)

    monkeypatch.setattr(calendar_keeper, "boot_seconds", lambda: clock[0])
    monkeypatch.setattr(calendar_keeper, "fetch_calendar", slow)
    keeper, _ = await read(sandbox)
    assert keeper.age_seconds() == 30


async def test_a_slot_stands_only_in_the_timezone_that_it_was_planned_in(sandbox: SandboxServer) -> None:
    """The same instant, but Popin's string for it would be read on another clock."""
    keeper, slot = await read(sandbox)
    assert keeper.is_bookable(slot, "Asia/Kolkata")
    assert not keeper.is_bookable(slot, "Asia/Colombo")
    keeper.close(slot)
    assert not keeper.is_bookable(slot, "Asia/Kolkata")


async def test_a_planned_slot_that_came_too_near_does_not_stand(sandbox: SandboxServer) -> None:
    keeper, slot = await read(sandbox, min_notice=timedelta(days=400))
    assert keeper.bookable() == []
    assert not keeper.is_bookable(slot, "Asia/Kolkata")
