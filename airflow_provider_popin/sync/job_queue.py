"""The queue between whoever finds work and the workers that send it."""

from __future__ import annotations

import asyncio

from airflow_provider_popin.sync.jobs import Job


class JobQueue:
    """Jobs for the workers, bounded, with an end.

    :param size: how many jobs may wait
    """

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue(size)

    async def put(self, job: Job) -> None:
        """Hand in a job; waits while the queue is full."""
        await self._queue.put(job)

    async def end(self) -> None:
        """No more jobs will come."""
        await self._queue.put(None)

    def next_now(self) -> Job | None:
        """A job that is waiting, or None."""
        if self._queue.empty():
            return None
        return self._checked(self._queue.get_nowait())

    async def next(self) -> Job | None:
        """The next job; None at the end."""
        return self._checked(await self._queue.get())

    def _checked(self, job: Job | None) -> Job | None:
        if job is None:
            self._queue.put_nowait(None)  # for the other workers; there is room, one was just taken
        return job
