"""Whatever happens to the CRM and to the runs, a watermark changes what is read and not what comes of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import admin
from tests.faults import conftest as fixtures
from tests.faults.invariants import check_invariants
from tests.faults.people import Row
from tests.faults.test_any_history import CrashedError
from tests.faults.world import World
from tests.sync import watermarks
from tests.sync.watermarks import OVERLAP, START, Crm

_short_waits = fixtures._short_waits

LEADS = 5
# Enough to find what was broken on purpose; more when asked: POPIN_WATERMARK_EXAMPLES.
EXAMPLES = int(os.environ.get("POPIN_WATERMARK_EXAMPLES", "8"))
FAULTS = [
    *("schedule:500", "schedule:500_after_commit", "capture:500", "schedule:422", "schedule:422(time)"),
    *("capture:422", "schedule:401", "capture:401", "schedule:429(0)", "slots:500"),
]
SLOTS = [
    f"Mon, 03 Jan 2028 {hour:02}:{minute_:02} PM" for hour in range(1, 10) for minute_ in (0, 15, 30, 45)
]
FIRST_SLOT = datetime(2028, 1, 3, 7, 30, tzinfo=UTC)  # in Popin's timezone the first of them
_numbers = itertools.count()


@dataclass(frozen=True)
class Change:
    """A lead is inserted or updated.

    :param late: minutes that its time stamp lies behind the newest; within the overlap for a new lead
    """

    number: int
    late: float
    valid: bool


@dataclass(frozen=True)
class Act:
    """What changes in the CRM, and a run after it.

    :param slots: how many slots the run may use
    :param broken_off: after so many rows the source breaks off; None never
    :param resolves: a person says of the doubts that there is no such call, before the run
    """

    changes: Sequence[Change]
    faults: Sequence[str]
    seed: int
    slots: int
    broken_off: int | None
    retry: bool
    resolves: bool
    limit: int | None
    dry_run: bool


_changes = st.builds(
    Change,
    number=st.integers(1, LEADS),
    late=st.sampled_from([0.0, 0.0, 3.0, 10.0]),
    valid=st.sampled_from([True, True, False]),
)
_acts = st.builds(
    Act,
    changes=st.lists(_changes, max_size=3),
    faults=st.lists(
        st.builds("{}={}".format, st.sampled_from(FAULTS), st.sampled_from(["0.3", "1"])), max_size=2
    ),
    seed=st.integers(0, 99),
    slots=st.sampled_from([0, 1, 2, 36]),
    broken_off=st.none() | st.integers(0, 3),
    retry=st.booleans(),
    resolves=st.booleans(),
    limit=st.sampled_from([None, None, 1]),
    dry_run=st.sampled_from([False, False, False, True]),
)


class History:
    """A CRM whose time goes on, and runs that read it by a watermark, until all is quiet."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.crm = Crm()
        self._now = 0.0
        self._dag_runs = 0
        self.broken_off: int | None = None
        self.crm.instead = self._select

    def play(self, act: Act) -> None:
        """Let one act happen."""
        for change in act.changes:
            self._change(change)
        self.world.ledger.let_time_pass()
        if act.resolves:
            self._resolve()
        self.broken_off = act.broken_off
        self.world.sandbox.set_faults(*act.faults, seed=act.seed)
        self._dag_runs += not act.retry
        self._run(
            limit=act.limit,
            dry_run=act.dry_run,
            latest=FIRST_SLOT + timedelta(minutes=15 * act.slots),
            try_number=1 + act.retry,
            raises=(CrashedError,),
        )

    def end(self) -> None:
        """Faults are over, and there are slots for everybody."""
        self.broken_off = None
        self.world.sandbox.set_faults()
        self.world.sandbox.wait_idle()
        for _ in range(3):
            self.world.ledger.let_time_pass()
            self._resolve()
            self._dag_runs += 1
            self._run()

    def _run(self, **options: Any) -> None:
        watermarks.run(self.world, self.crm, f"dag/{self._dag_runs}/sync", max_concurrency=2, **options)

    def _change(self, change: Change) -> None:
        """An update has the newest time stamp of all; a lead that is new may come late."""
        known = f"L{change.number:03}#1" in self.crm.rows
        late = 0.0 if known else change.late
        # Further than the overlap: what is not held is out of sight after the next change.
        self._now += 0.0 if late else 15.0
        at = max(0.0, self._now - late)
        values = {} if change.valid else {"mobile": "ring me"}
        self.crm.put(change.number, at, **values)

    def _resolve(self) -> None:
        """Say what is true: a person looks into Popin's dashboard."""
        ledger = self.world.open_ledger()
        there = {booking["lead"] for booking in self.world.sandbox.bookings()}
        for doubt in admin.list_in_doubt(ledger):
            outcome = "booked" if f"{doubt['lead_id']}#1" in there else "not-booked"
            admin.resolve(
                ledger,
                source="crm.leads",
                lead_id=str(doubt["lead_id"]),
                generation=1,
                outcome=outcome,
                who="somebody",
                why="seen",
            )

    def _select(self, read_from: datetime) -> Iterator[Row]:
        for number, row in enumerate(self.crm.select(read_from)):
            if number == self.broken_off:
                raise CrashedError
            yield row


@settings(
    max_examples=EXAMPLES,
    # A history takes half a second: shrinking one would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=st.lists(_acts, min_size=1, max_size=5))
def test_a_watermark_loses_nobody(sandbox: SandboxServer, tmp_path: Path, acts: list[Act]) -> None:
    sandbox.reset(slots=SLOTS)
    world = World(sandbox, f"sqlite:///{tmp_path / f'ledger-{next(_numbers)}.db'}", [])
    history = History(world)
    for act in acts:
        history.play(act)
    history.end()
    crm = history.crm

    # A run that reads everything finds nothing to do, so with a watermark nothing was left out.
    whole = world.run("dag/whole/sync", rows=list(crm.rows.values()))
    assert set(whole.reasons.values()) <= {"already_booked", "unchanged_since_rejection"}
    assert set(world.ledger.ended().values()) <= {"booked", "rejected"}
    assert len(whole.reasons) == len(crm.rows)
    check_invariants(world, private=False)

    # And the next run with one reads no more than the overlap.
    crm.instead = None
    quiet = watermarks.run(world, crm, "dag/quiet/sync")
    times: list[Any] = [row["updated_at"] for row in crm.rows.values()]
    assert crm.asked[-1] == max(START, max(times, default=START) - OVERLAP)
    assert set(quiet.counts()) <= {"skipped"}
    world.close()
