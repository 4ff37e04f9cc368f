"""What stands between the ledger and its Postgres, and what servers do to their clients."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.faults.conftest import MakeWorld
from tests.faults.invariants import check_invariants
from tests.faults.others import when
from tests.pgbouncer import running_pooler
from tests.postgres import empty_schema

pytestmark = pytest.mark.postgres


@pytest.fixture
def ledger_url(postgres: str) -> Iterator[str]:
    """Return the URL of a ledger on Postgres that does not exist yet."""
    with empty_schema(postgres) as url:
        yield url.render_as_string(hide_password=False)


@pytest.mark.parametrize("processes", [1, 3])
def test_a_pooler_that_knows_of_no_prepared_statements(make_world: MakeWorld, processes: int) -> None:
    world = make_world(60)
    with running_pooler(sa.engine.make_url(world.ledger_url), processes=processes) as url:
        pooled = sa.create_engine(url, future=True)
        other = sa.create_engine(url, future=True)

        runs = [
            world.run(f"dag/{number}/sync", ledger=Ledger.open(engine), max_concurrency=8)
            for number, engine in enumerate([pooled, other, pooled])
        ]
        with pooled.connect() as connection:
            prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
        for engine in (pooled, other):
            engine.dispose()

    assert prepared == 0, "under its name another client may run another statement"
    assert [run.error for run in runs] == [None] * 3
    assert set(runs[0].results.values()) == {"booked"}
    check_invariants(world)


def test_a_pooler_before_a_server_that_does_not_wait_for_the_disk_is_refused(make_world: MakeWorld) -> None:
    """Straight, the ledger tells the server to wait; through a pooler it would tell one process of many."""
    world = make_world(1)
    server = sa.engine.make_url(world.ledger_url)
    administrator = sa.create_engine(server, future=True, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET synchronous_commit = off")
        try:
            with running_pooler(server) as url:
                pooled = sa.create_engine(url, future=True)
                with pytest.raises(LedgerError, match="SET synchronous_commit = on"):
                    Ledger.open(pooled)
                pooled.dispose()
            assert world.run().counts() == {"booked": 1}
        finally:
            connection.exec_driver_sql(f"ALTER DATABASE {name} RESET synchronous_commit")
    administrator.dispose()


def test_outcomes_are_kept_while_the_server_takes_no_writes(make_world: MakeWorld) -> None:
    """As a standby before it is promoted, and a managed server whose storage is nearly full."""
    world = make_world(30)
    world.sandbox.set_faults("schedule:slow_after_commit(0.2)")
    name, read_only = f"popin-{uuid.uuid4().hex}", threading.Event()
    engine = sa.create_engine(world.ledger_url, future=True, connect_args={"application_name": name})

    @sa.event.listens_for(engine, "do_connect")
    def _read_only(dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> Any:
        only = "on" if read_only.is_set() else "off"
        options = f"{parameters['options']} -c default_transaction_read_only={only}"
        return dialect.connect(**parameters | {"options": options})

    administrator = sa.create_engine(world.ledger_url, future=True, isolation_level="AUTOCOMMIT")
    recovers = threading.Timer(1.0, read_only.clear)

    def fail_over() -> None:
        read_only.set()
        with administrator.connect() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name"
                ),
                {"name": name},
            )
        recovers.start()

    with when(world.sandbox.bookings, fail_over):
        run = world.run(ledger=Ledger.open(engine), max_concurrency=6)
    recovers.join()
    engine.dispose()
    administrator.dispose()

    assert isinstance(run.error, LedgerUnreachableError)
    assert any("kept and tried again" in line for line in world.log)
    booked = {booking["lead"] for booking in world.sandbox.bookings()}
    assert booked
    assert {mark for mark, state in world.ledger.ended().items() if state == "booked"} == booked
    check_invariants(world)
    assert set(world.settle().results.values()) == {"booked", "skipped"}
    check_invariants(world)
