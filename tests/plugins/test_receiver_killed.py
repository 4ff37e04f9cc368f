"""The API server dies in the midst of a burst; the large one is in ``tests/scheduler``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_provider_popin.hooks.ledger import open_ledger
from tests.plugins.killed import (
    assert_nothing_that_was_answered_is_lost,
    kill_in_a_burst,
    server_on_the_tests_database,
)


def test_what_was_answered_survives_a_kill(
    airflow_db: None, set_connection: Callable[..., None], tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.db"
    server = server_on_the_tests_database(set_connection, ledger, tmp_path / "api-server.log")
    open_ledger("popin_load_ledger").engine.dispose()
    server.start()
    try:
        answers = kill_in_a_burst(server, 1000, kill_at=200)
    finally:
        server.kill()
    assert_nothing_that_was_answered_is_lost(answers, ledger, kill_at=200)
