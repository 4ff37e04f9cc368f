"""What ``make distributed`` looks for: each broken promise is found. The play itself takes minutes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts import distributed, distributed_services, distributed_world, local_airflow
from scripts.distributed_services import ServiceError, Services, wait_until

START = "2026-01-05T10:00:00+00:00"
EPOCH = 1767607200


def _is_up(services: Services, name: str) -> bool:
    return "up" in services.tail(name).splitlines()


def _broken(facts: list[distributed_world.Fact]) -> list[str]:
    return [fact.name for fact in facts if fact.holds is False]


@pytest.mark.parametrize(
    ("bookings", "state", "slot", "broken"),
    [
        ([START], "booked", EPOCH, []),
        ([START], "in_doubt", EPOCH, []),
        ([START, START], "booked", EPOCH, ["I1: booked twice"]),
        ([START], "rejected", None, ["I2: booked at Popin, unknown to the ledger"]),
        ([], "booked", EPOCH, ["booked in the ledger only, or for another time"]),
        ([START], "booked", EPOCH + 900, ["booked in the ledger only, or for another time"]),
    ],
)
def test_bookings(bookings: list[str], state: str, slot: int | None, broken: list[str]) -> None:
    rows: Any = {"D-1": [{"start": start} for start in bookings]} if bookings else {}
    leads = {"D-1": {"booking_state": state, "slot_start": slot}}
    assert _broken(distributed_world.check_bookings(rows, leads)) == broken


def test_a_customer_is_known_by_its_phone() -> None:
    person, other = distributed_world.make_people(3, unusable=1)[1:]
    number = person.mobile.removeprefix("+1")
    customers: Any = [{"customer_id": "c1", "fields": {"country": "1", "mobile": number}}]
    bookings: Any = [{"customer_id": "c1", "start": START}]
    found = distributed_world.booked_by_lead([person, other], customers, bookings)
    assert list(found) == [person.lead_id]


@pytest.mark.parametrize(
    ("rows", "holds"), [([1, 2], True), ([1], False), ([1, 2, 2], False), ([2, 1], False)]
)
def test_results(tmp_path: Path, rows: list[int], holds: bool) -> None:
    people = distributed_world.make_people(2, unusable=0)
    lines = [{"row": row, "lead_id": people[row - 1].lead_id, "result": "booked"} for row in rows]
    file = tmp_path / "1.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    assert (not _broken(distributed_world.check_results(tmp_path, last=file, people=people))) is holds


@pytest.mark.parametrize("name", ["last_name", "email", "mobile"])
def test_privacy(name: str) -> None:
    people = distributed_world.make_people(3, unusable=1)
    value = getattr(people[2], name)
    assert distributed_world.check_privacy(people, "the key", ["lead D-0002 is booked"]).holds
    assert not distributed_world.check_privacy(people, "the key", [f"lead {value} is booked"]).holds
    assert not distributed_world.check_privacy(people, "the key", ["with the key"]).holds


def test_the_twin_is_the_example_under_another_name(tmp_path: Path) -> None:
    distributed._make_dags(tmp_path / "dags")
    twin = (tmp_path / "dags" / f"{distributed.TWIN}.py").read_text()
    assert f'"{distributed.TWIN}"' in twin
    assert '"pool": "popin_twin"' in twin
    with pytest.raises(ValueError, match="once"):
        distributed._changed("something else", {"a Dag": "another"})


def _is_alive(process: psutil.Process) -> bool:
    # Whoever inherits an orphan may take a while to notice that it is dead.
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_services_end_with_all_below_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The grandchild hears no SIGTERM: it is what SIGKILL is for, and nobody else lingers.
    monkeypatch.setattr(distributed_services, "POLITE_SECONDS", 0.5)
    child = "import subprocess, sys, time; subprocess.Popen(['sleep', '60'], start_new_session=True);"
    program = f"{child} print('up', flush=True); time.sleep(60)"
    with Services(tmp_path) as services:
        for name in ("killed", "stopped"):
            services.start(name, [sys.executable, "-c", program], {})
            up = partial(_is_up, services, name)
            wait_until(up, services=services, seconds=10, what="it")
        everybody = psutil.Process().children(recursive=True)
        assert services.owner_of(everybody[0].pid) == "killed"
        assert services.kill("killed") == 2
    assert not [process for process in everybody if _is_alive(process)]


def test_a_service_that_ends_is_told_with_its_log(tmp_path: Path) -> None:
    with Services(tmp_path) as services:
        services.start("short", [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], {})
        with pytest.raises(ServiceError, match=r"(?s)ended with 3.*the reason"):
            wait_until(lambda: False, services=services, seconds=10, what="nothing")


def test_sigterm_is_a_stop() -> None:
    code = (
        "import os, signal, scripts.distributed as d;"
        "d._play = lambda _: os.kill(os.getpid(), signal.SIGTERM);"
        "raise SystemExit(d.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=local_airflow.ROOT, check=False)
    assert done.returncode == 128 + signal.SIGINT
