"""How outcomes and intents go into the ledger together, and what a stop does between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.limits import RateLimiter
from airflow_provider_popin.client.outcomes import Outcome
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import exchange_loop
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.exchange_loop import ExchangeLoop, _Settling
from airflow_provider_popin.sync.jobs import BookingJob, CaptureJob, Job, Sending
from airflow_provider_popin.sync.ledger.events import Answer, Settled
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.ledger.writer import Applied, Writer
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.stop_switch import StopSwitch
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.faults.people import lead_rows
from tests.sync.ledgers import (
    ACCOUNT,
    OWNER,
    RUN,
    add_lead,
    apply,
    capture_intent,
    lead_in,
    record,
    settled,
)


def test_a_lead_costs_one_commit_where_one_follows_the_other(
    sqlite_ledger: Ledger, sandbox: SandboxServer
) -> None:
    """With one worker, each outcome shares its commit with the next intent."""
    commits: list[object] = []
    config = ClientConfig(base_url=sandbox.url, seller_token=SELLER_TOKEN, api_key=API_KEY)
    settings = SyncSettings(source="crm", steps=("capture",), max_concurrency=1, requests_per_second=0)
    sync = LeadSync(
        settings=settings, config=config, ledger=sqlite_ledger, run=RunIdentity(dag_run="dag/run/task")
    )
    sa.event.listen(sqlite_ledger.engine, "commit", commits.append)
    report = sync.run(lead_rows(40))
    assert report.results["captured"] == 40
    # The rest is a chunk of rows, beginning, end and report. One by one it would be 80 and more.
    assert 40 < len(commits) <= 55


@dataclass
class Desk:
    """Notes what it is told."""

    dropped_jobs: list[Job] = field(default_factory=list)

    def wanted(self, job: Job) -> bool:
        return True

    async def is_taken(self, job: BookingJob, outcome: Outcome) -> bool:
        return False

    def done(self, job: Job, event: Settled, accepted: bool) -> None:
        pass

    def in_doubt(self, job: Job) -> None:
        pass

    def dropped(self, job: Job) -> None:
        self.dropped_jobs.append(job)


@dataclass
class Between:
    """A worker between the outcome of one lead and the intent of the next."""

    ledger: Ledger
    loop: ExchangeLoop
    switch: StopSwitch
    desk: Desk
    job: CaptureJob
    previous: _Settling
    committed: asyncio.Future[Applied]


@pytest.fixture
async def between(ledger: Ledger) -> AsyncIterator[Between]:
    config = ClientConfig(base_url="http://127.0.0.1:1", seller_token="51", api_key="key")
    lead = make_lead(name="Ann Example", mobile="+12025550123")
    job = CaptureJob(add_lead(ledger, "next"), "next", 0, lead, BookingWish())
    before = CaptureJob(lead_in(ledger, "capture_sending", "before"), "before", 1, lead, BookingWish())
    switch, writer = StopSwitch(), Writer(ledger, ACCOUNT)
    switch.attach()
    loop = ExchangeLoop(
        sender=AsyncSender(config),
        ledger=ledger,
        account=ACCOUNT,
        writer=writer,
        limiter=RateLimiter(0),
        config=config,
        sending=Sending(OWNER, RUN, 30.0),
        switch=switch,
    )
    committed: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
    previous = _Settling(before, settled(before.record, Answer.SUCCESS), committed)
    yield Between(ledger, loop, switch, Desk(), job, previous, committed)
    await asyncio.to_thread(writer.close)


async def test_an_intent_is_withdrawn_when_the_outcome_before_it_is_lost(between: Between) -> None:
    """Nothing was sent for it: it must not end in doubt."""
    between.committed.set_exception(LedgerError("cannot be stored"))
    told = await between.loop._attempt(between.job, between.desk, between.previous)
    assert told == (None, False)
    assert isinstance(between.switch.failure, LedgerError)
    assert between.desk.dropped_jobs == [between.job]
    found = record(between.ledger, between.job.record)
    assert (found.capture_state, found.attempt, found.capture_doubted) == ("new", 1, False)


async def test_an_intent_is_withdrawn_when_its_worker_is_cancelled(between: Between) -> None:
    working = asyncio.create_task(between.loop._attempt(between.job, between.desk, between.previous))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert record(between.ledger, between.job.record).capture_state == "new"


async def test_an_intent_that_the_ledger_refuses_to_store_stops_the_run(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[bool]:
        raise LedgerError("no such table")

    between.committed.set_result((True, 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(between.ledger, "apply", broken)
        told = await between.loop._attempt(between.job, between.desk, between.previous)
    assert told == (None, False)
    assert isinstance(between.switch.failure, LedgerError)
    assert between.desk.dropped_jobs == [between.job]
    assert record(between.ledger, between.job.record).capture_state == "new"


async def test_a_lead_that_another_run_has_is_left_alone(
    between: Between, caplog: pytest.LogCaptureFixture
) -> None:
    between.committed.set_result((True, 0.0))
    # Another run has begun an attempt since this job was made.
    assert apply(between.ledger, capture_intent(between.job.record)) == [True]
    with caplog.at_level("INFO", logger=exchange_loop.__name__):
        told = await between.loop._attempt(between.job, between.desk, between.previous)
    assert told == (None, False)
    assert "lead next is being sent by another run" in caplog.text
    assert between.job.attempt == 0
