"""Fixtures for the plugin's tests. On Airflow 2.11 it is empty: `test_plugin.py` alone runs there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from tests import airflow_runs
from tests.plugins.live_api_server import running_api_server

if not airflow_runs.IS_AIRFLOW_3:
    # They import FastAPI, which Airflow 2.11 does not bring.
    collect_ignore_glob = ["test_receiver*.py", "test_page*.py"]
elif not AIRFLOW_V_3_1_PLUS:
    collect_ignore_glob = ["test_page*.py"]


@pytest.fixture(scope="module")
def api_server(airflow_db: None) -> Iterator[str]:
    """Return the URL of Airflow's real API server, which runs in this process.

    It ends with its module: its threads read connections, and beside the tasks that other modules run in this
    process they would ask the supervisor of those, which bears one thread only.
    """
    with running_api_server() as url:
        yield url


@pytest.fixture
def site(api_server: str, set_connection: Callable[..., None], tmp_path: Path) -> Iterator[Any]:
    """Return the page over a small ledger whose numbers are known, see ``page_site``."""
    import sqlalchemy as sa

    from airflow_provider_popin.sync.ledger.ledger import Ledger
    from tests.plugins import page_site

    file = tmp_path / "ledger.db"
    page_site.connect(set_connection, file)
    ledger = Ledger.open(sa.create_engine(f"sqlite:///{file}", future=True))
    page_site.fill(ledger)
    yield page_site.Site(api_server, ledger)
    ledger.engine.dispose()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return a headless Chromium. Of one module only: no other event loop may run beside Playwright's."""
    from tests.plugins import browser

    with browser.chromium() as started:
        yield started
