"""``python -m benchmarks``: measure everything, print the tables, write ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import document, environment, imports, plot, postgres
from benchmarks.cells import FULL, LATENCIES_MS, QUICK, Cell, Plan, Subject, leads_for, matrix
from benchmarks.cpu import cores
from benchmarks.findings import Findings
from benchmarks.runner import Runner
from benchmarks.servers import Sandbox
from scripts.stopping import interrupted_once

_ROOT = Path(__file__).parents[1]
_CAPTURE = ("capture",)
_DRT_THREADS = 16
_MOST_CAPTURES = 8000
# Of the runs with few and with many leads.
_CONCURRENCY = 64
_PLANNED_LEADS = 100_000
_SEATS = (1, 20)
PARTS = ("matrix", "others", "growth", "planner", "imports")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    :param argv: arguments, None for those of the process
    :return: exit code: 1 where a full run stays below a bar or could not measure something, 130 when stopped
    """
    arguments = _parser().parse_args(argv)
    try:
        with interrupted_once():
            findings = _measure(arguments)
    except KeyboardInterrupt:
        print("bench: stopped; nothing was written", file=sys.stderr)
        return 130
    _write(findings, arguments.output)
    if findings.quick:
        return 0
    return 1 if findings.missing or any(not verdict.passed for verdict in findings.verdicts()) else 0


def _measure(arguments: argparse.Namespace) -> Findings:
    plan = QUICK if arguments.quick else FULL
    began = time.monotonic()
    programs = postgres.programs()
    findings = Findings(
        environment=environment.describe(drt=arguments.drt, postgres=programs), quick=arguments.quick
    )
    with ExitStack() as stack:
        server_core, client_core = cores()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="popin-bench-")))
        runner = Runner(
            sandbox=stack.enter_context(Sandbox(core=server_core)),
            core=client_core,
            folder=folder,
            postgres=stack.enter_context(postgres.running(programs, server_core)) if programs else None,
            drt=arguments.drt,
            tell=lambda line: print(line, flush=True),
        )
        for part in arguments.only:
            print(f"{part} ({time.monotonic() - began:.0f} s)", flush=True)
            _PARTS[part](runner, plan, findings)
    findings.seconds = time.monotonic() - began
    return findings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small runs: does it work?")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of it")
    parser.add_argument(
        "--drt",
        type=lambda text: Path(text).absolute(),  # it is started in other directories
        help="interpreter of an environment with drt-core",
    )
    parser.add_argument("--output", type=Path, default=_ROOT / "docs", help="directory for the document")
    return parser


def _matrix(runner: Runner, plan: Plan, findings: Findings) -> None:
    if runner.postgres is None:
        findings.missing.append("the lead sync on Postgres: no Postgres programs are installed")
    for group in matrix(plan, postgres=runner.postgres is not None):
        repeats = plan.repeats if group[0].is_busy else 1
        findings.matrix.append(runner.run_all(group, repeats=repeats))


def _others(runner: Runner, plan: Plan, findings: Findings) -> None:
    if runner.drt is None:
        findings.missing.append("drt-core: no environment of it was named (--drt)")
    for latency in LATENCIES_MS:
        leads = leads_for(plan, latency_ms=latency, concurrency=1)
        few = min(leads, 1000)
        findings.others.append(
            runner.run(Cell(subject=Subject.REQUESTS, latency_ms=latency, concurrency=1, leads=few))
        )
        _captures(runner, plan, findings, latency)
    mapped = Cell(subject=Subject.HTTP_OPERATOR, latency_ms=0, concurrency=1, leads=plan.mapped_leads)
    try:
        findings.others.append(runner.run(mapped))
    except RuntimeError as error:
        # A whole Airflow can fail for many reasons; what was measured so far is not thrown away for it.
        findings.missing.append(f"the mapped HttpOperator: {error}")


def _captures(runner: Runner, plan: Plan, findings: Findings, latency: int) -> None:
    if runner.drt is None:
        return
    drt_one, drt_threads, ours = (
        Cell(
            subject=subject,
            latency_ms=latency,
            concurrency=concurrency,
            leads=min(leads_for(plan, latency_ms=latency, concurrency=concurrency, steps=1), _MOST_CAPTURES),
            steps=_CAPTURE,
        )
        for subject, concurrency in (
            (Subject.DRT, 1),
            (Subject.DRT_THREADS, _DRT_THREADS),
            (Subject.SQLITE, _DRT_THREADS),
        )
    )
    findings.others += [runner.run(drt_one), runner.run(drt_threads)]
    findings.captures.append(runner.run(ours))


def _growth(runner: Runner, plan: Plan, findings: Findings) -> None:
    subjects = [Subject.SQLITE] + ([Subject.POSTGRES] if runner.postgres else [])
    for subject in subjects:
        few, many = (
            runner.run(Cell(subject=subject, latency_ms=0, concurrency=_CONCURRENCY, leads=leads))
            for leads in (plan.few, plan.many)
        )
        findings.growth.append((few, many))


def _planner(runner: Runner, plan: Plan, findings: Findings) -> None:
    for seats in _SEATS:
        findings.planner.append((_PLANNED_LEADS, seats, runner.planning(_PLANNED_LEADS, seats).seconds))


def _imports(runner: Runner, plan: Plan, findings: Findings) -> None:
    home = runner.folder / "airflow-home"
    for what in imports.IMPORTS:
        took = imports.measure(what, times=plan.imports, core=runner.core, airflow_home=home)
        print(f"  {what.what}: {took:.0f} ms", flush=True)
        findings.imports.append((what, took))


_PARTS = {"matrix": _matrix, "others": _others, "growth": _growth, "planner": _planner, "imports": _imports}


def _write(findings: Findings, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = "benchmarks.svg" if findings.matrix else None
    if picture is not None:
        plot.draw(findings, folder / picture)
    text = document.markdown(findings, plot=picture)
    (folder / "benchmarks.md").write_text(text)
    print(f"\n{text}\nWritten to {folder / 'benchmarks.md'}.")


if __name__ == "__main__":
    sys.exit(main())
