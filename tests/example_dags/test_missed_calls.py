"""The example that books missed calls again, on real Airflow, on asset events from the real outbox."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_popin.hooks.ledger import open_ledger
from airflow_provider_popin.sandbox.server import SandboxServer
from example_dags import popin_crm_sync, popin_missed_calls
from tests.airflow_runs import IS_AIRFLOW_3, states, xcom
from tests.example_dags.webhooks import make_small_crm, tell_of

pytestmark = [
    pytest.mark.usefixtures("pool", "results"),
    pytest.mark.skipif(not IS_AIRFLOW_3, reason="Dags run on webhooks from Airflow 3.0 on"),
]

URI = "popin://popin_default/calls/missed"
RunOn = Callable[[Sequence[Any]], Any]


@pytest.fixture
def booked(
    popin: SandboxServer, crm: sqlite3.Connection, tmp_path: Path, run_dag: Callable[..., Any]
) -> list[sqlite3.Row]:
    """Two leads with a call."""
    make_small_crm(tmp_path / "crm.db", 3)
    run_dag(popin_crm_sync.dag)
    return crm.execute("SELECT * FROM leads WHERE popin_state = 'booked' ORDER BY id LIMIT 2").fetchall()


@pytest.fixture
def run_on(run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> RunOn:
    """Return ``run_on(event ids)``: a run of the Dag that these asset events started.

    ``dag.test()`` makes a run of nobody's. The scheduler's part, to say which events it is for, is done here.
    """
    from airflow.models.asset import AssetEvent
    from sqlalchemy import select

    module: Any = import_module("airflow.models.dagrun" if AIRFLOW_V_3_1_PLUS else "airflow.models.dag")
    name = "get_or_create_dagrun" if AIRFLOW_V_3_1_PLUS else "_get_or_create_dagrun"
    make_run = getattr(module, name)
    consumed: list[Any] = []

    def make_run_of_events(**kwargs: Any) -> Any:
        run = make_run(**kwargs)
        session = kwargs["session"]
        run.consumed_asset_events = list(
            session.scalars(select(AssetEvent).where(AssetEvent.id.in_(consumed)))
        )
        session.commit()
        return run

    monkeypatch.setattr(module, name, make_run_of_events)

    def run_on(events: Sequence[Any]) -> Any:
        consumed[:] = events
        return run_dag(popin_missed_calls.dag)

    return run_on


def emitted() -> list[int]:
    """Emit what waits in the outbox; return the ids of all asset events of missed calls."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from airflow_provider_popin.plugins.outbox import emit_waiting

    ledger = open_ledger("popin_ledger")
    while emit_waiting(ledger):
        pass
    ledger.engine.dispose()
    query = select(AssetEvent.id).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
    with create_session() as session:
        return list(session.scalars(query.where(AssetModel.uri == URI).order_by(AssetEvent.id)))


def row(crm: sqlite3.Connection, lead_id: str) -> sqlite3.Row:
    found: sqlite3.Row = crm.execute("SELECT * FROM leads WHERE id = ?", (lead_id,)).fetchone()
    return found


def test_a_missed_call_is_booked_once_more_however_often_it_is_told(
    popin: SandboxServer, crm: sqlite3.Connection, booked: list[sqlite3.Row], run_on: RunOn
) -> None:
    before = popin.stats()["bookings"]
    known = set(run_on([]) and emitted())
    for lead in booked:
        tell_of(lead, "missed")
    events = [event for event in emitted() if event not in known]
    assert len(events) == 2

    # Several events start one run; one of them comes again, with the next.
    run = run_on(events)
    assert states(run) == {"note_missed_calls": "success", "call_again": "success"}
    again = run_on(events[:1])
    assert states(again) == {"note_missed_calls": "success", "call_again": "success"}

    assert xcom(run, "call_again")["results"]["booked"] == 2
    assert xcom(again, "call_again")["rows"] == 0
    assert popin.stats()["bookings"] == before + 2
    for lead in booked:
        now = row(crm, lead["id"])
        assert (now["popin_generation"], now["popin_state"]) == (2, "booked")
        assert now["popin_call_time"] != lead["popin_call_time"]
    assert max(Counter(booking["time"] for booking in popin.bookings()).values()) == 1


def test_who_misses_the_second_call_too_is_left_alone(
    popin: SandboxServer,
    crm: sqlite3.Connection,
    booked: list[sqlite3.Row],
    run_on: RunOn,
    run_dag: Callable[..., Any],
) -> None:
    known = set(run_on([]) and emitted())
    lead = booked[0]["id"]
    for _ in range(2):
        tell_of(row(crm, lead), "missed")
        new = [event for event in emitted() if event not in known]
        known.update(new)
        assert len(new) == 1
        assert states(run_on(new))["call_again"] == "success"
    calls = popin.stats()["bookings"]
    run_dag(popin_crm_sync.dag)

    assert (row(crm, lead)["popin_generation"], row(crm, lead)["popin_state"]) == (2, "missed")
    assert popin.stats()["bookings"] == calls


def test_a_run_without_events_makes_up_for_one_that_died(
    popin: SandboxServer, crm: sqlite3.Connection, booked: list[sqlite3.Row], run_on: RunOn
) -> None:
    lead = booked[0]["id"]
    crm.execute("UPDATE leads SET popin_generation = 2, popin_state = 'call again' WHERE id = ?", (lead,))
    crm.commit()

    run = run_on([])

    assert xcom(run, "call_again")["results"]["booked"] == 1
    assert row(crm, lead)["popin_state"] == "booked"
