"""Fixtures of the fault suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.client import retrying
from airflow_provider_popin.sandbox.server import SandboxServer
from tests.faults.people import Row, lead_rows
from tests.faults.world import World

MakeWorld = Callable[..., World]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without long pauses; the policy itself is tested with the client."""
    monkeypatch.setattr(retrying, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(retrying, "_LONGEST_WAIT_SECONDS", 0.05)


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def make_world(sandbox: SandboxServer, ledger_url: str) -> MakeWorld:
    """Return ``make_world(rows=5, **config) -> World``; ``rows`` is a number of leads, or the rows."""

    def make_world(rows: int | list[Row] = 5, **config: Any) -> World:
        return World(sandbox, ledger_url, lead_rows(rows) if isinstance(rows, int) else rows, **config)

    return make_world
