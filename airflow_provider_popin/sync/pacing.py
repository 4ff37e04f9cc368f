"""Keeps the workers out of step.

Workers that are answered together are written together, send together, and are answered together again: each
of them waits for the work of all, and for the rest of the latency the processor idles. Where the latency
leaves room for it, they start one after the other; once apart, they stay apart.
"""

from __future__ import annotations

# More than the work for one request takes: the next worker finds the processor free.
SPACING_SECONDS = 0.0015
# Half of the room is left for what comes in between: the workers' own work, new leads, seats.
_ROOM = 2.0
_WEIGHT = 0.1


class Pacer:
    """Says when the next worker may start.

    :param workers: how many there are
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._latency = 0.0
        self._next_start = 0.0

    def answered(self, seconds: float) -> None:
        """Learn how long an exchange takes.

        :param seconds: from the request to its outcome
        """
        self._latency += _WEIGHT * (seconds - self._latency)

    def start(self, now: float) -> float:
        """Take the next moment to start at.

        :param now: value of a monotonic clock
        :return: value of the same clock; ``now`` where there is no room, or nobody else is starting
        """
        if self._latency / self._workers < _ROOM * SPACING_SECONDS:
            return now
        start = max(now, self._next_start)
        self._next_start = start + SPACING_SECONDS
        return start
