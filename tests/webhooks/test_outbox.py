"""Asset events wait until they are emitted, and nobody else emits them meanwhile."""

from __future__ import annotations

import sqlalchemy as sa

from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.outbox import (
    LEASE_SECONDS,
    asset_uri,
    mark_emitted,
    next_asset_events,
    release,
)
from tests.sync.ledgers import Database
from tests.webhooks.deliveries import body, customer_lead, told


def filled(ledger: Ledger, count: int) -> None:
    customer_lead(ledger, "booked")
    told(ledger, *(body("popin_call_rated", timestamp=1_900_000_900 + n) for n in range(count)))


def let_leases_end(ledger: Ledger) -> None:
    column = tables.outbox.c.leased_until
    with ledger.write() as connection:
        connection.execute(tables.outbox.update().values(leased_until=column - LEASE_SECONDS - 1))


def test_the_oldest_first_and_each_to_one_only(ledger: Ledger) -> None:
    filled(ledger, 5)
    first = next_asset_events(ledger, limit=2)
    second = next_asset_events(ledger, limit=2)
    ids = [event.id for event in (*first, *second)]
    assert ids == sorted(set(ids))
    assert [event.extra["event_id"] for event in first] == [event.id for event in first]
    assert len(next_asset_events(ledger)) == 1
    assert next_asset_events(ledger) == []


def test_what_was_emitted_is_gone_and_what_was_not_comes_again(ledger: Ledger) -> None:
    filled(ledger, 3)
    one, two, three = (event.id for event in next_asset_events(ledger))
    mark_emitted(ledger, [one])
    release(ledger, [two])
    assert [event.id for event in next_asset_events(ledger)] == [two]
    # Whoever took the rest died.
    let_leases_end(ledger)
    assert [event.id for event in next_asset_events(ledger)] == [two, three]
    mark_emitted(ledger, [two, three])
    with ledger.read() as connection:
        assert connection.execute(sa.select(tables.outbox)).fetchall() == []


def test_nothing_to_mark(ledger: Ledger) -> None:
    mark_emitted(ledger, [])
    release(ledger, [])
    mark_emitted(ledger, [17])
    assert next_asset_events(ledger) == []


def test_another_process_takes_the_others(database: Database) -> None:
    mine, theirs = Ledger.open(database.engine()), Ledger.open(database.engine())
    filled(mine, 4)
    taken = [event.id for event in next_asset_events(mine, limit=2)]
    others = [event.id for event in next_asset_events(theirs)]
    assert len(taken) == len(others) == 2
    assert not set(taken) & set(others)


def test_uri() -> None:
    assert asset_uri("popin_default", "missed") == "popin://popin_default/calls/missed"
