"""Slots start a Dag under Airflow's own triggerer, and a triggerer that dies tells nothing twice.

What the task tells OpenLineage and statsd, it tells from a worker here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from scripts import local_airflow
from scripts.ports import free_port
from scripts.standalone import Standalone
from scripts.up import make_standalone
from tests.airflow_runs import IS_AIRFLOW_3
from tests.operators.statsd_listener import StatsdListener

pytestmark = [
    pytest.mark.scheduler,
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="Airflow 3 has asset watchers"),
]

DAG = "popin_slots_open"
# After so long without a heartbeat, another triggerer takes over.
DEAD_AFTER_SECONDS = 5


@pytest.fixture
def popin() -> Iterator[SandboxServer]:
    """Yield a Popin with more slots than leads."""
    settings = SandboxSettings(api_key=local_airflow.API_KEY, token=local_airflow.SELLER_TOKEN)
    with SandboxServer(settings) as server:
        yield server


@pytest.fixture
def statsd() -> Iterator[StatsdListener]:
    """Yield a server for metrics."""
    with StatsdListener() as listener:
        yield listener


@pytest.fixture
def airflow(popin: SandboxServer, statsd: StatsdListener, tmp_path: Path) -> Iterator[Standalone]:
    """Yield an Airflow that knows this example only, with a trigger that looks every second."""
    airflow = make_standalone(tmp_path / "up", port=free_port(), sandbox_url=popin.url)
    for file in airflow.dags.glob("*.py"):
        if file.stem != DAG:
            file.unlink()
    file = airflow.dags / f"{DAG}.py"
    slow = "poll_interval=60"
    assert slow in file.read_text("utf-8")
    file.write_text(file.read_text("utf-8").replace(slow, "poll_interval=1"), "utf-8")
    airflow.settings = {
        **airflow.settings,
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(DEAD_AFTER_SECONDS),
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(tmp_path / "lineage.jsonl"), "append": True}
        ),
        # Airflow's own metrics would fill the socket while nobody reads.
        **statsd.settings(metrics_allow_list="popin"),
    }
    with airflow:
        yield airflow


def test_new_slots_start_a_dag_once_also_when_the_triggerer_dies(
    airflow: Standalone, popin: SandboxServer, statsd: StatsdListener, tmp_path: Path
) -> None:
    airflow.ask("PATCH", f"/dags/{DAG}", json={"is_paused": False})
    wait_for_runs(airflow, 1)
    (event,) = asset_events(airflow)
    payload = event["extra"]["payload"]
    assert event["extra"]["from_trigger"] is True
    assert payload["popin_conn_id"] == "popin_default"
    assert len(payload["slots"]) == 100 < payload["count"]
    booked = popin.stats()["bookings"]
    assert booked > 100
    assert [counted.partition("|")[0] for counted in statsd.received()["booked"]] == [str(booked)]
    assert lineage(tmp_path / "lineage.jsonl") == [("leads", "calls", booked)]
    # They were told, and are open still.
    assert payload["count"] - booked > 100

    # Of all slots that are open still, not one is told again: neither now ...
    wait_for_looks(airflow, popin, 3)
    assert len(asset_events(airflow)) == 1
    # ... nor by another triggerer.
    with another_triggerer(airflow):
        wait_for_looks(airflow, popin, 5)
        assert len(asset_events(airflow)) == 1

        # They close for a moment, and open up again.
        popin.set_faults("slots:empty_availability@1")
        wait_for_runs(airflow, 2)
        wait_for_looks(airflow, popin, 3)
        again = asset_events(airflow)
        assert len(again) == 2
        counts = [event["extra"]["payload"]["count"] for event in again]
        assert min(counts) == payload["count"] - booked
        assert popin.stats()["bookings_per_customer_max"] == 1
    assert "rror" not in told_by_the_trigger(airflow)
    assert local_airflow.API_KEY not in airflow.log.read_text("utf-8", "replace")


def lineage(file: Path) -> list[tuple[str, str, int]]:
    """Return input, output and number of bookings of every completed task."""
    events = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [
        (
            event["inputs"][0]["name"],
            event["outputs"][0]["name"],
            event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"],
        )
        for event in events
        if event["eventType"] == "COMPLETE" and event["job"]["name"] == f"{DAG}.book_waiting_leads"
    ]


def asset_events(airflow: Standalone) -> list[dict[str, Any]]:
    """Return the events of the example's asset."""
    events: list[dict[str, Any]] = airflow.ask("GET", "/assets/events")["asset_events"]
    return events


def wait_for_runs(airflow: Standalone, count: int) -> None:
    """Wait until so many runs succeeded, and see that there are no others."""

    def states() -> list[str]:
        return [run["state"] for run in airflow.ask("GET", f"/dags/{DAG}/dagRuns")["dag_runs"]]

    airflow.wait_for(lambda: states() == ["success"] * count, seconds=240, what=f"{count} runs of {DAG}")


def wait_for_looks(airflow: Standalone, popin: SandboxServer, count: int) -> None:
    """Wait until the trigger looked so many times more."""
    looks = popin.stats()["requests"]["slots"] + count
    airflow.wait_for(
        lambda: popin.stats()["requests"]["slots"] >= looks, seconds=120, what=f"{count} looks at the slots"
    )


def told_by_the_trigger(airflow: Standalone) -> str:
    """Return the lines of Airflow's log that come from our package."""
    lines = airflow.log.read_text("utf-8", "replace").splitlines()
    return "\n".join(line for line in lines if "airflow_provider_popin.triggers" in line)


@contextmanager
def another_triggerer(airflow: Standalone) -> Iterator[None]:
    """Kill the triggerer, and start another in its place."""
    (old,) = [
        process
        for process in airflow.processes()
        if command_of(process)[-1:] == ["triggerer"] and is_first(process)
    ]
    command, environment = old.cmdline(), old.environ()
    for process in [*old.children(recursive=True), old]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    with airflow.log.open("ab") as log:
        new = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        everybody = [*psutil.Process(new.pid).children(recursive=True), psutil.Process(new.pid)]
        for process in everybody:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(everybody, timeout=8)
        for process in left:
            process.kill()
        new.wait()


def is_first(process: psutil.Process) -> bool:
    """Whether no parent of a process was started by the same command."""
    parent = process.parent()
    return parent is None or command_of(parent) != command_of(process)


def command_of(process: psutil.Process) -> list[str]:
    """The command line; empty of a process that has ended, as those of tasks do all the time."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []
