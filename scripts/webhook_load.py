"""``make load-test``: webhooks at a steady rate into Airflow's real API server; how fast, and is any lost?

Starts ``airflow api-server`` on loopback with a home of its own, delivers different bodies at times that do
not wait for answers, and then looks into the ledger: every delivery that was answered with 2xx must be there.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import psutil
import requests
import sqlalchemy as sa

from airflow_provider_popin.sync.ledger import ledger_queries, schema
from airflow_provider_popin.sync.ledger.ledger import Ledger
from scripts import local_airflow
from scripts.ports import HOST, free_port
from scripts.stopping import interrupted_once

KEY = "load-test-key-5d1f"
CONN_ID = "popin_load"
ACCOUNT = "shop"
MEDIAN_GOAL_SECONDS = 0.1
_START_SECONDS = 120.0
_PROCESSING_SECONDS = 60.0
_WARM_UP = range(900_000_000, 900_000_020)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one delivery.

    :param number: of the delivery; in its body as ``user_id``.
    :param status: of the answer; 0 where none came.
    :param seconds: from the moment at which it was due until its answer.
    """

    number: int
    status: int
    seconds: float


class ApiServer:
    """``airflow api-server``, in processes of its own.

    :param environment: with ``AIRFLOW_HOME`` of an Airflow whose database exists.
    :param log: file for what it writes.
    :param workers: processes that serve.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, *, workers: int = 1) -> None:
        self.port = free_port()
        self._environment = environment
        self._log = log
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        :raises RuntimeError: it does not.
        """
        command = [str(Path(sys.executable).with_name("airflow")), "api-server", "--host", HOST]
        # Without the part that tasks talk to, which takes seconds to start.
        command += ["--port", str(self.port), "--workers", str(self._workers), "--apps", "core"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the API server did not start; see {self._log}")
            time.sleep(0.1)

    def kill(self) -> None:
        """``kill -9``: all its processes, at once."""
        if self._process is not None:
            # Its own session, so its own group: nobody else is in it.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def cpu_seconds(self) -> float:
        """Processor time that its processes have used so far."""
        if self._process is None:
            return 0.0
        parent = psutil.Process(self._process.pid)
        times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))

    def _answers(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/api/v2/version", timeout=2).ok
        return False


async def deliver(
    url: str,
    numbers: Sequence[int],
    *,
    rate: float,
    connections: int = 100,
    told: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """Deliver at a steady rate, whatever the answers take.

    :param url: of the webhook.
    :param numbers: of the deliveries, in order; each body is another.
    :param rate: per second; 0 sends as fast as the connections allow.
    :param connections: at most so many at a time.
    :param told: called with each answer as it comes.
    :return: one answer for each.
    """
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        begin = time.monotonic()

        async def one(place: int, number: int) -> Answer:
            due = begin + (place / rate if rate else 0.0)
            await asyncio.sleep(due - time.monotonic())
            status = await _post(session, url, number)
            answer = Answer(number, status, time.monotonic() - due)
            told(answer)
            return answer

        return await asyncio.gather(*(one(*numbered) for numbered in enumerate(numbers)))


async def _post(session: aiohttp.ClientSession, url: str, number: int) -> int:
    headers = {"X-API-KEY": KEY, "Content-Type": "application/json"}
    try:
        async with session.post(url, data=body(number), headers=headers) as answer:
            await answer.read()
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


def body(number: int) -> bytes:
    """Return a delivery as Popin documents it, of a person who does not exist.

    :param number: gives the customer, and so another body.
    """
    event = {
        "event": "popin_call_missed",
        "user_id": str(number),
        "email": f"lead{number}@example.com",
        "country_code": "91",
        "phone_number": f"95445{number % 100_000:05}",
        "full_phone_number": f"+9195445{number % 100_000:05}",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {
            "customer_name": f"Lead {number}",
            "url": "https://example.com/ring",
            "product": "Ring",
        },
    }
    return json.dumps(event).encode()


def stored_numbers(ledger: Path) -> Counter[int]:
    """Return the deliveries that a SQLite ledger holds, and how often.

    :param ledger: its file.
    """
    with closing(sqlite3.connect(ledger)) as connection:
        rows = connection.execute("SELECT customer_id FROM popin_events WHERE kind = 'missed'").fetchall()
    return Counter(int(base64.b64decode(customer_id)) for (customer_id,) in rows)


def book_calls(ledger: Ledger, user_ids: Sequence[int]) -> None:
    """Put a call into the ledger for each of Popin's users, an hour ago; the lead of user 7 is ``lead-7``.

    :param ledger: without these leads.
    :param user_ids: decimal ids, as webhooks name them.
    """
    begin = int(time.time()) - 3600
    lead_ids = {user_id: f"lead-{user_id}" for user_id in user_ids}
    with ledger.write() as connection:
        leads = [{"lead_id": lead_id, "generation": 1} for lead_id in lead_ids.values()]
        ledger_queries.insert_leads(connection, ACCOUNT, "crm", leads)
        connection.execute(
            schema.leads.update()
            .where(schema.leads.c.lead_id == sa.bindparam("of_lead"))
            .values(
                capture_state="captured",
                booking_state="booked",
                customer_id=sa.bindparam("customer"),
                slot_start=begin,
                slot_timezone="Asia/Kolkata",
            ),
            [
                {"of_lead": lead_id, "customer": base64.b64encode(str(user_id).encode()).decode()}
                for user_id, lead_id in lead_ids.items()
            ],
        )


def waiting(ledger: Path) -> int:
    """Return how many deliveries were not processed yet, and how many asset events not emitted.

    :param ledger: SQLite file.
    """
    question = (
        "SELECT (SELECT count(*) FROM popin_events WHERE due_at IS NOT NULL AND tries = 0)"
        " + (SELECT count(*) FROM popin_outbox)"
    )
    with closing(sqlite3.connect(ledger)) as connection:
        return int(connection.execute(question).fetchone()[0])


def connections(ledger: Path) -> dict[str, dict[str, object]]:
    """Return Airflow connections of a Popin account and its ledger.

    :param ledger: SQLite file.
    """
    extra = {"webhook_key": KEY, "ledger_conn_id": "popin_load_ledger", "account": ACCOUNT}
    return {
        CONN_ID: {"conn_type": "popin", "login": "51", "password": "load-test-api-key", "extra": extra},
        "popin_load_ledger": {"conn_type": "sqlite", "host": str(ledger)},
    }


@contextmanager
def own_airflow(folder: Path, ledger: Path, *, workers: int) -> Iterator[ApiServer]:
    """Run an API server with an Airflow home of its own.

    :param folder: for everything that it writes.
    :param ledger: SQLite file of the ledger.
    :param workers: processes that serve.
    """
    (folder / "dags").mkdir()
    environment = local_airflow.without_airflow(os.environ) | local_airflow.environment(
        folder / "home", dags=folder / "dags", connections=connections(ledger), variables={}
    )
    create = "from airflow.utils.db import initdb; initdb()"
    subprocess.run([sys.executable, "-c", create], env=environment, check=True, capture_output=True)
    server = ApiServer(environment, folder / "api-server.log", workers=workers)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def report(answers: Sequence[Answer], stored: Counter[int], *, elapsed: float) -> tuple[str, bool]:
    """Say how it went.

    :param answers: of all deliveries.
    :param stored: from :func:`stored_numbers`.
    :param elapsed: seconds that all deliveries took.
    :return: text, and whether all is well.
    """
    accepted = [answer for answer in answers if 200 <= answer.status < 300]
    lost = [answer.number for answer in accepted if not stored[answer.number]]
    twice = [number for number, times in stored.items() if times > 1]
    silent = [answer for answer in answers if answer.status == 0]
    times = sorted(answer.seconds for answer in accepted) or [float("inf")]
    median = statistics.median(times)
    counts = sorted(Counter(answer.status for answer in answers).items())
    statuses = ", ".join(f"{count} x {status}" for status, count in counts)
    text = (
        f"{len(answers)} deliveries in {elapsed:.1f} s ({len(answers) / elapsed:.0f}/s): {statuses}\n"
        f"median {median * 1000:.1f} ms (goal: below {MEDIAN_GOAL_SECONDS * 1000:.0f} ms), "
        f"p99 {times[int(len(times) * 0.99)] * 1000:.1f} ms, slowest {times[-1] * 1000:.1f} ms\n"
        f"answered with 2xx and not in the ledger: {len(lost)}; stored twice: {len(twice)}; "
        f"without any answer: {len(silent)}"
    )
    return text, not (lost or twice or silent) and median < MEDIAN_GOAL_SECONDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test.

    :param arguments: of the command line.
    :return: exit code: 0 if nothing was lost and the median is below 100 ms, 130 when stopped.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="deliveries per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=1, help="processes of the API server")
    given = parser.parse_args(arguments)
    try:
        with interrupted_once(), tempfile.TemporaryDirectory(prefix="popin-load-") as name:
            return _measure(Path(name), range(1, int(given.rate * given.seconds) + 1), given)
    except KeyboardInterrupt:
        # The delivery that it hit would tell of it once more, with a traceback.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        print("load-test: stopped", file=sys.stderr)
        return 130


def _measure(folder: Path, numbers: Sequence[int], given: argparse.Namespace) -> int:
    path = folder / "ledger.db"
    ledger = Ledger.open(sa.create_engine(f"sqlite:///{path}", future=True))
    book_calls(ledger, numbers)
    ledger.engine.dispose()
    print("Starting Airflow's API server ...", flush=True)
    with own_airflow(folder, path, workers=given.workers) as server:
        url = f"{server.url}/popin/webhooks/{CONN_ID}"
        # The first ones open the ledger.
        asyncio.run(deliver(url, _WARM_UP, rate=50))
        begin, cpu = time.monotonic(), server.cpu_seconds()
        answers = asyncio.run(deliver(url, numbers, rate=given.rate))
        elapsed = time.monotonic() - begin
        while waiting(path) and time.monotonic() < begin + elapsed + _PROCESSING_SECONDS:
            time.sleep(0.05)
        behind = time.monotonic() - begin - elapsed
        left, cpu = waiting(path), server.cpu_seconds() - cpu
    text, good = report(answers, stored_numbers(path), elapsed=elapsed)
    print(text)
    print(f"all processed and emitted {behind:.1f} s after the last answer; still waiting: {left}")
    each = cpu / len(answers) * 1000
    print(f"the API server's processor time for each, from receipt to Airflow: {each:.1f} ms")
    return 0 if good and not left else 1


if __name__ == "__main__":
    sys.exit(main())
