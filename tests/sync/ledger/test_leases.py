"""Leases: who may send the leads of a run that is gone, and of one that is not."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.ledger import leases, ledger_queries
from airflow_provider_popin.sync.ledger.ledger import Ledger, locked
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from tests.sync.ledgers import (
    ACCOUNT,
    OWNER,
    RUN,
    Database,
    add_lead,
    apply,
    booking_intent,
    capture_intent,
    captured,
    lead_in,
    planned,
    record,
    seats,
)

GONE = "00000000-0000-0000-0000-00000000000b"


def hold_lease(ledger: Ledger, owner: str = OWNER, seconds: float = 60.0) -> None:
    with ledger.write() as connection:
        leases.renew_lease(connection, owner, RUN, seconds)


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
        leases.renew_lease(connection, GONE, RUN, 60, try_number=1)
        claimed = [{"lead_id": str(n), "generation": 1, "claim_owner": GONE} for n in range(3)]
        ledger_queries.insert_leads(connection, config.account_key, "crm", claimed)

    rows = [{"lead_id": n, "name": "Lea Example", "mobile": f"+12025550{n + 100}"} for n in range(3)]
    settings = SyncSettings(source="crm", requests_per_second=0, calls_per_slot=3)
    report = LeadSync(settings=settings, config=config, ledger=ledger, run=run).run(rows)

    assert report.results[result] == 3
    assert sandbox.stats()["bookings"] == (3 if result == "booked" else 0)
    assert report.seconds > 0


class TestLeases:
    def test_a_lease_is_live_until_its_deadline(self, ledger: Ledger) -> None:
        hold_lease(ledger, OWNER)
        hold_lease(ledger, GONE, seconds=-0.001)
        with ledger.read() as connection:
            assert leases.live_owners(connection) == {OWNER}
        hold_lease(ledger, GONE)
        with ledger.read() as connection:
            assert leases.live_owners(connection) == {OWNER, GONE}

    def test_the_end_of_a_lease_gives_plans_back_and_nothing_else(self, ledger: Ledger) -> None:
        hold_lease(ledger)
        states = ("captured", "planned", "sending", "in_doubt", "booked", "unassigned")
        keys = {state: lead_in(ledger, state, state, seat=number) for number, state in enumerate(states)}
        with ledger.write() as connection:
            leases.end_lease(connection, ledger, ACCOUNT, OWNER, RUN)
        told = {state: record(ledger, key).booking_state for state, key in keys.items()}
        assert told == {**{state: state for state in states}, "captured": "waiting", "planned": "waiting"}
        assert set(seats(ledger)) == {keys[state] for state in ("sending", "in_doubt", "booked")}
        with ledger.read() as connection:
            assert leases.live_owners(connection) == frozenset()

    def test_seats_planned_by_the_dead_are_free_again(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "planned")
        hold_lease(ledger)
        with ledger.write() as connection:
            assert leases.reclaim_planned(connection, ledger, ACCOUNT, RUN) == 0
        hold_lease(ledger, seconds=-1)
        with ledger.write() as connection:
            assert leases.reclaim_planned(connection, ledger, "another shop", RUN) == 0
            assert leases.reclaim_planned(connection, ledger, ACCOUNT, RUN) == 1
        assert record(ledger, key).booking_state == "waiting"
        assert seats(ledger) == {}


class TestExpiry:
    def test_attempts_past_their_deadline_are_in_doubt(self, ledger: Ledger) -> None:
        overdue, fresh, capture = (add_lead(ledger, f"L{number}") for number in range(3))
        for number, (key, seconds) in enumerate([(overdue, -11.0), (fresh, 30.0)]):
            apply(ledger, capture_intent(key), captured(key))
            apply(ledger, planned(key, seat=number))
            apply(ledger, booking_intent(key, timeout_seconds=seconds))
        apply(ledger, capture_intent(capture, timeout_seconds=-11.0))
        with ledger.write() as connection:
            assert leases.expire(connection, ledger, "another shop") == 0
            assert leases.expire(connection, ledger, ACCOUNT) == 2
            assert leases.expire(connection, ledger, ACCOUNT) == 0
        assert record(ledger, overdue).booking_state == "in_doubt"
        assert record(ledger, fresh).booking_state == "sending"
        assert record(ledger, capture).capture_state == "in_doubt"


@pytest.mark.postgres
def test_what_another_run_is_writing_is_left_to_it(postgres_database: Database) -> None:
    """To wait for it could be to wait for each other, since either holds leads that the other wants."""
    ledger, other = Ledger.open(postgres_database.engine()), Ledger.open(postgres_database.engine())
    overdue, abandoned = add_lead(ledger, "L1"), add_lead(ledger, "L2")
    for seat, key in enumerate([overdue, abandoned], 1):
        apply(ledger, capture_intent(key), captured(key), planned(key, seat=seat))
    apply(ledger, booking_intent(overdue, timeout_seconds=-11.0))
    with ledger.write() as connection:
        connection.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
        with other.write() as theirs:
            locked(theirs, [overdue, abandoned])
            assert leases.expire(connection, ledger, ACCOUNT) == 0
            assert leases.reclaim_planned(connection, ledger, ACCOUNT, RUN) == 0
        assert leases.expire(connection, ledger, ACCOUNT) == 1
        assert leases.reclaim_planned(connection, ledger, ACCOUNT, RUN) == 1
