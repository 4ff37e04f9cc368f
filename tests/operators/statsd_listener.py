"""A statsd server on loopback: it keeps what it is sent."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class StatsdListener:
    """Receives metrics by UDP while it is open."""

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def settings(self, **more: str) -> dict[str, str]:
        """Return the environment variables that make Airflow send its metrics here.

        :param more: options of Airflow's section ``metrics``.
        """
        options = {"statsd_on": "True", "statsd_host": "127.0.0.1", "statsd_port": str(self.port), **more}
        return {f"AIRFLOW__METRICS__{name.upper()}": value for name, value in options.items()}

    def received(self) -> dict[str, list[str]]:
        """Return our metrics of what came since the last call: name to values, as ``3|c``."""
        found: dict[str, list[str]] = {}
        while True:
            try:
                text = self._socket.recv(65_536).decode()
            except BlockingIOError:
                return found
            for line in text.splitlines():
                name, _, value = line.rpartition(":")
                if name.startswith("airflow.popin."):
                    found.setdefault(name.removeprefix("airflow.popin.lead_sync."), []).append(value)
