"""A trigger that runs in the test's own event loop, as a triggerer would run it, and what it tells."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from airflow_provider_popin.client.slots import format_popin_time
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.triggers.slots_open import PopinSlotsOpenTrigger
from tests.waiting import PATIENCE_SECONDS

SELLER = "Asia/Kolkata"
# One moment for the whole session, which midnight may divide.
FIRST_SLOT = (datetime.now(UTC) + timedelta(days=2)).replace(hour=4, minute=30, second=0, microsecond=0)
PAUSE_SECONDS = 0.02


def slot_texts(*minutes: int) -> tuple[str, ...]:
    """Popin's strings of slots some days ahead.

    :param minutes: after the first of them.
    """
    return tuple(format_popin_time(FIRST_SLOT + timedelta(minutes=later), SELLER) for later in minutes)


def make_trigger(**arguments: Any) -> PopinSlotsOpenTrigger:
    """Make a trigger that looks 50 times a second, which its own limits do not allow."""
    trigger = PopinSlotsOpenTrigger(**arguments)
    trigger.poll_interval = PAUSE_SECONDS
    return trigger


class Watching:
    """A running trigger.

    :param sandbox: that it looks at.
    :param events: of a trigger, from ``run()`` or ``filter_shared_stream()``.
    """

    def __init__(self, sandbox: SandboxServer, events: AsyncIterator[Any]) -> None:
        self.told: list[dict[str, Any]] = []
        self._sandbox = sandbox
        self._events = events
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._pump())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        ended = self._task.done()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        assert not ended, "an event trigger must not end"

    @property
    def times(self) -> list[list[str]]:
        """The slots of every event so far."""
        return [[slot["time"] for slot in event["slots"]] for event in self.told]

    async def looked(self, count: int = 1) -> None:
        """Wait until so many more looks were taken, and what they found was told.

        A look that is asked for means that the one before was dealt with.
        """
        await self.until_requests(self.requests() + count + 1)

    async def until_requests(self, count: int) -> None:
        """Wait until the sandbox was asked so many times since its reset."""
        await self.until(lambda: self.requests() >= count)

    async def until(self, question: Any) -> None:
        """Wait until a question is answered with yes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not question():
            assert self._task is not None
            if self._task.done():
                self._task.result()
            assert time.monotonic() < deadline, f"waited too long; told so far: {self.told}"
            await asyncio.sleep(0.005)

    def requests(self) -> int:
        """How often the sandbox was asked since its reset."""
        return int(self._sandbox.stats()["requests"]["slots"])

    async def _pump(self) -> None:
        async for event in self._events:
            self.told.append(json.loads(json.dumps(event.payload)))
