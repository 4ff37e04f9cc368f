"""Plan and book: rounds of reading slots, planning and sending, until all are booked or have a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.client.outcomes import Outcome
from airflow_provider_popin.sync.calendar_keeper import CalendarKeeper
from airflow_provider_popin.sync.exchange_loop import ExchangeLoop
from airflow_provider_popin.sync.job_queue import JobQueue
from airflow_provider_popin.sync.jobs import BookingJob, Job, Sending
from airflow_provider_popin.sync.ledger import leases, ledger_queries
from airflow_provider_popin.sync.ledger.events import Answer, BookingState, Planned, Record, Released, Settled
from airflow_provider_popin.sync.ledger.ledger import Ledger, chunks, locked
from airflow_provider_popin.sync.ledger.writer import Writer
from airflow_provider_popin.sync.planning import planner
from airflow_provider_popin.sync.planning.planner import Waiting
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.stop_switch import StopSwitch

# A lead whose slot was taken under its nose is planned again this often.
MAX_TAKEN = 3
# Ends a run whose slot list never holds still.
MAX_ROUNDS = 20
_PLANNABLE = (BookingState.WAITING, BookingState.UNASSIGNED)


@dataclass(frozen=True, slots=True)
class Seats:
    """The plan's view of capacity: slots that may be booked, and the free seat numbers of each."""

    slots: Sequence[Slot]
    free: Sequence[list[int]]
    timezone: str


