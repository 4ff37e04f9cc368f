"""Where a benchmark ran: without it the figures say nothing."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "airflow-provider-popin",
    "apache-airflow",
    "aiohttp",
    "httptools",
    "uvloop",
    "SQLAlchemy",
    "psycopg",
    "requests",
)
_SYNCS = 100


def describe(*, drt: Path | None, postgres: Path | None) -> dict[str, str]:
    """Return what there is to say about this machine, in order.

    :param drt: interpreter of the environment with drt-core
    :param postgres: directory of the Postgres programs
    """
    versions = [f"{name} {metadata.version(name)}" for name in _PACKAGES]
    versions.append(f"SQLite {sqlite3.sqlite_version}")
    if postgres is not None:
        versions.append(
            _output([str(postgres / "postgres"), "--version"])
            .replace("postgres (", "", 1)
            .replace(")", "", 1)
        )
    if drt is not None:
        code = "from importlib.metadata import version; print('drt-core', version('drt-core'))"
        versions.append(_output([str(drt), "-c", code]))
    return {
        "Date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "Processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "Memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "System": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Versions": ", ".join(versions),
        "A durable write (fsync)": f"{fsync_ms():.2f} ms",
        "Load at the start": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def fsync_ms() -> float:
    """Return the median time of a durable write of a page to the disk of temporary files, in milliseconds."""
    with tempfile.TemporaryFile() as file:
        took = []
        for _ in range(_SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return sorted(took)[_SYNCS // 2] * 1000


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return command[0]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
