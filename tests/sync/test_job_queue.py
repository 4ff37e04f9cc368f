"""The queue between whoever finds work and the workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.sync.job_queue import FEW_JOBS, MANY_JOBS, JobQueue
from airflow_provider_popin.sync.jobs import BookingJob


def job(number: int) -> BookingJob:
    slot = Slot(datetime(2027, 1, 4, 12, tzinfo=UTC), "2027-01-04 12:00:00")
    return BookingJob(
        record=number, lead_id=f"L{number}", attempt=0, customer_id="1", slot=slot, timezone="UTC"
    )


class TestStock:
    async def test_every_worker_has_a_job_waiting(self) -> None:
        queue = JobQueue(workers=3)
        seen = []
        for number in range(4):
            seen.append((queue.is_ahead, queue.jobs_to_make))
            await queue.put(job(number))
        assert seen == [(False, MANY_JOBS), (False, MANY_JOBS), (False, MANY_JOBS), (True, FEW_JOBS)]
        await queue.next()
        await queue.next()
        assert (queue.is_ahead, queue.jobs_to_make) == (False, MANY_JOBS)

    @pytest.mark.parametrize(("workers", "few"), [(1, FEW_JOBS), (64, 8), (256, 32), (4_096, MANY_JOBS)])
    async def test_few_jobs_are_more_where_there_are_more_workers(self, workers: int, few: int) -> None:
        queue = JobQueue(workers)
        for number in range(workers):
            await queue.put(job(number))
        assert queue.jobs_to_make == few

    async def test_two_for_each_worker_may_wait(self) -> None:
        queue = JobQueue(workers=2)
        for number in range(4):
            await queue.put(job(number))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.put(job(5)), 0.05)


class TestEnd:
    async def test_all_workers_hear_of_it_after_the_last_job(self) -> None:
        queue = JobQueue(workers=2)
        await queue.put(job(1))
        await queue.end()
        first = queue.next_now()
        assert first is not None
        assert first.record == 1
        assert [await queue.next() for _ in range(3)] == [None, None, None]
