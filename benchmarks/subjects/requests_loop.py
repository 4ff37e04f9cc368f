"""What one would write first: a ``@task`` that goes through the leads with requests, one after the other."""

from __future__ import annotations

from itertools import cycle

import requests

from airflow_provider_popin.client.protocol import headers
from benchmarks.people import capture_fields, people
from benchmarks.subjects.subject import Figures, Job, config_for, report, timed

_TIMEOUT_SECONDS = 30


def main() -> None:
    """Run one cell and print its figures."""
    job = Job.from_arguments()
    with timed() as clock:
        done = _run(job)
    report(Figures.of(clock, leads=done))


def _run(job: Job) -> int:
    api = f"{job.url}/api/v1/external"
    done = 0
    with requests.Session() as session:
        session.headers.update(headers(config_for(job)))
        for person, slot in zip(people(job.leads), cycle(_slots(session, api)), strict=False):
            customer = _post(session, f"{api}/capture", capture_fields(person))
            _post(session, f"{api}/schedule", {"customer_id": customer["customer_id"], "time": slot})
            done += 1
    return done


def _slots(session: requests.Session, api: str) -> list[str]:
    payload = session.get(f"{api}/slots", timeout=_TIMEOUT_SECONDS).json()
    # The first hour is left out, as a notice of half an hour would.
    return [f"{day['date']} {slot}" for day in payload["availability"] for slot in day["slots"]][4:]


def _post(session: requests.Session, url: str, fields: dict[str, object]) -> dict[str, object]:
    reply = session.post(url, json=fields, timeout=_TIMEOUT_SECONDS)
    reply.raise_for_status()
    payload: dict[str, object] = reply.json()
    if payload["status"] != 1:
        raise RuntimeError(f"the sandbox answered {reply.status_code} with status {payload['status']}")
    return payload


if __name__ == "__main__":
    main()
