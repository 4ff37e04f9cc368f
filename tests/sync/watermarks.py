"""A CRM table with a column that grows, and runs of the lead sync that read it by a watermark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_popin.client.errors import PopinError
from airflow_provider_popin.sync.errors import SyncError
from airflow_provider_popin.sync.settings import RunIdentity
from airflow_provider_popin.sync.source.watermark_settings import WatermarkSettings
from tests.faults.people import Row, lead_row
from tests.faults.world import Run, World, kept_logs

START = datetime(2026, 1, 1, tzinfo=UTC)
OVERLAP = timedelta(minutes=10)
TASK = "dag/sync"


def minute(number: float) -> datetime:
    """An instant of the CRM."""
    return START + timedelta(minutes=number)


def settings(**changes: Any) -> WatermarkSettings:
    """The watermark of these tests, with changes."""
    given: dict[str, Any] = {"column": "updated_at", "start": START, "overlap": OVERLAP}
    return WatermarkSettings(**(given | changes))


@dataclass
class Crm:
    """A table of leads; ``put`` inserts or updates one.

    :param instead: gives the rows of a run instead of :meth:`select`
    """

    rows: dict[str, Row] = field(default_factory=dict)
    instead: Callable[[Any], Iterator[Row]] | None = None
    # What the newest run asked for, and what it got.
    asked: list[Any] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def put(self, number: int, at: Any, **changes: object) -> None:
        """Insert or replace a lead.

        :param at: its new ``updated_at``; a number stands for a minute
        """
        value = minute(at) if isinstance(at, int | float) else at
        row = lead_row(number, updated_at=value, **changes)
        self.rows[f"{row['lead_id']}#{row.get('generation', 1)}"] = row

    def select(self, read_from: Any) -> Iterator[Row]:
        """``WHERE updated_at >= :watermark``, or ``OR updated_at IS NULL``."""
        self.asked.append(read_from)
        self.read = []
        for row in list(self.rows.values()):
            value: Any = row["updated_at"]
            if value is None or value >= read_from:
                self.read.append(str(row["lead_id"]))
                yield row


def run(
    world: World,
    crm: Crm,
    dag_run: str,
    *,
    raises: tuple[type[BaseException], ...] = (),
    task: str = TASK,
    watermark: WatermarkSettings | None = None,
    **options: Any,
) -> Run:
    """One run, to its end.

    :param watermark: other settings than :func:`settings`
    :param raises: what may be raised besides errors of Popin and of the ledger
    :param options: of :meth:`World.sync`, or settings
    """
    told = Run(rows=None)
    expected: tuple[type[BaseException], ...] = (PopinError, SyncError, *raises)
    world.runs.append(told)
    world.all_rows.extend(crm.rows.values())
    with kept_logs(world.log):
        sync = world.sync(told, dag_run=dag_run, watermark=watermark or settings(), **options)
        sync._run = RunIdentity(dag_run=dag_run, try_number=options.get("try_number", 1), task=task)

        def rows() -> Iterator[Row]:
            yield from (crm.instead or crm.select)(sync.read_from)

        try:
            told.report = sync.run(rows())
            told.problems = told.report.problems(world.settings())
        except expected as error:
            told.error = error
    return told
