"""An Airflow of the project's own: home, Dags, connections; nothing of the user's is read or written."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from scripts.ports import HOST, free_port

ROOT = Path(__file__).parents[1]
API_KEY = "sandbox-api-key"
SELLER_TOKEN = "51"  # noqa: S105  (the sandbox's default, no secret)
POOL = "popin"
# Airflow's home holds a SQLite path with four slashes; a percent sign would be taken for an interpolation.
_UNUSABLE = frozenset("%?#")
_REQUEST_SECONDS = 15.0


def check_place(folder: Path) -> None:
    """Refuse a folder that Airflow cannot live in.

    :param folder: where a home is to be made.
    :raises ValueError: its path has a character that Airflow's configuration takes for something else.
    """
    if found := sorted(_UNUSABLE & set(str(folder))):
        raise ValueError(f"Airflow cannot work in {folder}: its path holds {' '.join(found)}")


def environment(
    home: Path, *, dags: Path, connections: Mapping[str, Mapping[str, object]], variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment variables of an Airflow with a home of its own.

    :param home: for configuration, database and logs; made by Airflow.
    :param dags: folder of the Dag files.
    :param connections: id to the fields of Airflow's JSON form.
    :param variables: Airflow Variables.
    """
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__CORE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        # The sandbox is on this machine; a proxy of the user's would not find it.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    settings |= {
        f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(fields) for conn_id, fields in connections.items()
    }
    return settings | {f"AIRFLOW_VAR_{name.upper()}": value for name, value in variables.items()}


def server_settings(port: int) -> dict[str, str]:
    """Return environment variables of an Airflow with an API server on loopback, of which everybody is
    admin.

    :param port: of the API server.
    """
    url = f"http://{HOST}:{port}"
    return {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "NO_COLOR": "1",
    }


def ask(url: str, method: str, path: str, **options: Any) -> Any:
    """Send a request to Airflow's REST API, as its admin, and return the JSON of the answer.

    :param url: of the API server.
    :param method: HTTP method.
    :param path: below ``/api/v2``.
    :param options: of ``requests.request``.
    :raises requests.RequestException: no answer, or one that is no success.
    """
    token = requests.get(f"{url}/auth/token", timeout=_REQUEST_SECONDS).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.request(
        method, f"{url}/api/v2{path}", headers=headers, timeout=_REQUEST_SECONDS, **options
    )
    answer.raise_for_status()
    return answer.json() if answer.content else None


def connections(
    *, sandbox_url: str, ledger: Path, crm: Path, webhook_key: str | None = None
) -> dict[str, dict[str, object]]:
    """Return the three connections that the examples ask for.

    :param sandbox_url: where the sandbox listens.
    :param ledger: SQLite file of the ledger.
    :param crm: SQLite file of the CRM.
    :param webhook_key: that Airflow expects of webhooks; None: it takes none.
    """
    # A name, since the sandbox's port may change between runs; and no rate limit, for it is our own.
    extra: dict[str, object] = {
        "account": "sandbox",
        "ledger_conn_id": "popin_ledger",
        "requests_per_second": 0,
    }
    if webhook_key is not None:
        extra["webhook_key"] = webhook_key
    address = urlsplit(sandbox_url)
    popin: dict[str, object] = {
        "conn_type": "popin",
        "host": f"{address.scheme}://{address.hostname}",
        # The Test button of Airflow's connections page sends 0 for a port that is not there, and is refused.
        "port": address.port,
        "login": SELLER_TOKEN,
        "password": API_KEY,
        "extra": extra,
    }
    return {
        "popin_default": popin,
        "popin_ledger": {"conn_type": "sqlite", "host": str(ledger)},
        "crm": {"conn_type": "sqlite", "host": str(crm)},
    }


def without_airflow(variables: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables without those of another Airflow.

    :param variables: like ``os.environ``.
    """
    return {name: value for name, value in variables.items() if not name.startswith("AIRFLOW_")}


def as_json(connections: Mapping[str, Mapping[str, object]]) -> str:
    """Return connections as the text that ``airflow_contents`` reads.

    :param connections: id to the fields of Airflow's JSON form.
    """
    return json.dumps({conn_id: dict(fields) for conn_id, fields in connections.items()})
