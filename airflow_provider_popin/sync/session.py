"""One run's conversation with Popin and the ledger, inside the engine's event loop."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinError
from airflow_provider_popin.client.limits import limiter_for
from airflow_provider_popin.sync.admission import Action, Situation
from airflow_provider_popin.sync.booking import BookingDesk
from airflow_provider_popin.sync.calendar_keeper import CalendarKeeper
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.exchange_loop import ExchangeLoop
from airflow_provider_popin.sync.intake import (
    Admission,
    Admitted,
    CaptureDesk,
    Limit,
    Row,
    capture_job,
    waiting_for,
)
from airflow_provider_popin.sync.job_queue import JobQueue
from airflow_provider_popin.sync.jobs import Sending
from airflow_provider_popin.sync.ledger import guards, leases, ledger_queries, run_log
from airflow_provider_popin.sync.ledger.events import Claimed, Record
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.ledger.writer import Writer
from airflow_provider_popin.sync.planning.planner import Openings
from airflow_provider_popin.sync.progress import Progress
from airflow_provider_popin.sync.settings import Prior, RunIdentity, SyncSettings
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.rows import LeadRow
from airflow_provider_popin.sync.stop_switch import StopSwitch
from airflow_provider_popin.sync.watermark import Watermark

log = logging.getLogger(__name__)

LEASE_SECONDS = 90.0
RENEW_SECONDS = 20.0
# Slots that were read before the last captures were answered are planned without reading them again.
FRESH_SECONDS = 5.0
# So many rows make a new ledger large enough to be worth counting.
STATISTICS_AFTER = 1_000

# Applies a batch of what webhooks told, in the given transaction; True where more is waiting. The sync knows
# nothing else of webhooks: see `webhooks.processing.take_evidence`.
TakeEvidence = Callable[[Connection, Ledger], bool]


class Session:
    """Everything of a run that lives in the event loop. :meth:`open` first, :meth:`close` always.

    :param lead_id_column: the source column that lead ids come from, for the guard
    :param watermark: opened with the session
    :param take_evidence: None where nothing is known of webhooks
    """

    def __init__(
        self,
        *,
        settings: SyncSettings,
        config: ClientConfig,
        ledger: Ledger,
        run: RunIdentity,
        prior: Prior,
        switch: StopSwitch,
        progress: Progress,
        lead_id_column: str,
        watermark: Watermark | None = None,
        take_evidence: TakeEvidence | None = None,
    ) -> None:
        self._watermark = watermark
        self._evidence = take_evidence
        self._settings = settings
        self._config = config
        self._ledger = ledger
        self._run = run
        self._prior = prior
        self._switch = switch
        self._progress = progress
        self._lead_id_column = lead_id_column
        self._account = config.account_key
        self._sending = Sending(str(uuid.uuid4()), run.dag_run, config.timeout_seconds)
        self._resends: list[int] = []
        self._rows_taken = 0
        self._limit = Limit(settings.limit)
        self._desk = CaptureDesk(books=settings.books, on_done=lambda _, event: progress.settled(event))
        self._heartbeat: asyncio.Task[None] | None = None
        self._capturing: asyncio.Task[None] | None = None
        self._one_is_idle = asyncio.Event()
        self._opened = AsyncExitStack()
        self._slots_read: asyncio.Task[object] | None = None
        # What the waiting thread asked for last; it may have stopped waiting for it.
        self._under_way: asyncio.Task[object] | None = None
        self.run_row: int | None = None

    async def open(self) -> Situation:
        """Open the ledger for this run, and prove that Popin answers: no POST is sent if either fails.

        :raises PopinError: the slots cannot be read as documented
        :raises LedgerError: the ledger refuses this run
        """
        self._under_way = asyncio.current_task()
        self._switch.attach()
        self._sender = await self._opened.enter_async_context(AsyncSender(self._config))
        self._writer = Writer(self._ledger, self._account)
        self._opened.push_async_callback(asyncio.to_thread, self._writer.close)
        self._keeper = CalendarKeeper(
            sender=self._sender,
            config=self._config,
            switch=self._switch,
            min_notice=self._settings.min_notice,
        )
        self._slots_read = asyncio.create_task(self._keeper.refresh())
        # The source is registered whatever Popin says: a run that fails on its side must not make the next
        # one look as if its ledger had been lost.
        self._situation = await self._writer.call(self._begin)
        await self._take_evidence()
        self._heartbeat = asyncio.create_task(self._renew())
        await self._slots_read
        if self._settings.books and self._settings.limit is not None:
            self._limit.openings = await self._writer.call(self._openings)
        self._start_capturing()
        return self._situation

    def _start_capturing(self) -> None:
        """Have the workers wait for leads."""
        self._loop = ExchangeLoop(
            sender=self._sender,
            ledger=self._ledger,
            account=self._account,
            writer=self._writer,
            limiter=limiter_for(self._config),
            config=self._config,
            sending=self._sending,
            switch=self._switch,
        )
        self._admission = Admission(
            ledger=self._ledger,
            account=self._account,
            source=self._settings.source,
            situation=self._situation,
            limit=self._limit,
        )
        self._captures = JobQueue(self._config.max_concurrency)
        self._capturing = asyncio.create_task(
            self._loop.run(self._captures, self._desk, one_is_idle=self._one_is_idle)
        )

    def is_ahead(self) -> bool:
        """Whether enough captures wait for the workers. To be asked from any thread, once the run is open."""
        return self._captures.is_ahead

    async def take(self, rows: Sequence[Row]) -> list[Admitted]:
        """Admit a chunk of rows and hand their captures to the workers; waits while those are busy.

        :param rows: with usable identities, each lead and generation once in the whole run
        :raises LedgerError: the ledger cannot be written
        """
        admitted: list[Admitted] = []
        while len(admitted) < len(rows):
            taken = len(admitted)
            admitted += await self._take(rows[taken : taken + self._captures.jobs_to_make])
        before, self._rows_taken = self._rows_taken, self._rows_taken + len(rows)
        if before < STATISTICS_AFTER <= self._rows_taken:
            await self._writer.call(ledger_queries.gather_statistics)
        return admitted

    async def _take(self, rows: Sequence[Row]) -> list[Admitted]:
        admitted = await self._writer.call(lambda connection: self._admission.admit(connection, rows))
        self._writer.remember(
            one.record for one in admitted if one.record and one.decision.action is Action.CAPTURE
        )
        for one in admitted:
            if one.record is None or not isinstance(one.row, LeadRow):
                continue
            if one.decision.action is Action.CAPTURE:
                await self._captures.put(capture_job(one.row, one.record))
            elif one.decision.action is Action.BOOK:
                self._desk.waiting.append(waiting_for(one.record.id, one.row.lead_id, one.row.wish))
            elif one.decision.action is Action.RESEND:
                self._resends.append(one.record.id)
        return admitted

    async def finish_captures(self) -> None:
        """Return when every capture of the admitted rows is settled."""
        await self._captures.end()
        if self._capturing is None:
            return
        await self._one_is_idle.wait()
        if self._settings.books and not self._switch.stopped:
            # The slots that will be planned are read beside the last captures, not after them.
            self._slots_read = asyncio.create_task(self._keeper.refresh())
        await self._capturing

    async def carry_over(self, records: Sequence[Record]) -> int:
        """Claim captured leads that the read did not contain, to book them too.

        :return: how many were claimed
        """
        wishes = {record.id: BookingWish.from_json(record.wish) for record in records}
        records = [record for record in records if self._limit.hold_back(wishes[record.id]) is None]
        accepted = await self._writer.call(partial(self._claim, records=records))
        claimed = [record for record, ok in zip(records, accepted, strict=True) if ok]
        for record in claimed:
            self._desk.waiting.append(waiting_for(record.id, record.lead_id, wishes[record.id]))
        return len(claimed)

    async def book(self) -> None:
        """Plan and book everybody who was captured. Slots that cannot be read stop the run, in good order.

        :raises LedgerError: the ledger cannot be written
        """
        self._under_way = asyncio.current_task()
        self._progress.to_book = len(self._desk.waiting)
        desk = BookingDesk(
            ledger=self._ledger,
            writer=self._writer,
            keeper=self._keeper,
            loop=self._loop,
            switch=self._switch,
            sending=self._sending,
            account=self._account,
            calls_per_slot=self._settings.calls_per_slot,
            max_in_doubt=self._settings.max_in_doubt,
            on_done=lambda _, event: self._progress.settled(event),
        )
        try:
            await self._have_fresh_slots()
            await desk.book(self._desk.waiting, self._resends)
        except PopinError as error:
            # Much may be booked by now: the CRM and the results file must hear of it.
            self._switch.stop(error)
        if desk.held:
            log.error(
                "%s bookings became in doubt in this try, more than max_in_doubt=%s: no other was started.",
                desk.became_in_doubt,
                self._settings.max_in_doubt,
            )

    async def close(self) -> None:
        """Let the workers finish, give back what was not booked, and close everything."""
        try:
            if self._under_way is not None:
                await asyncio.wait({self._under_way})
            if self._capturing is not None and not self._capturing.done():
                await self.finish_captures()
            if self._slots_read is not None:
                # Of a run that ended before it booked, nobody wants them.
                self._slots_read.cancel()
                await asyncio.gather(self._slots_read, return_exceptions=True)
            if self._heartbeat is not None:
                self._heartbeat.cancel()
                await self._take_evidence()
                await self._writer.call(self._end_lease)
        except LedgerError as error:
            # The lease runs out by itself; the failure that matters is the one that stopped the run.
            log.warning("The run's lease could not be given back: %s", error)
            self._switch.stop(error)
        finally:
            await self._opened.aclose()

    async def _have_fresh_slots(self) -> None:
        if self._slots_read is not None:
            await self._slots_read
        # The last captures may have been sent again and again.
        if self._keeper.age_seconds() > FRESH_SECONDS:
            await self._keeper.refresh()

    async def _take_evidence(self) -> None:
        """Let webhooks that were received count, even if nobody processes them elsewhere."""
        take = self._evidence
        while take is not None and not self._switch.hurry:
            if not await self._writer.call(lambda connection: take(connection, self._ledger)):
                return

    def _openings(self, connection: Connection) -> Openings:
        slots, calendar = self._keeper.bookable(), self._keeper.calendar
        seats = ledger_queries.free_seats(connection, self._account, slots, self._settings.calls_per_slot)
        return Openings(slots, seats, seller_timezone=calendar.timezone if calendar is not None else "UTC")

    def _claim(self, connection: Connection, records: Sequence[Record]) -> list[bool]:
        live = leases.live_owners(connection)
        owner = self._sending.owner
        events = [Claimed(r.id, r.attempt, owner, live, r.wish, r.fingerprint) for r in records]
        return self._ledger.apply(connection, self._account, events)

    def _begin(self, connection: Connection) -> Situation:
        guards.guard_source(
            connection,
            self._ledger,
            account=self._account,
            source=self._settings.source,
            lead_id_column=self._lead_id_column,
            prior=self._prior,
        )
        if self._watermark is not None:
            self._watermark.open(
                connection, account=self._account, source=self._settings.source, run=self._run, write=True
            )
        leases.expire(connection, self._ledger, self._account)
        leases.end_leases_of_earlier_tries(connection, self._run.dag_run, self._run.try_number)
        leases.reclaim_planned(connection, self._ledger, self._account, self._run.dag_run)
        self._renew_lease(connection)
        self.run_row = run_log.start_run(
            connection, self._settings.source, self._run.dag_run, self._run.try_number
        )
        return Situation(
            dag_run=self._run.dag_run,
            books=self._settings.books,
            captures=self._settings.captures,
            resend=self._settings.on_in_doubt == "resend",
            owner=self._sending.owner,
            live_owners=leases.live_owners(connection),
        )

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._writer.call(self._renew_lease)
            except LedgerError as error:
                # Claims may lapse; the attempt numbers still keep two senders apart.
                log.warning("The run's lease could not be renewed: %s", error)

    def _renew_lease(self, connection: Connection) -> None:
        leases.renew_lease(
            connection,
            self._sending.owner,
            self._run.dag_run,
            LEASE_SECONDS,
            try_number=self._run.try_number,
        )

    def _end_lease(self, connection: Connection) -> None:
        leases.end_lease(connection, self._ledger, self._account, self._sending.owner, self._run.dag_run)
