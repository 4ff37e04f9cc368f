"""``make distributed``: Airflow in parts, two Dags over one source, a worker killed. Who is booked?

CeleryExecutor with Redis and Postgres, two workers, all on this machine. At the end the ledger and the
results are compared with what the sandbox really booked. Files stay in ``.distributed`` for a look.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from scripts import local_airflow
from scripts.distributed_airflow import Cluster
from scripts.distributed_services import ServiceError, Services, need_program, wait_until
from scripts.distributed_world import (
    Databases,
    Fact,
    booked_by_lead,
    check_bookings,
    check_privacy,
    check_results,
    make_people,
)
from scripts.ports import HOST, free_port
from scripts.stopping import interrupted_once
from tests import postgres_server

PLACE = local_airflow.ROOT / ".distributed"
EXAMPLE = local_airflow.ROOT / "example_dags" / "popin_crm_sync.py"
OWN_DAGS = Path(__file__).with_name("distributed_dags")
DAG, TWIN, REFUSED = "popin_crm_sync", "popin_crm_sync_twin", "popin_sqlite_ledger"
# The twin is the example under another name, in another pool: the two run at the same time.
_TWIN_CHANGES = {f'"{DAG}"': f'"{TWIN}"', '"pool": "popin"': '"pool": "popin_twin"'}
# Lost tasks are noticed after about 20 s; the retry then comes when the dead run's lease of 90 s is over.
_QUICK_RETRY = {'"retry_delay": timedelta(minutes=2)': '"retry_delay": timedelta(seconds=75)'}
_ENDED = ("success", "failed")

# Two of the portions that a run claims leads in: each Dag gets one.
LEADS, UNUSABLE = 400, 6
LATENCY_MS = 300.0
CONCURRENCY = 4
# A killed run's exchanges are in doubt after so long, plus the ledger's margin.
TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Scene:
    """One play of the scenario.

    :param cluster: Airflow.
    :param services: its processes.
    :param databases: CRM and ledger.
    :param popin: the sandbox.
    :param facts: the table.
    """

    cluster: Cluster
    services: Services
    databases: Databases
    popin: SandboxServer
    facts: list[Fact] = field(default_factory=list)

    def wait(self, question: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for the answer yes.

        :param question: asked every half second.
        :param seconds: how long at most.
        :param what: for the error.
        """
        wait_until(question, services=self.services, seconds=seconds, what=what)

    def tell(self, name: str, value: object, holds: bool | None = None) -> None:
        """Add a line to the table.

        :param name: what was looked at.
        :param value: what was seen.
        :param holds: whether it is as promised; None for a mere figure.
        """
        self.facts.append(Fact(name, value, holds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the scenario once.

    :param arguments: of the command line.
    :return: exit code: 0 when all invariants hold, 1 when one does not, 2 when something is missing or did
        not start, 130 when stopped.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.distributed", description=__doc__)
    parser.add_argument("--place", type=lambda text: Path(text).resolve(), default=PLACE)
    given = parser.parse_args(arguments)
    # A killed client leaves replies that cannot be delivered; the sandbox tells that as an error.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    began = time.monotonic()
    try:
        local_airflow.check_place(given.place)
        with interrupted_once():
            facts = _play(given.place)
    except KeyboardInterrupt:
        print("distributed: stopped", file=sys.stderr)
        return 130
    except (ServiceError, ValueError, requests.RequestException) as error:
        print(f"distributed: {error}", file=sys.stderr)
        return 2
    facts.append(Fact("seconds", round(time.monotonic() - began)))
    return _print_table(facts)


def _play(place: Path) -> list[Fact]:
    programs = postgres_server.find_programs()
    need_program("Postgres", package="postgresql", found=programs is not None)
    need_program("Redis", package="redis-server", found=shutil.which("redis-server") is not None)
    programs = programs or postgres_server.find_programs()
    assert programs is not None
    shutil.rmtree(place, ignore_errors=True)
    _make_dags(place / "dags")
    settings = SandboxSettings(
        api_key=local_airflow.API_KEY, token=local_airflow.SELLER_TOKEN, latency_ms=LATENCY_MS, days=14
    )
    with (
        postgres_server.running_server(programs) as address,
        SandboxServer(settings) as popin,
        Services(place / "logs") as services,
    ):
        database = f"popin@{address}"
        databases = Databases(database)
        databases.create("airflow", "ledger", "crm")
        people = make_people(LEADS, unusable=UNUSABLE)
        databases.fill_crm(people)
        cluster = Cluster(
            place=place,
            dags=place / "dags",
            services=services,
            database=database,
            connections=_connections(place, address, popin.url),
            variables={"popin_results": f"file://{place / 'results'}"},
            api_port=free_port(),
            redis_port=free_port(),
        )
        _say(f"Postgres, Redis and Airflow in seven processes start; all files are in {place}")
        cluster.start()
        scene = Scene(cluster, services, databases, popin)
        _two_dags_and_a_kill(scene)
        _leftovers(scene)
        _refused_ledger(scene)
        last = _everybody_again(scene, place / "results")
        booked = booked_by_lead(people, popin.customers(), popin.bookings())
        scene.facts.extend(check_bookings(booked, databases.leads()))
        scene.facts.extend(check_results(place / "results", last=last, people=people))
        files = [*cluster.logs.rglob("*.log"), *place.rglob("logs/*.log"), *place.rglob("*.jsonl")]
        texts = [file.read_text("utf-8", "replace") for file in files if file.is_file()]
        scene.facts.append(check_privacy(people, local_airflow.API_KEY, [databases.ledger_text(), *texts]))
        return scene.facts


def _two_dags_and_a_kill(scene: Scene) -> None:
    """Both Dags at once; when the first is booking, its worker dies; wait until both have ended."""
    cluster = scene.cluster
    for dag_id, pool in ((DAG, "popin"), (TWIN, "popin_twin")):
        cluster.ask("POST", "/pools", json={"name": pool, "slots": 1})
        # Unpaused, each starts the run of the last quarter of an hour by itself.
        cluster.ask("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
    cluster.ask("PATCH", f"/dags/{REFUSED}", json={"is_paused": False})
    _say(f"Two Dags over one source of {LEADS} leads")
    victim = _first_to_book(scene)
    run = cluster.runs(victim)[0]["dag_run_id"]
    task = cluster.task(victim, run)
    worker = scene.services.owner_of(int(task["pid"]))
    if worker is None:
        raise ServiceError("no worker runs the task")
    killed = scene.services.kill(worker)
    sending = _sending(scene, victim)
    when = time.monotonic()
    _say(f"{worker} is killed while it runs {victim}, with {sending} bookings under way")
    scene.tell("worker killed with SIGKILL", f"{worker}, {killed} processes, running {victim}")
    scene.tell("bookings under way in it", sending)
    scene.wait(lambda: cluster.task(victim, run)["state"] != "running", 90, "Airflow to notice the lost task")
    scene.tell("noticed by Airflow after", f"{time.monotonic() - when:.0f} s")
    scene.wait(lambda: _all_ended(cluster), 240, "both Dags to end")
    task = cluster.task(victim, run)
    scene.tell("the task then", f"try {task['try_number']}: {task['state']}", int(task["try_number"]) > 1)
    for dag_id in (DAG, TWIN):
        states = ", ".join(str(run["state"]) for run in cluster.runs(dag_id))
        scene.tell(f"runs of {dag_id}", states)


def _leftovers(scene: Scene) -> None:
    """When the dead run's lease is over, the next run books what it had claimed."""
    scene.wait(lambda: scene.databases.leases() == 0, 120, "the dead run's lease to end")
    state = _run(scene, DAG)
    leads = scene.databases.leads()
    open_leads = [row for row in leads.values() if row["booking_state"] in ("planned", "sending")]
    doubts = [row for row in leads.values() if row["booking_state"] == "in_doubt"]
    scene.tell("next run", state, state == "success")
    scene.tell("leads left over by it", len(open_leads), not open_leads)
    scene.tell("bookings in doubt", f"{len(doubts)} (at most {CONCURRENCY})", len(doubts) <= CONCURRENCY)
    told = scene.databases.told_to_crm()
    booked = {lead for lead, row in leads.items() if row["booking_state"] == "booked"}
    scene.tell("booked, and told to the CRM", f"{len(booked & told)} of {len(booked)}", booked == told)


def _refused_ledger(scene: Scene) -> None:
    """A SQLite ledger, which every worker would have for itself."""
    before = scene.popin.stats()["requests"]["all"]
    state = _run(scene, REFUSED)
    logs = (scene.cluster.logs).rglob(f"dag_id={REFUSED}/**/*.log")
    refused = any("SQLITE_LEDGER_EXECUTORS" in file.read_text("utf-8", "replace") for file in logs)
    silent = scene.popin.stats()["requests"]["all"] == before
    scene.tell("task with a SQLite ledger", f"{state}, refused", state == "failed" and refused and silent)


def _everybody_again(scene: Scene, results: Path) -> Path:
    """The CRM has forgotten everything and asks for all calls once more; return the results of that run."""
    scene.databases.forget_answers()
    files = set(results.rglob("*.jsonl"))
    before = dict(scene.popin.stats()["requests"])
    run_id = scene.cluster.trigger(DAG)
    state = _wait_for_run(scene, DAG, run_id)
    after = scene.popin.stats()["requests"]
    sent = sum(after[name] - before[name] for name in ("capture", "schedule"))
    scene.tell(
        "run after the CRM forgot all answers", f"{state}, {sent} POSTs", state == "success" and not sent
    )
    new = sorted(set(results.rglob("*.jsonl")) - files)
    return new[0] if new else results / "missing"


def _run(scene: Scene, dag_id: str) -> str:
    return _wait_for_run(scene, dag_id, scene.cluster.trigger(dag_id))


def _wait_for_run(scene: Scene, dag_id: str, run_id: str) -> str:
    def state() -> str:
        return str(scene.cluster.ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    _say(f"{dag_id} runs once more")
    scene.wait(lambda: state() in _ENDED, 90, f"the run of {dag_id}")
    return state()


def _first_to_book(scene: Scene) -> str:
    """Wait until a Dag is booking; return it. The other one runs too, or the play is not the one we want."""
    found: list[str] = []

    def booking() -> bool:
        found[:] = [dag_id for dag_id in (DAG, TWIN) if _sending(scene, dag_id) > 1]
        return bool(found)

    scene.wait(booking, 120, "a Dag to book")
    states = [
        scene.cluster.task(dag_id, scene.cluster.runs(dag_id)[0]["dag_run_id"])["state"]
        for dag_id in (DAG, TWIN)
    ]
    scene.tell("both Dags at work when it died", ", ".join(states), states == ["running", "running"])
    return found[0]


def _sending(scene: Scene, dag_id: str) -> int:
    rows = scene.databases.leads().values()
    return sum(row["booking_state"] == "sending" and str(row["run"]).startswith(f"{dag_id}/") for row in rows)


def _all_ended(cluster: Cluster) -> bool:
    return all(run["state"] in _ENDED for dag_id in (DAG, TWIN) for run in cluster.runs(dag_id))


def _make_dags(folder: Path) -> None:
    folder.mkdir(parents=True)
    text = _changed(EXAMPLE.read_text("utf-8"), _QUICK_RETRY)
    (folder / EXAMPLE.name).write_text(text, "utf-8")
    (folder / f"{TWIN}.py").write_text(_changed(text, _TWIN_CHANGES), "utf-8")
    for file in OWN_DAGS.glob("*.py"):
        shutil.copy(file, folder)


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"{EXAMPLE} does not hold {old} once")
        text = text.replace(old, new)
    return text


def _connections(place: Path, address: str, sandbox_url: str) -> dict[str, dict[str, object]]:
    unused = place / "unused.db"
    found = local_airflow.connections(sandbox_url=sandbox_url, ledger=unused, crm=unused)
    extra = {"max_concurrency": CONCURRENCY, "timeout_seconds": TIMEOUT_SECONDS, "requests_per_second": 0}
    found["popin_default"]["extra"] = {"account": "sandbox", **extra}
    found["sqlite_ledger"] = {"conn_type": "sqlite", "host": str(place / "ledger.db")}
    for conn_id, database in (("popin_ledger", "ledger"), ("crm", "crm")):
        found[conn_id] = {
            "conn_type": "postgres",
            "host": HOST,
            "port": int(address.rpartition(":")[2]),
            "login": "popin",
            "schema": database,
        }
    return found


def _print_table(facts: Sequence[Fact]) -> int:
    width = max(len(fact.name) for fact in facts)
    marks = {None: "", True: "ok", False: "BROKEN"}
    print()
    for fact in facts:
        print(f"{fact.name:<{width}}  {fact.value!s:<44} {marks[fact.holds]}".rstrip())
    return 1 if any(fact.holds is False for fact in facts) else 0


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
