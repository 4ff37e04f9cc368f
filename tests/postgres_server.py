"""A Postgres server of the tests' and the benchmark's own, on loopback, in a temporary directory."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.ports import free_port

_INSTALLED = Path("/usr/lib/postgresql")


def find_programs() -> Path | None:
    """Return the directory with ``initdb`` and ``pg_ctl``, of the newest version; None if there is none."""
    found = sorted(_INSTALLED.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def running_server(programs: Path, *, durable: bool = False) -> Iterator[str]:
    """Start a server and stop it; yield ``host:port``. The user is ``popin``, the database ``postgres``.

    :param programs: from :func:`find_programs`.
    :param durable: ``fsync`` on, as by default; tests do without.
    """
    user = _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="popin-postgres-"))
    port = free_port()
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        _run([programs / "initdb", "-D", data, "-U", "popin", "-A", "trust", "-E", "UTF8"], user)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync={'on' if durable else 'off'}"
        control: list[str | Path] = [programs / "pg_ctl", "-D", data, "-w"]
        _run([*control, "-o", options, "-l", folder / "log", "start"], user)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            _run([*control, "-m", "immediate", "stop"], user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged_user() -> str | None:
    """Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _run(command: list[str | Path], user: str | None) -> None:
    subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, timeout=60)
