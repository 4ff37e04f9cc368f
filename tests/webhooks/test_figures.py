"""What the page counts, and that it does so without looking at every lead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync.ledger import guards, run_log, schema
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks import figures, queries
from airflow_provider_popin.webhooks.figures import FunnelDay, Rejection, SlotUse
from tests.sync.ledgers import ACCOUNT, SOURCE, Database, lead_in
from tests.webhooks.deliveries import SLOT, ZONE, change

DAY = 86_400.0
# 20:00 UTC, which is the next day in India.
FIRST = datetime(2026, 3, 1, 20, tzinfo=UTC).timestamp()


def at(ledger: Ledger, key: int, created_at: float, **values: object) -> None:
    change(ledger, key, created_at=created_at, **values)


@pytest.fixture
def busy(ledger: Ledger) -> Ledger:
    """Return a ledger with leads in every state, on two days."""
    with ledger.write() as connection:
        guards.register(connection, account=ACCOUNT, source=SOURCE, lead_id_column=None)
    states = {
        "new": {},
        "capture_rejected": {"reason": "phone_letters"},
        "captured": {},
        "unassigned": {},
        "planned": {},
        "sending": {},
        "in_doubt": {},
        "rejected": {"reason": "popin_422: agent *** is busy"},
        "booked": {"outcome": "successful"},
    }
    for number, (state, values) in enumerate(states.items(), start=1):
        at(ledger, lead_in(ledger, state, f"A{number}", seat=number), FIRST + number, **values)
    for number, outcome in enumerate(["missed", "abandoned", None], start=1):
        at(ledger, lead_in(ledger, "booked", f"B{number}", seat=20 + number), FIRST + DAY, outcome=outcome)
    at(ledger, lead_in(ledger, "rejected", "B4", seat=30), FIRST + DAY, reason="popin_422: *** is not free")
    return ledger


class TestFunnel:
    def test_by_day_and_source(self, busy: Ledger) -> None:
        first, second = figures.funnel(busy, since=0)
        assert first == FunnelDay(
            day=date(2026, 3, 1),
            source=SOURCE,
            read=9,
            captured=7,
            booked=1,
            happened=1,
            missed=0,
            in_doubt=1,
            rejected=2,
            waiting=5,
        )
        assert (second.day, second.read, second.booked, second.happened) == (date(2026, 3, 2), 4, 3, 0)
        assert (second.missed, second.rejected) == (2, 1)
        for day in (first, second):
            assert day.booked + day.in_doubt + day.rejected + day.waiting == day.read

    def test_of_whose_day(self, busy: Ledger) -> None:
        days = figures.funnel(busy, since=0, timezone="Asia/Kolkata")
        assert [day.day for day in days] == [date(2026, 3, 2), date(2026, 3, 3)]
        with pytest.raises(PopinInputError):
            figures.funnel(busy, since=0, timezone="Nowhere/Land")

    def test_of_a_period_and_a_source(self, busy: Ledger) -> None:
        assert len(figures.funnel(busy, since=FIRST + DAY)) == 1
        assert [day.read for day in figures.funnel(busy, since=FIRST + 4)] == [6, 4]
        assert figures.funnel(busy, since=0, source="other") == []

    def test_it_counts_what_the_ledger_holds(self, busy: Ledger) -> None:
        with busy.read() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(schema.leads)).scalar_one()
        assert sum(day.read for day in figures.funnel(busy, since=0)) == total


def test_rejections_by_code(busy: Ledger) -> None:
    assert figures.rejections(busy, since=0) == [
        Rejection(source=SOURCE, reason="popin_422", leads=2),
        Rejection(source=SOURCE, reason="phone_letters", leads=1),
    ]
    assert len(figures.rejections(busy, since=FIRST + DAY)) == 1
    assert figures.rejections(busy, since=0, source="other") == []


def test_seats_by_slot(busy: Ledger) -> None:
    lead_in(busy, "booked", "C1", slot=SLOT + 900)
    with busy.write() as connection:
        planned = schema.leads.update().where(schema.leads.c.booking_state == "planned")
        connection.execute(planned.values(slot_timezone=None))
    assert figures.utilisation(busy, account=ACCOUNT, since=0, until=2**40) == [
        SlotUse(slot_start=SLOT, timezone=ZONE, booked=4, in_doubt=2, planned=1),
        SlotUse(slot_start=SLOT + 900, timezone=ZONE, booked=1, in_doubt=0, planned=0),
    ]
    assert len(figures.utilisation(busy, account=ACCOUNT, since=SLOT, until=SLOT + 900)) == 1
    assert figures.utilisation(busy, account=ACCOUNT, since=SLOT + 0.5, until=SLOT + 900) == []
    assert len(figures.utilisation(busy, account=ACCOUNT, since=SLOT, until=SLOT + 900.5)) == 2
    assert figures.utilisation(busy, account="other", since=SLOT, until=SLOT + 900) == []


def test_runs_the_newest_first(busy: Ledger) -> None:
    with busy.write() as connection:
        first = run_log.start_run(connection, SOURCE, "dag/1/task", 1)
        run_log.end_run(connection, first, {"rows": 3})
        run_log.start_run(connection, "other", "dag/2/task", 2)
    newest, oldest = figures.runs(busy)
    assert (newest.source, newest.try_number, newest.ended_at, newest.report) == ("other", 2, None, None)
    assert (oldest.run, oldest.report) == ("dag/1/task", {"rows": 3})
    assert oldest.ended_at is not None
    assert [asdict(run)["id"] for run in figures.runs(busy, source=SOURCE)] == [first]
    assert len(figures.runs(busy, limit=1)) == 1


def test_sources(busy: Ledger) -> None:
    assert figures.sources(busy) == [SOURCE]


@pytest.mark.parametrize("name", ["attention", "in_doubt", "alarms", "outcomes", "unmatched", "waiting"])
def test_what_is_asked_often_uses_an_index(sqlite_database: Database, name: str) -> None:
    """The few among many: 100,000 leads must not be looked at to find three doubts."""
    from airflow_provider_popin.webhooks.processing import process_waiting

    engine = sqlite_database.engine()
    ledger = Ledger.open(engine)
    asked: list[tuple[str, object]] = []

    def keep(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    sa.event.listen(engine, "before_cursor_execute", keep)
    ask: dict[str, Callable[[], object]] = {
        "attention": lambda: queries.attention(ledger),
        "in_doubt": lambda: queries.in_doubt(ledger),
        "alarms": lambda: queries.alarms(ledger),
        "outcomes": lambda: queries.outcomes(ledger, source=SOURCE, told_after=1.0),
        "unmatched": lambda: queries.unmatched(ledger),
        "waiting": lambda: process_waiting(ledger),
    }
    ask[name]()
    sa.event.remove(engine, "before_cursor_execute", keep)
    plans = []
    with engine.connect() as connection:
        for statement, parameters in asked:
            if statement.lstrip().startswith("SELECT"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
                plans += [str(row[-1]) for row in rows]
    scans = [plan for plan in plans if plan.startswith("SCAN popin_") and "INDEX" not in plan]
    assert [plan for plan in scans if "popin_outbox" not in plan] == []
    assert any("INDEX" in plan for plan in plans)
