"""Environment of the tests, prepared before anything imports Airflow, which reads it once."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def prepare_environment() -> Path:
    """Point Airflow at an empty home with a SQLite database of its own; return the home.

    What the developer's shell says about Airflow and proxies is removed: it would change what is tested.
    """
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    for name in _PROXIES:
        os.environ.pop(name, None)
    home = Path(tempfile.mkdtemp(prefix="popin-tests-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "dags").mkdir()
    os.environ.update(
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(home / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home / 'airflow.db'}",
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
        NO_PROXY="127.0.0.1,localhost",
        no_proxy="127.0.0.1,localhost",
    )
    return home
