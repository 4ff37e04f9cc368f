"""Leases: who may send the leads of a run that is gone, and of one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.ledger import leases, ledger_queries
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings

RUN = "dag/run/task"
KILLED = "00000000-0000-0000-0000-00000000dead"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}", future=True))
    yield opened
    opened.engine.dispose()


@pytest.fixture
def config(sandbox: SandboxServer) -> ClientConfig:
    return ClientConfig(
        base_url=sandbox.url,
        seller_token=sandbox.settings.token,
        api_key=sandbox.settings.api_key,
        requests_per_second=0,
    )


@pytest.mark.parametrize(
    ("run", "result"),
    [
        (RunIdentity(dag_run=RUN, try_number=2), "booked"),
        (RunIdentity(dag_run=RUN, try_number=1), "pending"),  # Airflow can run a try twice at once
        (RunIdentity(dag_run="dag/later run/task", try_number=1), "pending"),
        (RunIdentity(dag_run="dag/later run/task", try_number=9), "pending"),
    ],
)
def test_only_a_later_try_of_the_same_dag_run_takes_over_before_the_lease_runs_out(
    ledger: Ledger, config: ClientConfig, sandbox: SandboxServer, run: RunIdentity, result: str
) -> None:
    with ledger.write() as connection:
        leases.renew_lease(connection, KILLED, RUN, 60, try_number=1)
        claimed = [{"lead_id": str(n), "generation": 1, "claim_owner": KILLED} for n in range(3)]
        ledger_queries.insert_leads(connection, config.account_key, "crm", claimed)

    rows = [{"lead_id": n, "name": "Lea Example", "mobile": f"+12025550{n + 100}"} for n in range(3)]
    settings = SyncSettings(source="crm", requests_per_second=0, calls_per_slot=3)
    report = LeadSync(settings=settings, config=config, ledger=ledger, run=run).run(rows)

    assert report.results[result] == 3
    assert sandbox.stats()["bookings"] == (3 if result == "booked" else 0)
    assert report.seconds > 0
