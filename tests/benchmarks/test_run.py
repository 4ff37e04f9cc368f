"""The benchmark's harness with a handful of leads; nothing in here is about time."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks.cells import Cell, Result, Subject
from benchmarks.cpu import cores
from benchmarks.findings import Findings
from benchmarks.people import capture_fields, people
from benchmarks.runner import Runner
from benchmarks.servers import Sandbox

if shutil.which("taskset") is None:
    pytest.skip("NOT TESTED: the benchmark needs taskset (util-linux)", allow_module_level=True)

LEADS = 7


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    server_core, client_core = cores()
    with Sandbox(core=server_core) as sandbox:
        yield Runner(
            sandbox=sandbox,
            core=client_core,
            folder=tmp_path_factory.mktemp("bench"),
            postgres=None,
            drt=None,
            tell=lambda line: None,
        )


@pytest.mark.parametrize(
    "subject",
    [Subject.BARE, Subject.BARE_FRESH, Subject.BARE_UVLOOP, Subject.SQLITE, Subject.REQUESTS],
    ids=lambda s: s.name,
)
def test_each_lead_is_booked_once(runner: Runner, subject: Subject) -> None:
    result = runner.run(Cell(subject=subject, latency_ms=1, concurrency=3, leads=LEADS))

    stats = runner.sandbox.stats()
    assert (stats["leads_booked"], stats["bookings"], stats["customers"]) == (LEADS, LEADS, LEADS)
    assert result.rate > 0
    assert result.cpu_seconds > 0
    assert result.peak_rss_mb > 10


def test_the_capture_step_alone_books_nobody(runner: Runner) -> None:
    runner.run(Cell(subject=Subject.SQLITE, latency_ms=0, concurrency=3, leads=LEADS, steps=("capture",)))

    assert runner.sandbox.stats()["bookings"] == 0


def test_a_subject_that_does_not_do_the_work_is_found_out(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sandbox, "stats", lambda self: {"leads_booked": LEADS - 1, "customers": LEADS})

    with pytest.raises(RuntimeError, match="not 7"):
        runner.run(Cell(subject=Subject.BARE, latency_ms=0, concurrency=1, leads=LEADS))


def test_a_subject_that_fails_says_why(runner: Runner) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)lead_sync failed.*max_concurrency"):
        runner.run(Cell(subject=Subject.SQLITE, latency_ms=0, concurrency=0, leads=1))


def test_the_planner_is_measured_alone(runner: Runner) -> None:
    figures = runner.planning(500, 1)

    assert figures.leads == 500


def test_stopped_it_says_so_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.postgres.programs", lambda: None)
    monkeypatch.setitem(bench._PARTS, "planner", lambda *_: os.kill(os.getpid(), signal.SIGINT))

    assert bench.main(["--quick", "--only", "planner", "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "bench: stopped; nothing was written\n"
    assert not [*tmp_path.iterdir()]


def test_people_differ_but_for_their_phones() -> None:
    some = list(people(3000))

    assert len({person["id"] for person in some}) == len({person["email"] for person in some}) == 3000
    assert all("555" in person["phone"] for person in some)
    assert json.dumps(capture_fields(some[0]))


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks import plot

    cell = Cell(subject=Subject.SQLITE, latency_ms=50, concurrency=16, leads=10)
    findings = Findings(environment={}, quick=True, matrix=[[Result(cell=cell, seconds=1.0)]])

    plot.draw(findings, tmp_path / "plot.svg")

    assert (tmp_path / "plot.svg").read_text().count("<svg") == 1
