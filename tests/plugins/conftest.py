"""Fixtures for the plugin's tests. There is no plugin on Airflow 2.11: `test_plugin.py` alone runs there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import airflow_runs
from tests.plugins.live_api_server import running_api_server

if not airflow_runs.IS_AIRFLOW_3:
    # They import FastAPI, which Airflow 2.11 does not bring.
    collect_ignore_glob = ["test_receiver*.py", "test_background*.py", "test_outbox*.py", "test_page*.py"]


@pytest.fixture(scope="session")
def api_server(airflow_db: None) -> Iterator[str]:
    """Return the URL of Airflow's real API server, which runs in this process."""
    with running_api_server() as url:
        yield url
