"""What became of every lead, for people: by lead id, never by phone, e-mail or name."""

from __future__ import annotations

import json
import sqlite3
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_popin.sandbox.rows import Stats
from scripts import crm

MEANING = {
    "booked": "a call is scheduled",
    "unassigned": "captured, but no free slot suits; planned again in every run",
    "rejected": "the row cannot be used; skipped until it changes",
    "in_doubt": "sent, answer lost; a person must look",
    "pending": "not attempted",
    "skipped": "nothing to do for this row",
    "captured": "registered at Popin",
    "planned": "would be booked",
}
_SOME = 6
_WIDTH = 100

Lines = Sequence[Mapping[str, Any]]


def newest_results(folder: Path) -> tuple[Path, Lines]:
    """Return the newest results file of the operator, and its lines.

    :param folder: ``results_path``.
    """
    path = max(folder.rglob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    return path, [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def report(*, lines: Lines, database: Path, stats: Stats) -> Iterator[str]:
    """Yield the lines to print.

    :param lines: of the results file, one for each row that was read.
    :param database: the CRM.
    :param stats: the sandbox's counts of this run.
    """
    yield from _counts(lines)
    yield from _bookings(lines)
    for result in ("in_doubt", "unassigned", "rejected", "pending", "skipped"):
        yield from _by_reason(result, [line for line in lines if line["result"] == result])
    yield from _crm(database, shared_ids=any(line["reason"] == "duplicate_lead_id" for line in lines))
    yield from _sandbox(stats)


def sent(stats: Stats) -> int:
    """Return how many requests that change something reached the sandbox.

    :param stats: its counts.
    """
    return stats["requests"]["capture"] + stats["requests"]["schedule"]


def _counts(lines: Lines) -> Iterator[str]:
    counts = Counter(str(line["result"]) for line in lines)
    yield _heading(f"What became of the {len(lines)} rows that were read")
    for result, meaning in MEANING.items():
        if counts[result]:
            yield f"  {counts[result]:>6,}  {result:<11} {meaning}"


def _bookings(lines: Lines) -> Iterator[str]:
    booked = [line for line in lines if line["result"] == "booked"]
    if not booked:
        return
    booked.sort(key=lambda line: datetime.fromisoformat(line["call_time"]))
    # A few from the beginning, the middle and the end tell more than the first few.
    step = max(1, (len(booked) - 1) // (_SOME - 1))
    some = booked[::step][:_SOME]
    yield _heading(f"{len(some)} of the {len(booked)} bookings, in the seller's time")
    for line in some:
        yield f"  {line['slot']}  ({line['call_time'][-6:]})  {_name(line)}"


def _by_reason(result: str, lines: Lines) -> Iterator[str]:
    if not lines:
        return
    leads = defaultdict(list)
    for line in lines:
        leads[line["reason"] or "no reason"].append(_name(line))
    yield _heading(f"{result}: every row, by reason")
    for reason, names in sorted(leads.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"  {reason} ({len(names)})"
        yield textwrap.fill(
            ", ".join(names),
            _WIDTH,
            initial_indent="      ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )


def _crm(database: Path, *, shared_ids: bool) -> Iterator[str]:
    states = crm.count_states(database)
    yield _heading(f"What the CRM says now: table {crm.TABLE} in {database}")
    for state, count in states.items():
        yield f"  {count:>6,}  {state or 'untouched (no id of its own)'}"
    if shared_ids:
        yield "  Rows with the same id are one lead: each of them has its answer."
    example = _example(database)
    if example:
        yield "  One row of it:"
        yield from (f"    {name} = {value}" for name, value in example.items())


def _example(database: Path) -> dict[str, str] | None:
    query = f"SELECT {', '.join(crm.ANSWERS)} FROM {crm.TABLE} WHERE popin_state = 'booked'"  # noqa: S608
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute(query + " ORDER BY popin_call_time LIMIT 1").fetchone()
    return dict(zip(crm.ANSWERS, row, strict=True)) if row else None


def _sandbox(stats: Stats) -> Iterator[str]:
    requests = stats["requests"]
    yield _heading("What Popin, here the sandbox, says of this run")
    yield (
        f"  {requests['slots']} times asked for slots, {requests['capture']} captures, "
        f"{requests['schedule']} bookings sent, {stats['bookings']} booked"
    )
    if not sent(stats):
        yield "  Nothing was sent: no lead was captured and no call booked a second time."
    elif stats["bookings_per_customer_max"] <= 1:
        yield "  Nobody was booked twice."
    else:
        yield "  SOMEBODY WAS BOOKED TWICE. This must never happen; please report it."


def _name(line: Mapping[str, Any]) -> str:
    return str(line["lead_id"]) if line["lead_id"] is not None else f"row {line['row']} (no id)"


def _heading(text: str) -> str:
    return f"\n{text}\n{'-' * len(text)}"
