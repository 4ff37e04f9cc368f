"""How long imports take in fresh processes: the package, and the http provider beside it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu import pinned

_BASES = "from airflow.providers.common.compat.sdk import BaseHook, BaseOperator"
_OPERATORS = (
    "import airflow_provider_popin.operators.popin, airflow_provider_popin.operators.lead_sync, "
    "airflow_provider_popin.sensors.popin, airflow_provider_popin.hooks.popin"
)
_TIMED = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


@dataclass(frozen=True, slots=True)
class Import:
    """One line of the table.

    :param what: for people
    :param code: statements that import it
    :param after: statements that are executed before the clock starts
    :param target_ms: bar, None for what is only shown beside it
    """

    what: str
    code: str
    after: str = "pass"
    target_ms: float | None = None


IMPORTS = (
    Import("Airflow's BaseOperator and BaseHook", _BASES),
    Import(
        "airflow_provider_popin and get_provider_info()",
        "import airflow_provider_popin; from airflow_provider_popin.get_provider_info import "
        "get_provider_info; get_provider_info()",
        target_ms=20,
    ),
    Import("every operator, sensor and hook, beyond the base classes", _OPERATORS, _BASES, target_ms=100),
    Import(
        "the http provider's HttpOperator, beyond the base classes",
        "from airflow.providers.http.operators.http import HttpOperator",
        _BASES,
    ),
    Import("the bulk job's engine (imported when a task runs)", "import airflow_provider_popin.sync.engine"),
)


def measure(what: Import, *, times: int, core: int, airflow_home: Path) -> float:
    """Return the median of some fresh processes, in milliseconds.

    :param what: of :data:`IMPORTS`
    :param times: how many processes, after one that writes the byte code
    :param core: the processor core they may use
    :param airflow_home: an empty directory, so that no configuration of this machine counts
    """
    environment = os.environ | {"AIRFLOW_HOME": str(airflow_home)}
    program = f"{what.after}\n{_TIMED.format(what.code)}"
    seconds = []
    for _ in range(times + 1):
        done = subprocess.run(
            pinned([sys.executable, "-c", program], core),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        seconds.append(float(done.stdout.split()[-1]))
    return statistics.median(seconds[1:]) * 1000
