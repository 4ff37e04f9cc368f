"""The closest open-source tool, ``drt-core``, on the capture step: its command line and REST destination.

One sync sends its rows one after the other; ``drt run --threads N`` runs syncs at once. So there are two ways
to use it, and both are measured: one sync for all leads, and one sync for each of so many slices of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path

from benchmarks.cpu import children_cpu_seconds, pinned
from benchmarks.people import people
from benchmarks.subjects.subject import API_KEY, SELLER_TOKEN, Figures, Job

_PROJECT = "name: benchmark\nversion: '1'\nprofile: benchmark\n"
_PROFILE = "benchmark:\n  type: sqlite\n  database: {database}\n"
# The rate limit is drt's own notion of none: it has no switch to turn it off.
_SYNC = """\
name: capture_{part}
model: "SELECT id, name, phone, email FROM leads WHERE number % {parts} = {part}"
destination:
  type: rest_api
  url: {url}/api/v1/external/capture
  method: POST
  headers:
    Accept: application/json
    Content-Type: application/json
    X-API-KEY: {key}
    X-TOKEN: "{token}"
  body_template: |
    {{"name": {{{{ row.name | tojson }}}}, "mobile": {{{{ row.phone | tojson }}}}, "country": "1",
     "email": {{{{ row.email | tojson }}}}, "campaign": {{"test_lead": {{{{ row.id | tojson }}}}}}}}
sync:
  mode: full
  batch_size: 1000
  on_error: fail
  rate_limit:
    requests_per_second: 1000000
"""


def run(job: Job, *, python: Path, folder: Path, core: int) -> Figures:
    """Run one cell.

    :param job: captures only; its concurrency is the number of syncs and threads
    :param python: the interpreter of drt's environment
    :param folder: empty, for the project
    :param core: the processor core it may use
    """
    _write_project(job, folder)
    # Neither the user's own profiles nor drt's telemetry have a part in this.
    environment = os.environ | {"HOME": str(folder), "DO_NOT_TRACK": "1"}
    command = [str(python.with_name("drt")), "run", "--output", "json", "--threads", str(job.concurrency)]
    cpu, began = children_cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        pinned(command, core), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds, cpu = time.perf_counter() - began, children_cpu_seconds() - cpu
    if done.returncode:
        raise RuntimeError(f"drt ended with {done.returncode}: {done.stdout[-2000:]}")
    # The start of a process counts for nobody, so it does not count for drt.
    seconds -= _start_seconds(folder, python, core, environment)
    return Figures(leads=_rows_synced(done.stdout), seconds=seconds, cpu_seconds=cpu, peak_rss_mb=0.0)


def _start_seconds(folder: Path, python: Path, core: int, environment: dict[str, str]) -> float:
    """How long drt takes to start and to read the same project."""
    command = [str(python.with_name("drt")), "list"]
    began = time.perf_counter()
    subprocess.run(pinned(command, core), cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def _write_project(job: Job, folder: Path) -> None:
    (folder / ".drt").mkdir(parents=True)
    (folder / "syncs").mkdir()
    database = folder / "leads.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE leads (number INTEGER PRIMARY KEY, id, name, phone, email)")
        connection.executemany(
            "INSERT INTO leads VALUES (?, ?, ?, ?, ?)",
            (
                (number, person["id"], person["name"], person["phone"], person["email"])
                for number, person in enumerate(people(job.leads))
            ),
        )
    connection.close()
    (folder / "drt_project.yml").write_text(_PROJECT)
    (folder / ".drt" / "profiles.yml").write_text(_PROFILE.format(database=database))
    for part in range(job.concurrency):
        text = _SYNC.format(part=part, parts=job.concurrency, url=job.url, key=API_KEY, token=SELLER_TOKEN)
        (folder / "syncs" / f"capture_{part}.yml").write_text(text)


def _rows_synced(output: str) -> int:
    answer = json.loads(output[output.index("{") :])
    return sum(sync["rows_synced"] for sync in answer["syncs"])
