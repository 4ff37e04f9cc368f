"""The project's sandbox as the server of a benchmark, on a processor core of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from typing import Any, Self

from benchmarks.cpu import cpu_seconds_of, pinned
from benchmarks.subjects.subject import API_KEY, SELLER_TOKEN

# 21 days of 48 quarters of an hour: about a thousand slots, as a seller would offer.
_DAYS = 21
_SLOTS_A_DAY = 48
# Today's slots are over, or may be before the run ends; the last day may be, in another timezone.
_DAYS_NOT_COUNTED = 2
_STOP_SECONDS = 10
_ANSWER_SECONDS = 60


def seats_for(leads: int) -> int:
    """How many seats a slot needs so that there is one for every lead.

    :param leads: that will want a seat
    """
    return -(-leads // ((_DAYS - _DAYS_NOT_COUNTED) * _SLOTS_A_DAY))


class Sandbox:
    """The sandbox in a process of its own. Use as a context manager.

    :param core: number of the processor core that it may use
    """

    def __init__(self, *, core: int) -> None:
        self._core = core
        self.url = ""

    def __enter__(self) -> Self:
        """Start it, and wait until its port is open.

        :raises RuntimeError: it did not start
        """
        module = "airflow_provider_popin.sandbox"
        command = [sys.executable, "-m", module, "--port", "0", "--days", str(_DAYS)]
        self._process = subprocess.Popen(pinned(command, self._core), stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "http://" not in line:
            raise RuntimeError("the sandbox did not start")
        self.url = "http://" + line.split("http://")[1].split()[0]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        with self._process:  # closes the pipe
            self._process.terminate()
            self._process.wait(_STOP_SECONDS)

    def reset(self, *, latency_ms: float, seats: int) -> None:
        """Forget everything.

        :param latency_ms: that every request waits
        :param seats: of each slot
        """
        changes = {"latency_ms": latency_ms, "seats_per_slot": seats, "keep_requests": 1000}
        self._ask("/_sandbox/reset", changes)

    def last_slot(self) -> str:
        """The slot of the calendar that is the furthest away, as Popin spells it."""
        headers = {"X-API-KEY": API_KEY, "X-TOKEN": SELLER_TOKEN, "Accept": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v1/external/slots", headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as reply:  # noqa: S310
            day = json.load(reply)["availability"][-1]
        return f"{day['date']} {day['slots'][-1]}"

    def stats(self) -> Mapping[str, Any]:
        """What the oracle counted since the last reset."""
        return self._ask("/_sandbox/stats")

    def cpu_seconds(self) -> float:
        """Processor time that the server has used so far."""
        return cpu_seconds_of(self._process.pid)

    def _ask(self, path: str, body: Mapping[str, object] | None = None) -> Mapping[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.url + path, data, timeout=_ANSWER_SECONDS) as reply:  # noqa: S310
            answer: Mapping[str, Any] = json.load(reply)
        return answer
