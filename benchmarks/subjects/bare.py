"""A bare aiohttp loop, the floor that the lead sync is measured by: no ledger, no validation, no plan.

The sessions have the settings of the provider's own sender, so that what is compared is the work around the
requests and not the way they are sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

import aiohttp
import uvloop

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.protocol import headers
from benchmarks.people import Person, capture_fields, people
from benchmarks.subjects.subject import Figures, Job, config_for, report, timed


@dataclass(frozen=True, slots=True)
class _Sessions:
    kept: aiohttp.ClientSession
    schedule: aiohttp.ClientSession
    api: str

    async def post(self, session: aiohttp.ClientSession, path: str, fields: dict[str, object]) -> str:
        body = json.dumps(fields).encode()
        async with session.post(
            self.api + path, data=body, headers={"Content-Type": "application/json"}, allow_redirects=False
        ) as response:
            payload = json.loads(await response.read())
        if payload["status"] != 1:
            raise RuntimeError(f"the sandbox answered {response.status}")
        return str(payload.get("customer_id"))

    async def slots(self) -> list[str]:
        async with self.kept.get(self.api + "/slots") as response:
            payload = json.loads(await response.read())
        # The first hour is left out, as a notice of half an hour and a long run would.
        return [f"{day['date']} {slot}" for day in payload["availability"] for slot in day["slots"]][4:]


def main() -> None:
    """Run one cell and print its figures."""
    job = Job.from_arguments()
    with (
        timed() as clock,
        asyncio.Runner(loop_factory=uvloop.new_event_loop if job.uvloop else None) as runner,
    ):
        done = runner.run(_run(job, config_for(job)))
    report(Figures.of(clock, leads=done))


async def _run(job: Job, config: ClientConfig) -> int:
    async with _session(config, keep=True) as kept, _session(config, keep=False) as fresh:
        sessions = _Sessions(kept, fresh if job.fresh_connections else kept, f"{job.url}/api/v1/external")
        slots = islice(cycle(await sessions.slots()), job.leads)
        work = zip(people(job.leads), slots, strict=True)
        workers = [asyncio.create_task(_work(sessions, work, job)) for _ in range(job.concurrency)]
        return sum(await asyncio.gather(*workers))


async def _work(sessions: _Sessions, work: Iterator[tuple[Person, str]], job: Job) -> int:
    done = 0
    for person, slot in work:
        customer_id = await sessions.post(sessions.kept, "/capture", capture_fields(person))
        if "schedule" in job.steps:
            await sessions.post(sessions.schedule, "/schedule", {"customer_id": customer_id, "time": slot})
        done += 1
    return done


def _session(config: ClientConfig, *, keep: bool) -> aiohttp.ClientSession:
    connector = (
        aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, keepalive_timeout=4.0)
        if keep
        else aiohttp.TCPConnector(limit=0, ttl_dns_cache=60, force_close=True)
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers(config),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=config.timeout_seconds, connect=config.connect_timeout_seconds),
        auto_decompress=False,
    )


if __name__ == "__main__":
    main()
