"""``kill -9`` of Airflow's API server during 5,000 deliveries, and what its successor finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import airflow_runs
from tests.waiting import wait_until

if not airflow_runs.IS_AIRFLOW_3:
    pytest.skip("Airflow 2.11 has no API server to mount a receiver in", allow_module_level=True)

from tests.plugins import bookings
from tests.plugins.killed import (
    assert_nothing_that_was_answered_is_lost,
    kill_in_a_burst,
    server_on_the_tests_database,
)

pytestmark = pytest.mark.scheduler

DELIVERIES, KILL_AT = 5_000, 2_000
# Of these customers the ledger knows a booking; the others' events wait for their leads.
BOOKED = range(1, 1_501)


def test_every_delivery_that_was_answered_is_kept_and_processed_by_the_next_server(
    airflow_db: None, set_connection: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"
    server = server_on_the_tests_database(set_connection, path, tmp_path / "api-server.log")
    ledger = bookings.book("popin_load_ledger", BOOKED)
    server.start()
    try:
        answers = kill_in_a_burst(server, DELIVERIES, kill_at=KILL_AT)
        assert_nothing_that_was_answered_is_lost(answers, path, kill_at=KILL_AT)
        # What the dead one left behind is processed without a new delivery.
        server.start()
        wait_until(
            lambda: not bookings.unprocessed(ledger, BOOKED) and not bookings.waiting_asset_events(ledger)
        )
    finally:
        server.kill()
        ledger.engine.dispose()
