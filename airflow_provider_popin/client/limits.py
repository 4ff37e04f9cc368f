"""How many requests a second: one limiter for every endpoint of an account in this process."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from airflow_provider_popin.client.config import ClientConfig

# Lateness up to this is caught up, or the rate would suffer from every timer that fires late. Whoever comes
# later was idle, and gets no burst for it.
_CATCH_UP_SECONDS = 0.05
# A 429 halves the rate; it is back after this time. Several 429s within a second are one event: they were
# under way.
_RECOVERY_SECONDS = 60.0
_SAME_EVENT_SECONDS = 1.0
_LOWEST_FACTOR = 1 / 16
# Beyond it, remembering every permit of a second costs more than it protects.
_MOST_REMEMBERED = 100_000


class RateLimiter:
    """Gives permits, spread evenly, and never more than the rate in any second.

    The clock is asked, nothing is slept here: whoever is refused waits in its own way, thread or event loop,
    and asks again. Thread-safe.

    A rate such as 2.5 gives two permits in any second, since three would be more; a rate below 1, such as
    0.5, gives one in two seconds.

    :param requests_per_second: 0 is no limit, but for :meth:`penalize`
    :param clock: seconds, monotonic
    """

    def __init__(self, requests_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not math.isfinite(requests_per_second) or requests_per_second < 0:
            raise ValueError("requests_per_second must be a finite number of at least 0")
        self._rate = float(requests_per_second)
        self._clock = clock
        self._lock = threading.Lock()
        self._given: deque[float] = deque(maxlen=_whole_permits(self._rate))
        self._next = -math.inf
        self._paused_until = -math.inf
        self._penalized_at = -math.inf
        self._factor_then = 1.0

    def try_acquire(self) -> float:
        """Take a permit, if there is one.

        :return: 0.0 if the permit is given now; else the seconds to wait before asking again
        """
        with self._lock:
            now = self._clock()
            wait = self._paused_until - now
            if self._rate:
                rate = self._rate * self._factor(now)
                wait = max(wait, self._next - now, self._window_free_at(rate) - now)
            if wait > 0:
                return wait
            if self._rate:
                self._given.append(now)
                was_late = now - self._next <= _CATCH_UP_SECONDS
                self._next = (self._next if was_late else now) + 1 / rate
            return 0.0

    def penalize(self, seconds: float) -> None:
        """Note a 429: nobody gets a permit for a while, and then the rate is half and recovers by itself.

        :param seconds: how long to pause; the longest pause asked for counts
        """
        with self._lock:
            now = self._clock()
            ends = now + max(0.0, seconds)
            if now - self._penalized_at >= _SAME_EVENT_SECONDS and now >= self._paused_until:
                self._factor_then = max(self._factor(now) / 2, _LOWEST_FACTOR)
                self._penalized_at = now
            self._paused_until = max(self._paused_until, ends)

    def _factor(self, now: float) -> float:
        """The share of the rate that is in force: recovers evenly from the last 429, or from the end of its
        pause.
        """
        recovered = (now - max(self._penalized_at, self._paused_until)) / _RECOVERY_SECONDS
        return min(1.0, self._factor_then + max(0.0, recovered))

    def _window_free_at(self, rate: float) -> float:
        """When the trailing second has room for one more."""
        count = _whole_permits(rate)
        if len(self._given) < count:
            return -math.inf
        return self._given[-count] + max(1.0, 1 / rate)


def _whole_permits(rate: float) -> int:
    return min(max(1, math.floor(rate)), _MOST_REMEMBERED)


_limiters: dict[tuple[str, float], RateLimiter] = {}
_limiters_lock = threading.Lock()


def limiter_for(config: ClientConfig) -> RateLimiter:
    """The limiter that everybody in this process shares who talks to an account at a rate.

    :param config: account and rate
    """
    key = (config.account_key, config.requests_per_second)
    with _limiters_lock:
        return _limiters.setdefault(key, RateLimiter(config.requests_per_second))
