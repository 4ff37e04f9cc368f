"""Stops a run: at once or in good order, from any thread, and remembers the first cause."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TypeVar

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.sync.errors import SyncStoppedError

T = TypeVar("T")


class StopSwitch:
    """One switch for all parts of a run. Reading is free; stopping is thread-safe.

    :ivar failure: the first cause, to be raised at the end; None while running or after a stop without one
    :ivar stopped: nothing more may be sent
    :ivar hurry: the process is about to be killed: drain for seconds only
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.stopped = False
        self.hurry = False
        self._hurry_since = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._hurrying: asyncio.Event | None = None

    def attach(self) -> None:
        """Called once in the engine's loop, before anything waits."""
        self._loop = asyncio.get_running_loop()
        self._stopping, self._hurrying = asyncio.Event(), asyncio.Event()
        self._tell()

    def stop(self, cause: BaseException | None, *, hurry: bool = False) -> None:
        """Stop the run.

        :param cause: raised at the end of the run; the first one stays
        :param hurry: the process is about to be killed
        """
        if self.failure is None:
            self.failure = cause
        self.stopped = True
        if hurry and not self.hurry:
            self._hurry_since = boot_seconds()
            self.hurry = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._tell)

    def stop_from_outside(self, why: str) -> None:
        """The task was killed or timed out.

        :param why: for the error's text
        """
        self.stop(SyncStoppedError(why), hurry=True)

    def hurried_seconds(self) -> float:
        """Seconds since it was known that the process is about to be killed; 0 while it is not."""
        return boot_seconds() - self._hurry_since if self.hurry else 0.0

    async def unless_hurried(self, work: Coroutine[object, object, T]) -> T:
        """Wait for something that is not worth waiting for when the process is about to be killed.

        :param work: cancelled then
        :raises SyncStoppedError: the process is about to be killed
        """
        task = asyncio.create_task(work)
        hurry = asyncio.create_task(self.wait_hurry())
        try:
            await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise SyncStoppedError("the run was stopped") from self.failure
        finally:
            task.cancel()
            hurry.cancel()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not past a stop."""
        if self._stopping is None:
            raise RuntimeError("attach() first")
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def wait_hurry(self) -> None:
        """Return when the process is about to be killed."""
        if self._hurrying is None:
            raise RuntimeError("attach() first")
        await self._hurrying.wait()

    def _tell(self) -> None:
        if self._stopping is not None and self.stopped:
            self._stopping.set()
        if self._hurrying is not None and self.hurry:
            self._hurrying.set()
