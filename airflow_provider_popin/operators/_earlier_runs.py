"""What Airflow knows about earlier tries of this task: the guard against a ledger that was lost.

A ledger that has never heard of a source is only believable where nothing was sent before. So each try leaves
a note of its own (an XCom under :data:`NOTE_KEY`), and the next looks for notes and for instances that ran.

============================================  ====  ========  ====
what is seen                                  2.11  3.0, 3.1  3.2+
============================================  ====  ========  ====
an earlier try of this task instance           x       x       x
other Dag runs where the task ended            x       x       x
such a run that was cleared and has not        x      (1)     (1)
run again
the newest note up to this run's date          x       x       x
the newest note of any date (backfills)        x               x
============================================  ====  ========  ====

(1) by its note only, if that is the newest.

In doubt the answer is "there was one": a refusal is mended by ``ledger init --source``, a second booking by
nobody.
A task that runs at this moment in another Dag run for the first time is not counted: it guards itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_popin.sync.settings import Prior

NOTE_KEY = "popin_lead_sync"
# States of a task instance whose code ran, at least a little.
ENDED = ("success", "failed", "up_for_retry", "restarting", "up_for_reschedule", "deferred")
REPORT_FIELDS = ("ledger_id", "ledger_sequence", "ledger_time")
# Beyond this many runs without a note that says so, nobody checks whether all of them were dry.
_MOST_RUNS_CHECKED = 100
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)

Note = Mapping[str, object]
# Dag run id and map index, -1 for a task that is not mapped.
Instance = tuple[str, int]


class TaskInstance(Protocol):
    """What Airflow 2 and 3 both offer of the running task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int | None
    try_number: int

    def xcom_push(self, key: str, value: Any) -> None:
        """Store a value for other tasks and runs."""


class _History(Protocol):
    """One way to ask Airflow."""

    def newest_notes(self) -> Sequence[Note]:
        """Return notes of other runs, newest first."""

    def tried_again(self) -> bool:
        """Whether another run is known to be at its second try or later."""

    def ended(self) -> Sequence[Instance] | None:
        """Return the instances of other runs that ended; None if there are too many to look at."""

    def note(self, instance: Instance) -> Note | None:
        """Return the note of one instance."""


def look_back(ti: TaskInstance) -> Prior:
    """Find out whether an earlier try of this task may have sent something.

    :param ti: the running task instance, before it wrote a note.
    :return: whether one is known, and the ledger numbers of the newest reports that can be seen.
    """
    history: _History = _ExecutionApi(ti) if AIRFLOW_V_3_0_PLUS else _Database(ti)
    notes = history.newest_notes()
    earlier_try = (
        ti.try_number > 1
        or any(not _harmless(note) for note in notes)
        or history.tried_again()
        or _any_unexplained(history)
    )
    return Prior(earlier_try=earlier_try, reports=_reports(notes))


def leave_note(ti: TaskInstance, *, dry_run: bool, sending: bool, report: Mapping[str, object]) -> None:
    """Tell later runs how far this try got.

    :param ti: the running task instance.
    :param dry_run: whether this try sends nothing on principle.
    :param sending: False before anything could be sent, True from then on.
    :param report: the report, or the newest one seen so far; only its ledger numbers are kept.
    """
    numbers = {name: report[name] for name in REPORT_FIELDS if name in report}
    note = {"try_number": ti.try_number, "dry_run": dry_run, "sending": sending}
    ti.xcom_push(key=NOTE_KEY, value=note | numbers)


def _any_unexplained(history: _History) -> bool:
    """Whether a run ended of which no note says that it sent nothing."""
    ended = history.ended()
    return ended is None or any(not _harmless(history.note(instance)) for instance in ended)


def _harmless(note: Note | None) -> bool:
    """Whether nothing can have been sent. Later tries hide earlier ones, so only a first try can say so."""
    if note is None or note.get("try_number") != 1:
        return False
    return note.get("dry_run") is True or note.get("sending") is False


def _reports(notes: Iterable[Note]) -> list[Mapping[str, object]]:
    return [{name: note[name] for name in REPORT_FIELDS} for note in notes if set(REPORT_FIELDS) <= set(note)]


def _as_note(value: object) -> Note | None:
    return value if isinstance(value, Mapping) else None


