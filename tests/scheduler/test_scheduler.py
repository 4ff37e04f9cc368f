"""The examples under Airflow's own scheduler, executor and supervisor: ``airflow standalone``, for real."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from scripts import crm, local_airflow
from scripts.ports import free_port
from scripts.standalone import Standalone
from scripts.up import make_standalone
from tests.airflow_runs import IS_AIRFLOW_3

pytestmark = [
    pytest.mark.scheduler,
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="airflow standalone is started on Airflow 3.3 only"),
]

SYNC = "popin_crm_sync"
TASK = "sync_leads"
ENDED = ("success", "failed")
BOOKINGS_BEFORE_THE_KILL = 40
# So long nobody else touches the leads of a task that died.
LEASE_SECONDS = 95
MAX_CONCURRENCY = 8


@dataclass
class Stage:
    """An Airflow with the examples, and the Popin that it talks to."""

    airflow: Standalone
    popin: SandboxServer
    place: Path

    def start(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Unpause a Dag, trigger a run of it, and return the run's id."""
        self.airflow.ask("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        body = {"logical_date": None, "conf": conf}
        return str(self.airflow.ask("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.airflow.ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def end(self, dag_id: str, run_id: str) -> str:
        """Wait for the end of a run and return its state."""
        self.airflow.wait_for(
            lambda: self.state(dag_id, run_id) in ENDED, seconds=120, what=f"the end of {dag_id}"
        )
        return self.state(dag_id, run_id)

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return a task instance."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        instance: dict[str, Any] = self.airflow.ask("GET", path)
        return instance

    def ledger(self) -> dict[str, str]:
        """Return what the ledger says: customer to state of the booking."""
        with closing(sqlite3.connect(self.place / "ledger.db")) as connection:
            return dict(
                connection.execute(
                    "SELECT customer_id, booking_state FROM popin_leads WHERE customer_id <> ''"
                )
            )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start everything, once for this module."""
    place = tmp_path_factory.mktemp("scheduler") / "up"
    settings = SandboxSettings(
        api_key=local_airflow.API_KEY, token=local_airflow.SELLER_TOKEN, latency_ms=250
    )
    with SandboxServer(settings) as popin:
        airflow = make_standalone(place, port=free_port(), sandbox_url=popin.url)
        file = airflow.dags / f"{SYNC}.py"
        patient = '"retry_delay": timedelta(minutes=2)'
        assert patient in file.read_text("utf-8")
        file.write_text(
            file.read_text("utf-8").replace(patient, f'"retry_delay": timedelta(seconds={LEASE_SECONDS})'),
            "utf-8",
        )
        with airflow:
            yield Stage(airflow, popin, place)
        assert airflow.processes() == []


def test_one_lead_has_a_link_to_join_the_call(stage: Stage) -> None:
    run = stage.start("popin_one_lead", {"lead_id": "S-1", "hours": "00:00-00:00"})
    assert stage.end("popin_one_lead", run) == "success"
    links = stage.airflow.ask("GET", f"/dags/popin_one_lead/dagRuns/{run}/taskInstances/capture/links")
    (customer,) = stage.popin.customers()
    assert links["extra_links"] == {"Join call": customer["url"]}
    assert len(stage.popin.bookings()) == 1


def test_killed_task_is_retried_and_nobody_is_booked_twice(stage: Stage) -> None:
    already = len(stage.popin.bookings())
    # Unpaused, the Dag gets its first run from its schedule.
    stage.airflow.ask("PATCH", f"/dags/{SYNC}", json={"is_paused": False})
    runs = f"/dags/{SYNC}/dagRuns"
    stage.airflow.wait_for(
        lambda: bool(stage.airflow.ask("GET", runs)["dag_runs"]), seconds=60, what="a scheduled run"
    )
    run = str(stage.airflow.ask("GET", runs)["dag_runs"][0]["dag_run_id"])
    assert run.startswith("scheduled__")
    stage.airflow.wait_for(
        lambda: len(stage.popin.bookings()) >= already + BOOKINGS_BEFORE_THE_KILL,
        seconds=60,
        what="the first bookings",
    )
    first_try = stage.task(SYNC, run, TASK)
    os.kill(int(first_try["pid"]), signal.SIGKILL)

    stage.airflow.wait_for(
        lambda: stage.task(SYNC, run, TASK)["try_number"] == 2, seconds=LEASE_SECONDS + 30, what="the retry"
    )
    # It books the rest, and then says by failing what a person must look at.
    assert stage.end(SYNC, run) == "failed"
    stage.popin.wait_idle()

    stats = stage.popin.stats()
    assert stats["bookings_per_customer_max"] == 1
    ledger = stage.ledger()
    on_the_server = {booking["customer_id"] for booking in stage.popin.bookings()}
    assert {ledger[customer] for customer in on_the_server} <= {"booked", "in_doubt"}
    in_doubt = [customer for customer, state in ledger.items() if state == "in_doubt"]
    # The requests that were under way at the kill; every other lead has its call.
    assert 0 < len(in_doubt) <= MAX_CONCURRENCY
    assert set(ledger.values()) <= {"booked", "in_doubt", "unassigned"}
    booked = [customer for customer, state in ledger.items() if state == "booked"]
    assert set(booked) <= on_the_server
    states = crm.count_states(stage.place / "crm.db")
    assert states["booked"] > 140
