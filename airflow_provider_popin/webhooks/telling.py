"""Telling the CRM how calls ended: every ending at least once, in the order in which the ledger learned."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from airflow_provider_popin.sync.errors import WriteBackError
from airflow_provider_popin.sync.ledger import schema, watermark_store
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.ledger.watermark_store import OUTCOMES, Kept, Position
from airflow_provider_popin.sync.report import NAMED_LEADS
from airflow_provider_popin.sync.write_back import WriteBack
from airflow_provider_popin.webhooks.queries import outcomes
from airflow_provider_popin.webhooks.views import OutcomeView

log = logging.getLogger(__name__)

PAGE = 500
# Less than this, and an instant of today is the same number.
_A_LITTLE = 0.001


@dataclass(slots=True)
class Told:
    """What one run told.

    :param outcomes: leads by how their call ended
    :param failed: leads that could not be told
    :param leads: the first of them, by id
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    leads: list[str] = field(default_factory=list)


def tell_outcomes(ledger: Ledger, *, source: str, task: str, run: str, tell: WriteBack) -> Told:
    """Tell what was not told yet. The place is kept in the ledger after each page, and passes no failure.

    :param ledger: with the outcomes
    :param source: of the leads
    :param task: whose place it is: ``<dag_id>/<task_id>``
    :param run: the Dag run, for people
    :param tell: the CRM's side; see :data:`~airflow_provider_popin.sync.write_back.WriteBack`
    :raises LedgerError: the ledger cannot be used
    """
    with ledger.write() as connection:
        kept = watermark_store.load(connection, account="", source=source, task=task, write=True)
        known = connection.execute(
            sa.select(schema.sources.c.source).where(schema.sources.c.source == source)
        )
        if known.first() is None:
            log.warning(
                "The ledger knows no source %r yet: check its name, or run the lead sync first.", source
            )
    assert kept is not None
    told, held, after = Told(), None, _start(kept.now)
    while page := outcomes(ledger, source=source, told_after=after, limit=PAGE):
        failed = _tell(page, tell)
        for index, view in enumerate(page):
            if index in failed:
                held = view.told_at if held is None else held
                told.failed += 1
                told.leads = [*told.leads, view.lead_id][:NAMED_LEADS]
            else:
                told.outcomes[view.outcome] += 1
        after = page[-1].told_at
        moved = _keep(ledger, kept, run=run, now=Position(repr(after), None if held is None else repr(held)))
        if moved is None:
            # Another run of this task tells the same; what both tell does no harm, but one place is kept.
            log.info("Another run moved the place up to which outcomes were told; this one ends here.")
            break
        kept = moved
    return told


def _start(place: Position) -> float:
    after = 0.0 if place.high is None else float(place.high)
    return after if place.held is None else min(after, float(place.held) - _A_LITTLE)


def _tell(page: Sequence[OutcomeView], tell: WriteBack) -> frozenset[int]:
    try:
        tell([_row(view) for view in page])
    except WriteBackError as error:
        log.error("Outcomes could not be told for %s of %s leads: %s", len(error.failed), len(page), error)
        return error.failed
    return frozenset()


def _row(view: OutcomeView) -> Mapping[str, object]:
    return {
        "lead_id": view.lead_id,
        "generation": view.generation,
        "outcome": view.outcome,
        "outcome_at": datetime.fromtimestamp(view.outcome_at, UTC).isoformat(timespec="seconds"),
        "call_time": view.call_time,
    }


def _keep(ledger: Ledger, kept: Kept, *, run: str, now: Position) -> Kept | None:
    with ledger.write() as connection:
        moved = watermark_store.save(
            connection, kept, reader=OUTCOMES, column="outcome_told_at", run=run, now=now, before=kept.now
        )
        if not moved:
            return None
        return watermark_store.load(
            connection, account=kept.account, source=kept.source, task=kept.task, write=False
        )
