"""PgBouncer before a Postgres server: another server process for each transaction."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

START_SECONDS = 10.0
# Debian's package has it where only the administrator's shell looks.
_PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


@contextmanager
def running_pooler(server: URL, *, processes: int = 3) -> Iterator[URL]:
    """Start a pooler in transaction mode and stop it; yield the URL through it. Skips loudly without one.

    :param server: of an empty schema
    :param processes: how many of the server's its clients share
    """
    program = shutil.which("pgbouncer", path=_PLACES)
    if program is None:
        pytest.skip("NOT TESTED: no PgBouncer. Install the package pgbouncer")
    schema = str(server.query["options"]).partition("search_path=")[2]
    with tempfile.TemporaryDirectory(prefix="popin-pgbouncer-") as name, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        folder = Path(name)
        password = f" password={server.password}" if server.password else ""
        folder.joinpath("pgbouncer.ini").write_text(
            "[databases]\n"
            f"ledger = host={server.host} port={server.port or 5432} dbname={server.database}"
            f" user={server.username}{password} connect_query='SET search_path={schema}'\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {processes}\n"
            f"ignore_startup_parameters = options,extra_float_digits\nlogfile = {folder / 'log'}\n"
        )
        command = [program, str(folder / "pgbouncer.ini")]
        if os.geteuid() == 0:  # it refuses to run as root
            shutil.chown(folder, pwd.getpwnam("nobody").pw_name)
            command[1:1] = ["-u", "nobody"]
        probe.close()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, folder / "log")
            yield server.set(host="127.0.0.1", port=port, database="ledger", query={})
        finally:
            running.terminate()
            running.wait(START_SECONDS)


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    pytest.fail(f"PgBouncer did not start: {log.read_text() if log.exists() else 'no log'}")
