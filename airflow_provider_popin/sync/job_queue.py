"""The queue between whoever finds work and the workers that send it."""

from __future__ import annotations

import asyncio

from airflow_provider_popin.sync.jobs import Job

# While jobs are made, answers wait: for the interpreter's lock, and on SQLite for the transaction's end. A
# short transaction keeps few of them waiting, a long one costs less for each job.
FEW_JOBS = 8
MANY_JOBS = 64
# Few jobs are one for so many workers, where that is more: the more workers, the more jobs a second.
WORKERS_TO_A_JOB = 8


class JobQueue:
    """Jobs for the workers, bounded, with an end.

    :param workers: for each of them two jobs may wait
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._few = min(max(FEW_JOBS, workers // WORKERS_TO_A_JOB), MANY_JOBS)
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue(2 * workers)

    @property
    def is_ahead(self) -> bool:
        """Whether every worker has a job waiting for it. To be asked from any thread."""
        return self._queue.qsize() >= self._workers

    @property
    def jobs_to_make(self) -> int:
        """How many jobs the next transaction should make: many where workers are about to run out of them."""
        return self._few if self.is_ahead else MANY_JOBS

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
