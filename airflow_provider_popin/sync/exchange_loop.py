"""The workers that send. One worker is one permit of ``max_concurrency``.

For each POST: a rate permit, a job that is still wanted, the intent committed, the POST, its outcome
committed. The outcome of one job and the intent of the next are handed to the writer together where neither
has to wait, so that they share a commit; the next POST leaves only after both are durable. So at most
``max_concurrency`` leads are ``sending`` at any time, and nobody waits while ``sending``, but for the
milliseconds that keep the workers apart (:mod:`.pacing`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.limits import RateLimiter
from airflow_provider_popin.client.outcomes import Outcome, Verdict, classify, error_for
from airflow_provider_popin.client.retrying import MAX_RETRY_AFTER_SECONDS, MAX_TRIES, backoff_seconds
from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.job_queue import JobQueue
from airflow_provider_popin.sync.jobs import BookingJob, CaptureJob, Job, Sending
from airflow_provider_popin.sync.ledger.events import Answer, Settled
from airflow_provider_popin.sync.ledger.ledger import Ledger, locked
from airflow_provider_popin.sync.ledger.writer import Applied, Writer
from airflow_provider_popin.sync.pacing import Pacer
from airflow_provider_popin.sync.stop_switch import StopSwitch

T = TypeVar("T")

log = logging.getLogger(__name__)

# After its intent a sender that was held up (a paused process, a slow disk) must not send: someone may act on
# the attempt from its deadline on.
LATEST_SEND_SECONDS = 2.0
# A lead may be unlucky MAX_TRIES times while others pass; the server is in trouble when nobody passes.
FAILURES_IN_A_ROW = 5
MOST_TRIES = 20
# How long an outcome that the ledger does not take is kept and tried again.
KEEP_OUTCOME_SECONDS = 60.0
KEEP_OUTCOME_HURRY_SECONDS = 1.0
KEEP_OUTCOME_PAUSE_SECONDS = 0.2
DRAIN_SECONDS = 3.0


class Desk(Protocol):
    """Who hands out the jobs and takes the results."""

    def wanted(self, job: Job) -> bool:
        """Whether to send this job now; if not, the desk has taken it back."""

    async def is_taken(self, job: BookingJob, outcome: Outcome) -> bool:
        """Whether a rejection is about the slot."""

    def done(self, job: Job, event: Settled, accepted: bool) -> None:
        """The outcome is durable."""

    def in_doubt(self, job: Job) -> None:
        """The answer was lost, just now; the outcome is on its way into the ledger."""

    def dropped(self, job: Job) -> None:
        """The run stopped before this job was sent."""


@dataclass(frozen=True, slots=True)
class _Settling:
    """An outcome on its way into the ledger."""

    job: Job
    event: Settled
    committed: Awaitable[Applied]


class ExchangeLoop:
    """Sends jobs, ``max_concurrency`` at once.

    :param sender: the HTTP sender
    :param ledger: where the leads are
    :param account: the account's name in it
    :param writer: the ledger's writer
    :param limiter: the rate limit of the connection
    :param config: the connection
    :param sending: on whose behalf
    :param switch: stops everything
    """

    def __init__(
        self,
        *,
        sender: AsyncSender,
        ledger: Ledger,
        account: str,
        writer: Writer,
        limiter: RateLimiter,
        config: ClientConfig,
        sending: Sending,
        switch: StopSwitch,
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._account = account
        self._writer = writer
        self._limiter = limiter
        self._config = config
        self._sending = sending
        self._switch = switch
        self.concurrency = config.max_concurrency
        self._failures_in_a_row = 0
        self._pacer = Pacer(self.concurrency)

    async def run(self, jobs: JobQueue, desk: Desk, *, one_is_idle: asyncio.Event | None = None) -> None:
        """Work until the queue ends. Stopped, the workers finish what is under way and send nothing more.

        :param jobs: ended by whoever fills it
        :param desk: see :class:`Desk`
        :param one_is_idle: set as soon as the first worker finds nothing more to do: its permit is free
        """
        idle = one_is_idle or asyncio.Event()
        workers = [asyncio.create_task(self._work(jobs, desk)) for _ in range(self.concurrency)]
        try:
            await self._watch(set(workers), idle)
        finally:
            idle.set()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        # Whoever fills the queue must not wait for workers that are gone.
        while (job := await jobs.next()) is not None:
            desk.dropped(job)

    async def _watch(self, workers: set[asyncio.Task[None]], one_is_idle: asyncio.Event) -> None:
        hurry = asyncio.create_task(self._switch.wait_hurry())
        try:
            while workers:
                done, _ = await asyncio.wait({*workers, hurry}, return_when=asyncio.FIRST_COMPLETED)
                for worker in done & workers:
                    failure = worker.exception()
                    if failure is not None:
                        self._switch.stop(failure)
                workers -= done
                one_is_idle.set()
                if hurry in done:
                    if workers:
                        await asyncio.wait(workers, timeout=DRAIN_SECONDS)
                    return
        finally:
            hurry.cancel()

    async def _work(self, jobs: JobQueue, desk: Desk) -> None:
        settling: _Settling | None = None
        try:
            while True:
                job = jobs.next_now()
                if job is None:
                    if settling is not None:
                        finished, settling = settling, None
                        await self._conclude(finished, desk)
                    job = await jobs.next()
                    if job is None:
                        return
                if self._switch.stopped:
                    desk.dropped(job)
                    continue
                pending, settling = settling, None
                settling = await self._send(job, desk, pending)
        finally:
            if settling is not None:
                await self._conclude(settling, desk)

    async def _send(self, job: Job, desk: Desk, previous: _Settling | None) -> _Settling | None:
        """Send one job, with its retries; the outcome may still be on its way into the ledger on return."""
        while True:
            if self._limiter.try_acquire() > 0:
                await self._concluded(previous, desk)
                previous = None
                if not await self._permit():
                    desk.dropped(job)
                    return None
            if not desk.wanted(job):
                return previous
            outcome, taken = await self._attempt(job, desk, previous)
            previous = None
            if outcome is None:
                return None
            if outcome.verdict is Verdict.UNKNOWN:
                desk.in_doubt(job)
            event = job.settled(outcome, self._sending, taken=taken)
            settling = _Settling(job, event, self._writer.apply(event))
            delay = self._retry_delay(job, outcome)
            if delay is None:
                return settling
            if not await self._conclude(settling, desk, final=False):
                return None
            await self._switch.sleep(delay)
            if self._switch.stopped:
                desk.dropped(job)
                return None

    async def _attempt(self, job: Job, desk: Desk, previous: _Settling | None) -> tuple[Outcome | None, bool]:
        """Intent, then POST. None: the intent was not to be had."""
        intent = self._writer.apply(job.intent(self._sending))
        try:
            await self._concluded(previous, desk)
            accepted, started = await asyncio.shield(intent)
            if accepted and (wait := self._pacer.wait(boot_seconds())):
                await asyncio.sleep(wait)
        except BaseException as error:
            await asyncio.shield(self._withdraw(job, intent))
            if not isinstance(error, LedgerError):
                raise
            self._switch.stop(error)
            desk.dropped(job)
            return None, False
        if not accepted:
            log.info("The lead %s is being sent by another run; this one leaves it alone.", job.lead_id)
            return None, False
        job.attempt += 1
        job.tries += 1
        try:
            outcome = await self._exchange(job, started)
            taken = (
                isinstance(job, BookingJob)
                and outcome.verdict is Verdict.REJECTED
                and await desk.is_taken(job, outcome)
            )
        except BaseException as error:
            # The one boundary round a POST whose intent is committed: whatever happened, it may be out.
            unknown = Outcome(Verdict.UNKNOWN, reason=_unforeseen(error))
            event = job.settled(unknown, self._sending)
            await asyncio.shield(self._conclude(_Settling(job, event, self._writer.apply(event)), desk))
            raise
        return outcome, taken

    async def _withdraw(self, job: Job, intent: Awaitable[Applied]) -> None:
        """Nothing was sent for this intent: without saying so, the lead would end in doubt for no reason."""
        try:
            accepted, _ = await intent
        except LedgerUnreachableError:
            accepted = True  # for all that is known: a commit may work without its answer
        except LedgerError:
            return
        if not accepted:
            return
        job.attempt += 1
        event = job.settled(Outcome(Verdict.NOT_SENT, reason="stopped"), self._sending)
        unsend = partial(self._unsend, event=event)
        try:
            await self._insist(lambda: self._writer.call(unsend))
        except LedgerError as error:
            log.warning("The %s was not sent, and the ledger cannot be told: %s", job.describe(), error)

    def _unsend(self, connection: Connection, event: Settled) -> None:
        record = locked(connection, [event.id]).get(event.id)
        # If the intent was not committed after all, the same attempt number may be another run's by now.
        if record is not None and record.claim_owner == self._sending.owner:
            self._ledger.apply(connection, self._account, [event])

    async def _exchange(self, job: Job, started: float) -> Outcome:
        if self._switch.stopped:
            return Outcome(Verdict.NOT_SENT, reason="stopped")
        if boot_seconds() - started > LATEST_SEND_SECONDS:
            return Outcome(Verdict.NOT_SENT, reason="too_late")
        began = boot_seconds()
        exchange = await self._sender.send(
            job.request(self._config.postal_code_field),
            not_after=started + LATEST_SEND_SECONDS + self._config.connect_timeout_seconds,
        )
        self._pacer.answered(boot_seconds() - began)
        return classify(job.endpoint, exchange, now=datetime.now(UTC), personal=job.personal())

    def _retry_delay(self, job: Job, outcome: Outcome) -> float | None:
        """How long to wait before the same job is sent again; None when this outcome is its last."""
        if outcome.verdict is Verdict.STOP:
            self._stop_for(job, outcome)
            return None
        if outcome.verdict in (Verdict.NOT_SENT, Verdict.RATE_LIMITED):
            return self._delay_of_unsent(job, outcome)
        self._failures_in_a_row = 0
        if outcome.verdict is Verdict.UNKNOWN and isinstance(job, CaptureJob):
            job.unknowns += 1
            return backoff_seconds(1) if job.unknowns == 1 else None
        return None

    def _delay_of_unsent(self, job: Job, outcome: Outcome) -> float | None:
        self._failures_in_a_row += 1
        wait = outcome.retry_after if outcome.verdict is Verdict.RATE_LIMITED else None
        hopeless = job.tries >= MAX_TRIES and self._failures_in_a_row >= FAILURES_IN_A_ROW
        if self._switch.stopped:
            return None
        if hopeless or job.tries >= MOST_TRIES or (wait or 0.0) > MAX_RETRY_AFTER_SECONDS:
            self._stop_for(job, outcome)
            return None
        delay = wait if wait is not None else backoff_seconds(job.tries)
        if outcome.verdict is Verdict.RATE_LIMITED:
            self._limiter.penalize(delay)
        return delay

    def _stop_for(self, job: Job, outcome: Outcome) -> None:
        self._switch.stop(error_for(outcome, job.request(self._config.postal_code_field)))

    async def _permit(self) -> bool:
        """Wait for the rate limit; False if the run stops first."""
        while not self._switch.stopped:
            wait = self._limiter.try_acquire()
            if wait <= 0:
                return True
            await self._switch.sleep(wait)
        return False

    async def _concluded(self, settling: _Settling | None, desk: Desk) -> None:
        if settling is not None:
            await self._conclude(settling, desk)

    async def _conclude(self, settling: _Settling, desk: Desk, *, final: bool = True) -> bool:
        """Wait until the outcome is durable, whatever it takes.

        :param final: tell the desk, because the job will not be sent again by this run
        :return: whether the ledger accepted the outcome; if not, the attempt is not this run's any more
        :raises LedgerError: the ledger did not take it in time; the lead stays ``sending``, then is in doubt
        """
        try:
            accepted, _ = await settling.committed
        except LedgerUnreachableError as error:
            accepted = await self._keep(settling, error)
        except LedgerError as error:
            # Not to be had by trying again; the lead stays `sending` and is in doubt later, but is named now.
            self._tell_lost(settling, error, "it will be in doubt")
            raise
        if settling.event.answer is Answer.UNKNOWN and isinstance(settling.job, BookingJob):
            # Now: what is killed, or stopped by something else, names nobody at its end.
            log.warning("The answer about the %s was lost: it is in doubt.", settling.job.describe())
        if settling.event.time_mismatch:
            log.warning("Popin confirmed the %s for another time.", settling.job.describe())
        if not accepted and settling.event.answer is Answer.SUCCESS and isinstance(settling.job, BookingJob):
            log.error(
                "Popin confirmed the %s; the lead was deleted from the ledger meanwhile: its call exists.",
                settling.job.describe(),
            )
        if final or not accepted:
            desk.done(settling.job, settling.event, accepted)
        return accepted

    async def _keep(self, settling: _Settling, error: LedgerUnreachableError) -> bool:
        self._switch.stop(error)
        self._tell_lost(settling, error, "it is kept and tried again")
        accepted, _ = await self._insist(lambda: self._writer.apply(settling.event))
        log.info("The ledger has taken the outcome of the %s.", settling.job.describe())
        return accepted

    @staticmethod
    def _tell_lost(settling: _Settling, error: LedgerError, what_now: str) -> None:
        log.error(
            "The ledger does not take the outcome %r of the %s (%s); %s: %s",
            settling.event.answer.value,
            settling.job.describe(),
            _detail(settling.event),
            what_now,
            error,
        )

    async def _insist(self, tell: Callable[[], Awaitable[T]]) -> T:
        """Tell the ledger again and again, until it listens or patience ends."""
        since = boot_seconds()
        while True:
            patience = KEEP_OUTCOME_HURRY_SECONDS if self._switch.hurry else KEEP_OUTCOME_SECONDS
            try:
                return await tell()
            except LedgerUnreachableError:
                if boot_seconds() - since > patience:
                    raise
                await asyncio.sleep(KEEP_OUTCOME_PAUSE_SECONDS)


def _detail(event: Settled) -> str:
    return (
        f"customer {event.customer_id}"
        if event.answer is Answer.SUCCESS and event.customer_id
        else "no customer"
    )


def _unforeseen(error: BaseException) -> str:
    return "stopped" if isinstance(error, asyncio.CancelledError) else f"unforeseen {type(error).__name__}"
