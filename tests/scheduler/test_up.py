"""``make up`` as a person starts it: leads come in, calls are booked and end, and nobody clicks anything."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from scripts import local_airflow
from scripts.ports import free_port
from tests.airflow_runs import IS_AIRFLOW_3

pytestmark = [
    pytest.mark.scheduler,
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="airflow standalone is started on Airflow 3.3 only"),
]

START_SECONDS = 240
MOVE_SECONDS = 300
OUTCOMES = ("popin_call_successful", "popin_call_missed", "popin_call_abandoned")


@dataclass
class Up:
    """What runs, and where to look."""

    process: subprocess.Popen[bytes]
    place: Path
    airflow: str
    sandbox: str

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Ask one of the databases; nothing, as long as it has no such table."""
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(self.place / database)) as connection,
        ):
            return connection.execute(query).fetchall()
        return []

    def wait_for(self, question: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until a question is answered with yes."""
        deadline = time.monotonic() + seconds
        while not question():
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(1)

    def told(self) -> list[dict[str, Any]]:
        """What the sandbox told by webhook, and how it was answered."""
        rows: list[dict[str, Any]] = requests.get(f"{self.sandbox}/_sandbox/webhooks", timeout=30).json()[
            "webhooks"
        ]
        return rows

    def bookings(self) -> dict[int, tuple[str, int]]:
        """Customer and start of what the sandbox booked, by the number of the request."""
        rows = requests.get(f"{self.sandbox}/_sandbox/bookings", timeout=30).json()["bookings"]
        return {
            row["request_n"]: (row["customer_id"], int(datetime.fromisoformat(row["start"]).timestamp()))
            for row in rows
        }


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Start everything, once for this module, and end it as Ctrl-C does."""
    place = tmp_path_factory.mktemp("up") / "up"
    ports = free_port(), free_port()
    options = ["--port", str(ports[0]), "--sandbox-port", str(ports[1]), "--place", str(place)]
    # As in the background of a shell script, which has it ignore SIGINT.
    in_the_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    process = subprocess.Popen(
        [*in_the_background, sys.executable, "-m", "scripts.up", *options],
        cwd=local_airflow.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=local_airflow.without_airflow(os.environ),
    )
    try:
        running = Up(process, place, f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
        running.wait_for(
            lambda: running.rows("ledger.db", "SELECT 1 FROM popin_leads LIMIT 1"),
            START_SECONDS,
            "a first lead",
        )
        assert len(processes_at(place)) > 4
        yield running
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=60)[0].decode()
        assert process.returncode == 0, printed
        assert "Everything is stopped" in printed
        assert not processes_at(place)
    finally:
        process.kill()
        for left in processes_at(place):
            with suppress(psutil.Error):
                left.kill()
        process.communicate()


def processes_at(place: Path) -> list[psutil.Process]:
    """All processes of the Airflow that lives in a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("AIRFLOW_HOME", "").startswith(str(place)):
                found.append(process)
    return found


def test_everything_moves_without_a_click(up: Up) -> None:
    up.wait_for(
        lambda: up.rows("crm.db", "SELECT 1 FROM leads WHERE id LIKE 'W-%' AND popin_state = 'booked'"),
        MOVE_SECONDS,
        "the call of a lead that came in later",
    )
    up.wait_for(
        lambda: up.rows("crm.db", "SELECT 1 FROM leads WHERE popin_outcome = 'successful'"),
        MOVE_SECONDS,
        "an outcome in the CRM",
    )
    up.wait_for(
        lambda: up.rows(
            "ledger.db", "SELECT 1 FROM popin_leads WHERE generation = 2 AND booking_state = 'booked'"
        ),
        MOVE_SECONDS,
        "a second call of somebody who missed the first",
    )


def test_what_the_ledger_heard_is_what_was_told(up: Up) -> None:
    told = up.told()
    assert {row["status"] for row in told if row["state"] == "answered"} == {200}
    bookings = up.bookings()
    ended = {
        bookings[row["request_n"]]: row["event"].removeprefix("popin_call_")
        for row in told
        if row["event"] in OUTCOMES and row["state"] == "answered"
    }

    def heard() -> dict[tuple[str, int], str]:
        query = "SELECT customer_id, slot_start, outcome FROM popin_leads WHERE outcome IS NOT NULL"
        return {(customer, start): outcome for customer, start, outcome in up.rows("ledger.db", query)}

    assert ended
    up.wait_for(lambda: ended.items() <= heard().items(), 60, "the last outcomes")


def test_one_booking_needs_a_person(up: Up) -> None:
    doubts = up.rows(
        "ledger.db", "SELECT customer_id, slot_start FROM popin_leads WHERE booking_state = 'in_doubt'"
    )
    assert len(doubts) == 1
    assert doubts[0] not in up.bookings().values(), "the webhook of a booking that exists ends its doubt"


def test_page_shows_it(up: Up) -> None:
    page = requests.get(f"{up.airflow}/popin/page/", timeout=30)
    if page.status_code == 401:  # the UI's login is a redirect that sets a cookie
        session = requests.Session()
        session.get(f"{up.airflow}/", timeout=30)
        page = session.get(f"{up.airflow}/popin/page/", timeout=30)
    assert page.status_code == 200
    assert "Needs a person" in page.text
