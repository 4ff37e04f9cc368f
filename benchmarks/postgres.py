"""A Postgres server of the benchmark's own, on loopback and in a temporary directory, but durable."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

_INSTALLED = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """Return the directory of ``initdb`` and ``pg_ctl``, of the newest version; None if there is none."""
    found = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def running(where: Path) -> Iterator[str]:
    """Start a server with its default settings (``fsync`` on), and stop it; yield the SQLAlchemy URL.

    Which processor core it runs on is left to the kernel: in production it is another machine.

    :param where: from :func:`programs`
    """
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="popin-bench-postgres-"))
    port = _free_port()
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        _run([where / "initdb", "-D", data, "-U", "popin", "-A", "trust", "-E", "UTF8"], user)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        control: list[str | Path] = [where / "pg_ctl", "-D", data, "-w"]
        _run([*control, "-o", options, "-l", folder / "log", "start"], user)
        try:
            yield f"postgresql+psycopg://popin@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"], user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty(url: str) -> None:
    """Drop everything in the database, so that the next ledger is new.

    :param url: from :func:`running`
    """
    engine = sqlalchemy.create_engine(url, future=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()


def _unprivileged_user() -> str | None:
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(command: list[str | Path], user: str | None) -> None:
    subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, timeout=60)