class _ExecutionApi:
    """Airflow 3: a task has no database, it asks the execution API through its task instance."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self._who = {"dag_id": ti.dag_id, "task_ids": [ti.task_id]}
        self._previous = self._newest_instance()

    def newest_notes(self) -> Sequence[Note]:
        if not self._count_elsewhere():
            # Airflow logs an error for an XCom that is not there, which would stand in every first run.
            return []
        found = [_as_note(self._pull(include_prior_dates=True, map_indexes=self._ti.map_index))]
        if self._previous is not None:
            found.append(self.note((self._previous.run_id, self._previous.map_index)))
        return [note for note in found if note is not None]

    def tried_again(self) -> bool:
        return self._previous is not None and self._previous.try_number > 1

    def ended(self) -> Sequence[Instance] | None:
        count = self._count_elsewhere(states=list(ENDED))
        if count > _MOST_RUNS_CHECKED:
            return None
        if not count:
            return ()
        runs = self._ti.get_task_states(**self._who)
        return [
            (run_id, self._map_index(label))
            for run_id, states in runs.items()
            if run_id != self._ti.run_id
            for label, state in states.items()
            if state in ENDED
        ]

    def note(self, instance: Instance) -> Note | None:
        run_id, map_index = instance
        return _as_note(self._pull(run_id=run_id, map_indexes=map_index))

    def _count_elsewhere(self, **which: Any) -> int:
        """Count instances of this task in other Dag runs."""
        everywhere: int = self._ti.get_ti_count(**self._who, **which)
        here: int = self._ti.get_ti_count(**self._who, **which, run_ids=[self._ti.run_id])
        return max(everywhere - here, 0)

    def _newest_instance(self) -> Any | None:
        """Return the instance of the latest logical date, unless that is this one. Airflow 3.2+."""
        if not hasattr(self._ti, "get_previous_ti"):
            return None
        map_index = -1 if self._ti.map_index is None else self._ti.map_index
        found = self._ti.get_previous_ti(logical_date=_END_OF_TIME, map_index=map_index)
        return None if found is None or found.run_id == self._ti.run_id else found

    def _pull(self, **which: Any) -> object:
        return self._ti.xcom_pull(task_ids=self._ti.task_id, key=NOTE_KEY, **which)

    def _map_index(self, label: str) -> int:
        """Read the index from ``task_id`` or ``task_id_3``, as Airflow labels the states of a run."""
        suffix = label.removeprefix(self._ti.task_id).removeprefix("_")
        return int(suffix) if suffix else -1


class _Database:
    """Airflow 2: tasks read Airflow's own database."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti
        self._notes: dict[Instance, Note] = {}

    def newest_notes(self) -> Sequence[Note]:
        from airflow.models.xcom import XCom
        from airflow.utils.session import create_session

        with create_session() as session:
            # Columns, not objects: an object's value has gone through the XCom backend already, or not.
            rows = session.query(XCom.run_id, XCom.map_index, XCom.value).filter(
                XCom.dag_id == self._ti.dag_id,
                XCom.task_id == self._ti.task_id,
                XCom.key == NOTE_KEY,
                XCom.run_id != self._ti.run_id,
            )
            for row in rows.order_by(XCom.timestamp.desc()).limit(2 * _MOST_RUNS_CHECKED):
                note = _as_note(XCom.deserialize_value(row))
                if note is not None:
                    self._notes[row.run_id, row.map_index] = note
        return list(self._notes.values())

    def tried_again(self) -> bool:
        from airflow.models.taskinstancehistory import TaskInstanceHistory
        from airflow.utils.session import create_session

        with create_session() as session:
            query = session.query(TaskInstanceHistory).filter(*self._elsewhere(TaskInstanceHistory))
            return query.first() is not None

    def ended(self) -> Sequence[Instance] | None:
        from airflow.models import taskinstance
        from airflow.utils.session import create_session

        table = taskinstance.TaskInstance
        with create_session() as session:
            query = session.query(table.run_id, table.map_index).filter(table.state.in_(ENDED))
            rows = query.filter(*self._elsewhere(table)).limit(_MOST_RUNS_CHECKED + 1).all()
        return None if len(rows) > _MOST_RUNS_CHECKED else [(run_id, index) for run_id, index in rows]

    def note(self, instance: Instance) -> Note | None:
        return self._notes.get(instance)

    def _elsewhere(self, model: Any) -> tuple[Any, ...]:
        ti = self._ti
        return model.dag_id == ti.dag_id, model.task_id == ti.task_id, model.run_id != ti.run_id
