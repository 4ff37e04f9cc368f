"""The findings as Markdown, for people and for ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import bars
from benchmarks.cells import Result, Subject
from benchmarks.findings import Findings, of_subject

_INTRODUCTION = """\
# Benchmarks

Written by `make bench`; nothing in here is edited by hand. All figures are from one run on one
machine, and the ratios between them say more than the figures: another machine is faster or slower
at everything.

The server is the project's own sandbox, pinned to one processor core together with Postgres, which in
production are other machines than the client; whatever sends is pinned to another core, one process
with one exception: Airflow and its workers, for the mapped HttpOperator, may use all cores. Every
subject sends the same leads. Every figure counts from the first line of the subject's work to its
last, with reading, validating, the ledger, planning and the report, and without the start of the
process. After every cell the sandbox's oracle is asked whether each lead was booked once.
"""
_MATRIX = """\
## Leads per second

Each lead is captured, then booked: two POSTs. The limit is concurrency / (2 x latency); there are
leads for 50 seconds of it, but no more than 16,384. The bare loop is aiohttp and nothing else: no
ledger, no validation, no plan, and nothing to go by if it dies. A booking of the lead sync never
rides on a kept connection that the server may just be closing, so the bare loop that sends in the
same way (fresh connections) is what it is held against; the difference between the two bare loops
is what that costs. The bare loops run on asyncio's own event loop, as `asyncio.run` gives it. The
lead sync runs on uvloop, and its client speaks HTTP by itself over llhttp, at half of aiohttp's
processor time: with what that saves it pays for ledger, validation and plan. Where the client's core
is busy all the time, a line shows what the bare loop gains by uvloop.

Bars: {of_limit:.0%} of the limit, or {of_bare:.0%} of the bare loop where that one stays below
{reaches:.0%}; without latency {sqlite:.0%} of the bare loop on SQLite, {postgres:.0%} on Postgres.
Where both processors are idle the latency limits; where a client's core is busy all the time, the
client does.
"""
_OTHERS = """\
## Other ways to do it

The same leads; no other way keeps a ledger, so none can tell after a crash who was booked. drt-core
sends captures only, through its REST API destination: a sync sends one row after the other,
`--threads` runs syncs at once.
"""
_GROWTH = """\
## Many leads

Fresh processes, both steps, no latency, {concurrency} at once. Memory is the highest resident size
(`VmHWM`).
"""
_IMPORTS = """\
## Imports

Milliseconds in a fresh process, the median of several. Airflow itself is imported first where the
line says so.
"""


def markdown(findings: Findings, *, plot: str | None) -> str:
    """The whole document.

    :param findings: of a run
    :param plot: file name of the plot beside the document
    """
    parts = [_INTRODUCTION]
    if findings.quick:
        parts.append("**A quick run: it shows that everything works. Its figures are worth nothing.**\n")
    parts += [_environment(findings), _verdict_line(findings)]
    if plot is not None:
        parts.append(f"![Leads per second by latency and concurrency]({plot})\n")
    parts += [_matrix(findings), _others(findings), _growth(findings), _planner(findings), _imports(findings)]
    parts.append(_all_bars(findings))
    return "\n".join(part for part in parts if part)


def _environment(findings: Findings) -> str:
    lines = [f"- {name}: {value}" for name, value in findings.environment.items()]
    lines.append(f"- Whole run: {findings.seconds / 60:.1f} minutes")
    return "\n".join([*lines, *(f"- Not measured: {what}" for what in findings.missing), ""])


def _verdict_line(findings: Findings) -> str:
    verdicts = findings.verdicts()
    passed = sum(verdict.passed for verdict in verdicts)
    return f"{passed} of {len(verdicts)} bars passed.\n"


def _matrix(findings: Findings) -> str:
    if not findings.matrix:
        return ""
    text = _MATRIX.format(
        of_limit=bars.OF_THE_LIMIT,
        of_bare=bars.OF_THE_BARE_LOOP,
        reaches=bars.BARE_REACHES,
        sqlite=bars.WITHOUT_LATENCY[Subject.SQLITE],
        postgres=bars.WITHOUT_LATENCY[Subject.POSTGRES],
    )
    head = (
        "Latency", "At once", "Subject", "Leads", "Leads/s", "Limit", "Of limit", "Of bare, kept",
        "Of bare, fresh", "Client CPU", "Server CPU", "Bar",
    )  # fmt: skip
    rows = [_matrix_row(result, group) for group in findings.matrix for result in group]
    return text + "\n" + _table(head, rows)


def _matrix_row(result: Result, group: Sequence[Result]) -> list[str]:
    cell, limit = result.cell, result.cell.limit
    is_sync = cell.subject in bars.SYNCS
    verdict = bars.of_cell(result, of_subject(group, bars.FLOOR)).word if is_sync else ""
    return [
        f"{cell.latency_ms} ms",
        str(cell.concurrency),
        cell.subject,
        f"{cell.leads:,}",
        f"{result.rate:,.0f}",
        "" if limit is None else f"{limit:,.0f}",
        "" if limit is None else f"{result.rate / limit:.1%}",
        f"{result.rate / of_subject(group, Subject.BARE).rate:.1%}",
        f"{result.rate / of_subject(group, Subject.BARE_FRESH).rate:.1%}",
        f"{result.cpu_seconds / result.seconds:.0%}",
        f"{result.server_cpu_seconds / result.seconds:.0%}",
        verdict,
    ]


def _others(findings: Findings) -> str:
    head = ("Latency", "Subject", "Steps", "At once", "Leads", "Leads/s")
    results = sorted(
        [*findings.others, *findings.captures], key=lambda r: (len(r.cell.steps), r.cell.latency_ms)
    )
    rows = [
        [
            f"{result.cell.latency_ms} ms",
            result.cell.subject,
            " and ".join(result.cell.steps),
            str(result.cell.concurrency),
            f"{result.cell.leads:,}",
            f"{result.rate:,.1f}",
        ]
        for result in results
    ]
    return _OTHERS + "\n" + _table(head, rows) if rows else ""


def _growth(findings: Findings) -> str:
    if not findings.growth:
        return ""
    results = [result for pair in findings.growth for result in pair]
    rows = [
        [
            result.cell.subject,
            f"{result.cell.leads:,}",
            f"{result.seconds:,.1f}",
            f"{1e6 / result.rate:,.0f}",
            f"{result.peak_rss_mb:,.1f}",
        ]
        for result in results
    ]
    head = ("Subject", "Leads", "Seconds", "Microseconds per lead", "Peak memory, MB")
    return _GROWTH.format(concurrency=results[0].cell.concurrency) + "\n" + _table(head, rows)


def _planner(findings: Findings) -> str:
    rows = [[f"{leads:,}", str(seats), f"{seconds:.2f}"] for leads, seats, seconds in findings.planner]
    if not rows:
        return ""
    return "## Planner\n\n2,000 slots; windows of many kinds.\n\n" + _table(
        ("Leads", "Seats per slot", "Seconds"), rows
    )


def _imports(findings: Findings) -> str:
    rows = [
        [what.what, f"{took:,.0f}", "" if what.target_ms is None else f"{what.target_ms:g}"]
        for what, took in findings.imports
    ]
    if not rows:
        return ""
    return _IMPORTS + "\n" + _table(("What", "Milliseconds", "At most"), rows)


def _all_bars(findings: Findings) -> str:
    rows = [[verdict.what, verdict.target, verdict.reached, verdict.word] for verdict in findings.verdicts()]
    return "## All bars\n\n" + _table(("What", "Bar", "Reached", ""), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:], ""])
