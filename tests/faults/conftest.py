"""Fixtures of the fault suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.client import retrying
from airflow_provider_popin.sandbox.server import SandboxServer
from tests.faults.people import Row, lead_rows
from tests.faults.worker import Workers
from tests.faults.world import World
from tests.postgres import empty_schema

MakeWorld = Callable[..., World]

on_each_database = pytest.mark.parametrize(
    "ledger_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without long pauses; the policy itself is tested with the client."""
    monkeypatch.setattr(retrying, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(retrying, "_LONGEST_WAIT_SECONDS", 0.05)


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Return a starter of processes that run the lead sync."""
    with Workers() as running:
        yield running


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a ledger that does not exist yet: SQLite, unless a test asks for each database."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    with empty_schema(request.getfixturevalue("postgres")) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
def make_world(sandbox: SandboxServer, ledger_url: str) -> Iterator[MakeWorld]:
    """Return ``make_world(rows=5, **config) -> World``; ``rows`` is a number of leads, or the rows."""
    worlds: list[World] = []

    def make_world(rows: int | list[Row] = 5, **config: Any) -> World:
        world = World(sandbox, ledger_url, lead_rows(rows) if isinstance(rows, int) else rows, **config)
        worlds.append(world)
        return world

    yield make_world
    for world in worlds:
        world.close()
