"""Keeps the workers out of step.

Workers that are answered together are written together, send together, and are answered together again: each
of them waits for the work of all, and for the rest of the latency the processor idles. Nothing would ever
part them, and every short pause makes them more. So they send one after the other, spread over the latency:
a millisecond of waiting, for more than that in the ledger's queue.
"""

from __future__ import annotations

import math

# Of the shortest latency: the rest of a round is left to catch up in.
SHARE = 0.7
# From the first worker to the last, however many and however slow the server: an intent is sent soon or not
# at all (`exchange_loop.LATEST_SEND_SECONDS`).
MOST_SECONDS = 0.5
# About as long as the work for one request takes: the next worker finds the processor free.
MOST_APART_SECONDS = 0.001
# Less than that work takes: it parts the workers by itself.
LEAST_APART_SECONDS = 0.00025
# Timers are no finer than this.
SHORTEST_WAIT_SECONDS = 0.0005


class Pacer:
    """Says when the next worker may send.

    :param workers: how many there are
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._apart = 0.0
        self._next_start = 0.0
        self._answers = 0
        self._shortest = math.inf

    def answered(self, seconds: float) -> None:
        """Learn how long an exchange takes at least: what is longer has waited for other workers.

        :param seconds: from the request to its outcome
        """
        self._shortest = min(self._shortest, seconds)
        self._answers += 1
        if self._answers == self._workers:
            spread = min(SHARE * self._shortest, MOST_SECONDS)
            apart = min(spread / self._workers, MOST_APART_SECONDS)
            self._apart = apart if apart >= LEAST_APART_SECONDS else 0.0
            self._answers, self._shortest = 0, math.inf

    def wait(self, now: float) -> float:
        """Take the next moment to send at.

        :param now: value of a monotonic clock
        :return: seconds until then; 0 where it is now, or too near to be waited for
        """
        start = max(now, self._next_start)
        self._next_start = start + self._apart
        return start - now if start - now >= SHORTEST_WAIT_SECONDS else 0.0
