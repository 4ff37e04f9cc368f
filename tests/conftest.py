"""Fixtures for all tests. Airflow's environment is set here, before any test module can import Airflow."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import hypothesis
import pytest

from scripts.stopping import STOP_SIGNALS
from tests import network, postgres, privacy
from tests.airflow_env import prepare_environment

pytest_plugins = ["pytester"]

AIRFLOW_HOME = prepare_environment()

from tests import airflow_runs  # noqa: E402  (Airflow reads its environment when it is imported)

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer

API_KEY = "test-api-key-5c1e9d"
SELLER_TOKEN = "test-seller-token-77"

# No deadline per example: a machine under load is not a failure. In CI the same examples every time.
hypothesis.settings.register_profile("popin", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("popin")


def pytest_configure(config: pytest.Config) -> None:
    """Search all output for the keys; before Airflow 3.3 only our own package's warnings are errors."""
    privacy.register_personal(API_KEY, SELLER_TOKEN)
    if not airflow_runs.IS_FREE_OF_WARNINGS:
        config.addinivalue_line("filterwarnings", "ignore")
        config.addinivalue_line("filterwarnings", "error:::airflow_provider_popin")


def pytest_sessionstart() -> None:
    """Keep the session on loopback, and let our DEBUG lines be written, so that they are searched too."""
    network.block_outside_network()
    logging.getLogger("airflow_provider_popin").setLevel(logging.DEBUG)


def pytest_sessionfinish() -> None:
    """Give the network back to whatever runs after the tests in this process."""
    network.allow_outside_network()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test whose captured output or log holds a registered personal value."""
    report = yield
    if report.when == "teardown" and report.passed:
        for title, text in report.sections:
            found = privacy.find_personal_data(text, privacy.registered_values())
            if found:
                report.outcome = "failed"
                report.longrepr = f"{title} of {item.nodeid} holds personal data: {found}"
    return report


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Put back what Airflow leaves: the processes of later tests would inherit what is ignored."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Create Airflow's SQLite database, once per session."""
    airflow_runs.init_database()


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[..., Any]:
    """Return ``run_dag(dag, **kwargs) -> DagRun``; see ``tests/airflow_runs.py``."""
    return airflow_runs.run_dag


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return ``set_connection(conn_id, **fields)``: a connection in the environment, until the test ends.

    The fields are those of Airflow's JSON form: ``conn_type``, ``host``, ``login``, ``password``, ``extra``.
    """

    def set_connection(conn_id: str, **fields: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return set_connection


@pytest.fixture(scope="session", name="postgres")
def postgres_address() -> Iterator[str]:
    """Return ``user@host:port/database`` of a Postgres server; see ``tests/postgres.py``."""
    with postgres.server_for_tests() as address:
        yield address


@pytest.fixture(scope="session")
def _sandbox_server() -> Iterator[SandboxServer]:
    from airflow_provider_popin.sandbox.server import SandboxServer
    from airflow_provider_popin.sandbox.settings import SandboxSettings

    # Popin's clock stands still before the first slot of a day to come: no test can see a slot begin, or
    # another number of slots by the hour at which it runs.
    soon = datetime.now(ZoneInfo("Asia/Kolkata")) + timedelta(hours=26)
    midnight = soon.replace(hour=0, minute=0, second=0, microsecond=0)
    with SandboxServer(SandboxSettings(api_key=API_KEY, token=SELLER_TOKEN, now=midnight)) as server:
        yield server


@pytest.fixture
def sandbox(_sandbox_server: SandboxServer) -> SandboxServer:
    """Return a running local Popin with no bookings and no faults."""
    _sandbox_server.reset()
    return _sandbox_server


@pytest.fixture
def connect_popin(sandbox: SandboxServer, set_connection: Callable[..., None]) -> Callable[..., None]:
    """Return ``connect_popin(**extra)``: makes ``popin_default`` the sandbox, with these extra fields."""

    def connect_popin(**extra: Any) -> None:
        set_connection(
            "popin_default",
            conn_type="popin",
            host=sandbox.url,
            login=SELLER_TOKEN,
            password=API_KEY,
            extra=extra,
        )

    return connect_popin


@pytest.fixture
def popin_connection(connect_popin: Callable[..., None]) -> str:
    """Make ``popin_default`` the sandbox, without a rate limit; return the connection id."""
    connect_popin(requests_per_second=0, timeout_seconds=30)
    return "popin_default"
