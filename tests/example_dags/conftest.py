"""What every example Dag asks for in its docstring: connections, the pool, a folder for the results."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from tests.earlier_runs import forget_earlier_runs


@pytest.fixture
def popin(
    sandbox: SandboxServer, popin_connection: str, set_connection: Callable[..., None], tmp_path: Path
) -> SandboxServer:
    """Return the sandbox that ``popin_default`` leads to; ``popin_ledger`` is a new SQLite file."""
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
    return sandbox


@pytest.fixture(autouse=True)
def no_earlier_runs(airflow_db: None) -> None:
    """Every test has a ledger of its own."""
    forget_earlier_runs()


@pytest.fixture
def pool(airflow_db: None) -> str:
    """Make the pool that the examples name, with the one slot that they advise."""
    from airflow.models.pool import Pool

    Pool.create_or_update_pool("popin", slots=1, description="Popin account", include_deferred=False)
    return "popin"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Set the Variable ``popin_results``; return a function that reads the newest results file."""
    folder = tmp_path / "results"
    monkeypatch.setenv("AIRFLOW_VAR_POPIN_RESULTS", folder.as_uri())

    def read() -> list[dict[str, Any]]:
        newest = max(folder.rglob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(line) for line in newest.read_text("utf-8").splitlines()]

    return read


@pytest.fixture
def crm(tmp_path: Path, set_connection: Callable[..., None]) -> Iterator[sqlite3.Connection]:
    """Yield a SQLite database that the connection ``crm`` points to."""
    path = tmp_path / "crm.db"
    set_connection("crm", conn_type="sqlite", host=str(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection
