"""The sandbox fixture is a Popin without a past, and the connection fixture leads to it."""

from __future__ import annotations

import requests
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_popin.sandbox.server import SandboxServer


def get_slots(connection_id: str, key: str | None = None) -> requests.Response:
    connection = BaseHook.get_connection(connection_id)
    assert connection.login is not None
    keys = {"X-TOKEN": connection.login, "X-API-KEY": key or str(connection.password)}
    headers = {**keys, "Accept": "application/json"}
    return requests.get(f"{connection.host}/api/v1/external/slots", headers=headers, timeout=10)


def test_connection_leads_to_the_sandbox(sandbox: SandboxServer, popin_connection: str) -> None:
    assert get_slots(popin_connection).status_code == 200
    assert get_slots(popin_connection, key="other").status_code == 401
    assert len(sandbox.requests()) == 2


def test_sandbox_starts_without_a_past(sandbox: SandboxServer) -> None:
    assert sandbox.requests() == []
    assert sandbox.bookings() == []
