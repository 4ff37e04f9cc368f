"""Any history of faults, crashes, jumps of time and reruns keeps the invariants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from airflow_provider_popin.sandbox.server import SandboxServer
from tests.faults.checkpoints import checkpoints
from tests.faults.invariants import check_invariants
from tests.faults.people import Row, lead_row
from tests.faults.test_kill_at_every_step import FIRST_RUN, SECOND_RUN
from tests.faults.world import World

LEADS = 6
EXAMPLES = 30
FAULTS = [
    *(f"{endpoint}:{name}" for endpoint in ("capture", "schedule") for name in ("500", "500_after_commit")),
    *("capture:reset_after_commit", "schedule:reset_before_commit", "schedule:html_after_commit"),
    *("capture:422", "schedule:422", "schedule:422(time)", "schedule:422_no_field", "schedule:status0"),
    *("capture:429(0)", "schedule:429(0)", "capture:401", "schedule:403", "schedule:wrong_time"),
    *("slots:500", "slots:empty_availability", "slots:malformed_slots", "schedule:missing_parts"),
]
STEPS = sorted({*FIRST_RUN, *SECOND_RUN, "expired:committed", "released.waiting:uncommitted"})

_numbers = itertools.count()


class CrashedError(Exception):
    """The process is dead: from here on, it writes nothing and sends nothing."""


class Crash:
    """Kills a run, without its process, the n-th time it reaches a step.

    :param step: None never
    """

    def __init__(self, step: str | None, times: int) -> None:
        self._step = step
        self._left = times
        self.happened = False

    def reach(self, name: str) -> None:
        """Called at every step of the run."""
        if name == self._step:
            self._left -= 1
            self.happened = self.happened or self._left <= 0
        if self.happened:
            raise CrashedError(self._step)


@dataclass(frozen=True)
class Act:
    """One run of a history, and what happens around it.

    :param leads: numbers of the leads that the source has by then, and their generations
    :param faults: with their probabilities
    :param crash: step, and how often it is reached before the crash
    :param next_dag_run: False for a retry of the Dag run before
    :param passes: time passes before the run: leases and deadlines are over
    """

    leads: Sequence[tuple[int, int]]
    faults: Sequence[str]
    seed: int
    crash: tuple[str, int] | None
    next_dag_run: bool
    passes: bool
    options: dict[str, Any]

    def rows(self) -> list[Row]:
        return [lead_row(number, generation=generation) for number, generation in self.leads]


_faults = st.lists(
    st.builds("{}={}".format, st.sampled_from(FAULTS), st.sampled_from(["0.1", "0.3", "1"])), max_size=3
)
_options = st.fixed_dictionaries(
    {
        "max_concurrency": st.sampled_from([1, 3]),
        "max_in_doubt": st.sampled_from([0, 100]),
        "limit": st.sampled_from([None, None, 2]),
        "carry_over": st.booleans(),
        "steps": st.sampled_from([("capture", "schedule"), ("capture", "schedule"), ("capture",)]),
    }
)
_acts = st.builds(
    Act,
    leads=st.lists(
        st.tuples(st.integers(1, LEADS), st.sampled_from([1, 1, 1, 2])), min_size=1, max_size=LEADS
    ),
    faults=_faults,
    seed=st.integers(0, 99),
    crash=st.none() | st.tuples(st.sampled_from(STEPS), st.integers(1, 3)),
    next_dag_run=st.booleans(),
    passes=st.booleans(),
    options=_options,
)


@settings(
    max_examples=EXAMPLES,
    # A history takes half a second: shrinking one would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=st.lists(_acts, min_size=1, max_size=4))
def test_any_history_keeps_the_promise(sandbox: SandboxServer, tmp_path: Path, acts: list[Act]) -> None:
    sandbox.reset()
    world = World(sandbox, f"sqlite:///{tmp_path / f'ledger-{next(_numbers)}.db'}", [])
    world.all_rows = [lead_row(number) for number in range(1, LEADS + 1)]
    interrupted = dag_run = 0
    for act in acts:
        if act.passes:
            world.ledger.let_time_pass()
        dag_run += act.next_dag_run
        sandbox.set_faults(*act.faults, seed=act.seed)
        crash = Crash(*(act.crash or (None, 1)))
        with checkpoints(crash.reach):
            world.run(f"dag/{dag_run}/sync", rows=act.rows(), raises=CrashedError, **act.options)
        interrupted += crash.happened * act.options["max_concurrency"]
        check_invariants(world, interrupted=interrupted, at_rest=False)

    # The second generation of a lead waits until the first is done.
    wanted = {(number, 1) for number in range(1, LEADS + 1)}.union(*(act.leads for act in acts))
    world.rows = [lead_row(number, generation=generation) for number, generation in sorted(wanted)]
    world.settle(runs=3)
    check_invariants(world, interrupted=interrupted)
    world.close()
    assert set(world.ledger.ended().values()) <= {"booked", "in_doubt", "rejected"}