class BookingDesk:
    """One run's bookings.

    :param account: the account's name in the ledger
    :param calls_per_slot: seats of one slot
    :param max_in_doubt: when more than so many bookings became in doubt in this try, no further one starts
    :param on_done: told about every durable outcome
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        writer: Writer,
        keeper: CalendarKeeper,
        loop: ExchangeLoop,
        switch: StopSwitch,
        sending: Sending,
        account: str,
        calls_per_slot: int,
        max_in_doubt: int,
        on_done: Callable[[Job, Settled], None],
    ) -> None:
        self._ledger = ledger
        self._writer = writer
        self._keeper = keeper
        self._loop = loop
        self._switch = switch
        self._sending = sending
        self._account = account
        self._calls_per_slot = calls_per_slot
        self._max_in_doubt = max_in_doubt
        self._on_done = on_done
        self._again: list[int] = []
        self._taken: dict[int, int] = {}
        self.became_in_doubt = 0

    @property
    def held(self) -> bool:
        """Whether too many bookings became in doubt for another one to start."""
        return self.became_in_doubt > self._max_in_doubt

    async def book(self, waiting: Sequence[Waiting], resends: Sequence[int]) -> None:
        """Book everybody who can be booked, on the slots that the keeper has just read.

        :param waiting: captured leads that this run has claimed; keys are ledger record ids
        :param resends: records in doubt that are sent once more, to the same slot
        :raises PopinError: the slots cannot be read
        :raises LedgerError: the ledger cannot be written
        """
        fresh = asyncio.create_task(self._keeper.keep_fresh())
        try:
            await self._book(waiting, resends)
        finally:
            fresh.cancel()

    async def _book(self, waiting: Sequence[Waiting], resends: Sequence[int]) -> None:
        if resends:
            await self._send(JobQueue(self._loop.concurrency), self._resend_jobs(resends))
        for _ in range(MAX_ROUNDS):
            if not waiting or self._is_over():
                return
            self._again = []
            unassigned = await self._round(waiting)
            if self._is_over():
                return
            await self._tell_unassigned(unassigned)
            waiting = await self._next_round(waiting)
        await self._tell_unassigned({lead.key: "slots_changed" for lead in waiting})

    def _is_over(self) -> bool:
        return self._switch.stopped or self.held

    async def _round(self, waiting: Sequence[Waiting]) -> dict[int, str]:
        seats = await self._writer.call(partial(self._seats, most=len(waiting)))
        counts = [len(numbers) for numbers in seats.free]
        plan = await asyncio.to_thread(
            planner.plan, waiting, seats.slots, counts, seller_timezone=seats.timezone
        )
        # The soonest slot first: it is the one whose notice runs out first.
        # Two stable sorts on plain values: a tuple for each of 100,000 leads would be a fifth of the memory.
        order = sorted(plan.assigned)
        order.sort(key=plan.assigned.__getitem__)
        queue = JobQueue(self._loop.concurrency)
        await self._send(queue, self._planned_jobs(queue, order, plan.assigned, seats))
        return plan.unassigned

    async def _next_round(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        if not self._again or self._is_over():
            return []
        # What waits for another slot gives its seat back first; a taken one has done so already.
        await self._release(self._again, BookingState.WAITING, {})
        given_up = {key: "slot_taken" for key in self._again if self._taken.get(key, 0) > MAX_TAKEN}
        await self._tell_unassigned(given_up)
        await self._keeper.refresh()
        again = set(self._again) - given_up.keys()
        return [lead for lead in waiting if lead.key in again]

    def _seats(self, connection: Connection, most: int) -> Seats:
        leases.expire(connection, self._ledger, self._account)
        leases.reclaim_planned(connection, self._ledger, self._account, self._sending.run)
        slots = self._keeper.bookable()
        taken = ledger_queries.seats_taken(connection, self._account, [_start(slot) for slot in slots])
        free = [self._free(taken.get(_start(slot), set()), most) for slot in slots]
        calendar = self._keeper.calendar
        return Seats(slots, free, calendar.timezone if calendar is not None else "UTC")

    def _free(self, taken: set[int], most: int) -> list[int]:
        """Free seat numbers of a slot, no more than there are leads: `calls_per_slot` may be any number."""
        # Every booking beyond our own numbering (a late success) takes a seat from the rest.
        room = max(0, self._calls_per_slot - len(taken))
        numbers = (n for n in range(1, self._calls_per_slot + 1) if n not in taken)
        return list(islice(numbers, min(room, most)))

    async def _send(self, queue: JobQueue, jobs: AsyncIterator[BookingJob]) -> None:
        sending = asyncio.create_task(self._loop.run(queue, self))
        try:
            async for job in jobs:
                if self._is_over():
                    break
                await queue.put(job)
        finally:
            await queue.end()
            await sending

    async def _planned_jobs(
        self, queue: JobQueue, order: Sequence[int], assigned: dict[int, int], seats: Seats
    ) -> AsyncIterator[BookingJob]:
        planned = 0
        while planned < len(order):
            chunk = order[planned : planned + queue.jobs_to_make]
            planned += len(chunk)
            events = [
                (key, seats.slots[assigned[key]], seats.free[assigned[key]].pop(0))
                for key in chunk
                if seats.free[assigned[key]]
            ]
            jobs, records = await self._writer.call(partial(self._plan, chosen=events, seats=seats))
            self._writer.remember(records)
            for job in jobs:
                yield job

    def _plan(
        self, connection: Connection, chosen: Sequence[tuple[int, Slot, int]], seats: Seats
    ) -> tuple[list[BookingJob], list[Record]]:
        records = locked(connection, [key for key, _, _ in chosen])
        # A person may have had a lead forgotten since it was captured: nobody is left to be called.
        chosen = [each for each in chosen if each[0] in records and records[each[0]].customer_id is not None]
        events = [
            Planned(
                key,
                records[key].attempt,
                self._sending.owner,
                _start(slot),
                slot.time,
                seats.timezone,
                number,
            )
            for key, slot, number in chosen
        ]
        accepted = self._ledger.apply(connection, self._account, events, records)
        jobs = []
        for (key, slot, _), ok in zip(chosen, accepted, strict=True):
            if ok:
                jobs.append(booking_job(records[key], slot, seats.timezone))
            elif records[key].claim_owner == self._sending.owner and records[key].booking_state in _PLANNABLE:
                self._again.append(key)  # another run took the seat between our look and our plan
        return jobs, [records[job.record] for job in jobs]

    async def _resend_jobs(self, ids: Sequence[int]) -> AsyncIterator[BookingJob]:
        for chunk in chunks(ids):
            records = await self._writer.call(partial(locked, ids=chunk))
            for record in records.values():
                if record.slot_start is None or record.slot_time is None:
                    continue
                slot = Slot(start=datetime.fromtimestamp(record.slot_start, UTC), time=record.slot_time)
                yield booking_job(record, slot, record.slot_timezone or "UTC", resend=True)

    async def _tell_unassigned(self, reasons: dict[int, str]) -> None:
        await self._release(list(reasons), BookingState.UNASSIGNED, reasons)

    async def _release(self, keys: Sequence[int], to: BookingState, reasons: dict[int, str]) -> None:
        owner, run = self._sending.owner, self._sending.run
        for chunk in chunks(keys):
            events = [Released(key, owner, to, run, reasons.get(key)) for key in chunk]
            await self._writer.call(partial(self._ledger.apply, account=self._account, events=events))

    # What the exchange loop asks and tells.

    def wanted(self, job: Job) -> bool:
        """Whether the planned slot still stands; if not, the lead is planned again."""
        if not isinstance(job, BookingJob) or self.held:
            return False
        if job.resend:
            # Its words mean another instant where the seller moved to another timezone.
            return self._keeper.has_timezone(job.timezone) and self._keeper.in_time(job.slot)
        if self._keeper.is_bookable(job.slot, job.timezone):
            return True
        self._again.append(job.record)
        return False

    async def is_taken(self, job: BookingJob, outcome: Outcome) -> bool:
        """Whether a rejection is about the slot: Popin says so, or a fresh list lacks it (grade U)."""
        if job.resend:
            return False
        return outcome.slot_blamed or (
            outcome.no_field_named and not await self._keeper.still_lists(job.slot)
        )

    def done(self, job: Job, event: Settled, accepted: bool) -> None:
        """Count, and plan again what met a taken slot."""
        if event.answer is Answer.TAKEN and isinstance(job, BookingJob):
            self._keeper.close(job.slot)
            if accepted:
                self._taken[job.record] = self._taken.get(job.record, 0) + 1
                self._again.append(job.record)
        self._on_done(job, event)

    def in_doubt(self, job: Job) -> None:
        """An answer was lost, just now: count it before anything else starts."""
        self.became_in_doubt += 1

    def dropped(self, job: Job) -> None:
        """The run stopped; the seat is given back at its end."""


def booking_job(record: Record, slot: Slot, timezone: str, *, resend: bool = False) -> BookingJob:
    """The POST that books a seat.

    :param record: captured
    :param slot: planned
    :param timezone: the seller's
    """
    if record.customer_id is None:
        raise ValueError("a lead without a customer cannot be booked")
    wish = BookingWish.from_json(record.wish)
    return BookingJob(
        record=record.id,
        lead_id=record.lead_id,
        attempt=record.attempt,
        customer_id=record.customer_id,
        slot=slot,
        timezone=timezone,
        agent=wish.agent,
        native=wish.native,
        resend=resend,
    )


def _start(slot: Slot) -> int:
    return int(slot.start.timestamp())
