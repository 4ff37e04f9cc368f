"""The planner alone: leads with windows of many kinds, and fewer seats than leads."""

from __future__ import annotations

import random
from datetime import UTC, datetime, time, timedelta

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.client.slots import format_popin_time
from airflow_provider_popin.client.windows import SlotWindow
from airflow_provider_popin.sync.planning.planner import Waiting, plan
from benchmarks.subjects.subject import Figures, Job, report, timed

_ZONE = "Asia/Kolkata"
_SLOTS = 2_000
_SEED = 20_251_123
_FIRST = datetime(2026, 1, 5, 4, 30, tzinfo=UTC)


def main() -> None:
    """Plan once and print the figures; the leads of the job say how many want a call."""
    job = Job.from_arguments()
    waiting, slots = _waiting(job.leads), _slots()
    seats = [job.calls_per_slot] * len(slots)
    with timed() as clock:
        found = plan(waiting, slots, seats, seller_timezone=_ZONE)
    assert len(found.assigned) + len(found.unassigned) == job.leads
    report(Figures.of(clock, leads=len(found.assigned)))


def _slots() -> list[Slot]:
    starts = [_FIRST + timedelta(days=n // 48, minutes=15 * (n % 48)) for n in range(_SLOTS)]
    return [Slot(start=start, time=format_popin_time(start, _ZONE)) for start in starts]


def _waiting(count: int) -> list[Waiting]:
    """Leads that differ: a third take any slot, a third certain hours, a third a few days of their own."""
    draw = random.Random(_SEED)
    anything = SlotWindow()
    by_hours = [SlotWindow(hours=(time(hour), time(hour + 3)), timezone=_ZONE) for hour in range(10, 20)]
    waiting = []
    for key in range(count):
        kind = draw.randrange(3)
        window = anything
        if kind == 1:
            window = draw.choice(by_hours)
        elif kind == 2:
            earliest = _FIRST + timedelta(hours=draw.randrange(40 * 24))
            window = SlotWindow(earliest=earliest, latest=earliest + timedelta(days=draw.randrange(1, 6)))
        waiting.append(Waiting(key=key, priority=draw.randrange(3), lead_id=f"lead-{key:06}", window=window))
    return waiting


if __name__ == "__main__":
    main()
