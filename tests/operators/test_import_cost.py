"""What importing the classes of a Dag file costs: every Dag file pays it each time that it is parsed."""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "airflow_provider_popin.hooks.popin",
    "airflow_provider_popin.hooks.ledger",
    "airflow_provider_popin.operators.lead_sync",
    "airflow_provider_popin.operators.outcomes",
    "airflow_provider_popin.operators.popin",
    "airflow_provider_popin.sensors.popin",
    "airflow_provider_popin.triggers.popin",
    "airflow_provider_popin.triggers.slots_open",
    "airflow_provider_popin.links.popin",
)

# Their cost is tens to hundreds of milliseconds each; they are imported where they are used.
HEAVY = (
    "aiohappyeyeballs",
    "aiohttp",
    "asgiref.sync",
    "flask_appbuilder",
    "httptools",
    "openlineage",
    "phonenumbers",
    "requests",
    "sqlalchemy",
    "statsd",
    "tenacity",
)

PROGRAM = """
import sys
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator, XCom
import airflow.triggers.base
before = set(sys.modules)
import importlib
for name in {modules!r}:
    importlib.import_module(name)
print(*sorted(set({heavy!r}) & (set(sys.modules) - before)))
"""


def test_no_heavy_library_is_imported_for_a_dag_file() -> None:
    program = PROGRAM.format(modules=MODULES, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip().splitlines()[-1:] in ([], [""])
