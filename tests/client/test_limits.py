"""The rate limiter, with a clock of its own."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client import limits
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.limits import RateLimiter, limiter_for


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def permits(limiter: RateLimiter, clock: Clock, seconds: float, *, lateness: float = 0.0) -> list[float]:
    """When permits are given to somebody who always waits as told, and then a bit too long."""
    given_at = []
    end = clock.now + seconds
    while clock.now < end:
        wait = limiter.try_acquire()
        if wait == 0.0:
            given_at.append(clock.now)
        else:
            assert wait > 0
            clock.now += wait + lateness
    return given_at


def most_in_a_second(moments: list[float]) -> int:
    return max(sum(start <= moment < start + 1 for moment in moments) for start in moments)


@pytest.mark.parametrize("rate", [1, 2, 5, 30, 200])
def test_exact_and_not_slower(rate: int) -> None:
    clock = Clock()
    moments = permits(RateLimiter(rate, clock=clock), clock, 10)
    assert most_in_a_second(moments) == rate
    assert len(moments) in (rate * 10, rate * 10 + 1)


def test_spread_evenly() -> None:
    clock = Clock()
    moments = permits(RateLimiter(5, clock=clock), clock, 3)
    gaps = [second - first for first, second in itertools.pairwise(moments)]
    assert min(gaps) > 0.19


def test_late_timers_cost_no_rate() -> None:
    clock = Clock()
    moments = permits(RateLimiter(200, clock=clock), clock, 5, lateness=0.004)
    assert most_in_a_second(moments) <= 200
    assert len(moments) > 5 * 200 * 0.95


@pytest.mark.parametrize(("rate", "per_second", "in_ten"), [(2.5, 2, 20), (0.5, 1, 5), (0.1, 1, 1)])
def test_fractions_never_exceed_the_rate(rate: float, per_second: int, in_ten: int) -> None:
    clock = Clock()
    moments = permits(RateLimiter(rate, clock=clock), clock, 10)
    assert most_in_a_second(moments) == per_second
    assert abs(len(moments) - in_ten) <= 1


@given(
    st.sampled_from([0.3, 1, 2.5, 7, 40]),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.001, 0.2, 1.0]),
)
def test_never_more_than_the_rate_in_any_second(rate: float, pauses: list[float], lateness: float) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, clock=clock)
    moments = []
    for pause in pauses:
        clock.now += pause
        for _ in range(5):
            wait = limiter.try_acquire()
            if wait == 0.0:
                moments.append(clock.now)
            else:
                clock.now += wait + lateness
    assert most_in_a_second(moments) <= max(1, int(rate))


def test_no_limit() -> None:
    clock = Clock()
    limiter = RateLimiter(0, clock=clock)
    assert [limiter.try_acquire() for _ in range(1000)] == [0.0] * 1000
    limiter.penalize(3)
    assert limiter.try_acquire() == 3.0
    clock.now += 3
    assert limiter.try_acquire() == 0.0


def test_429_pauses_halves_and_recovers() -> None:
    clock = Clock()
    limiter = RateLimiter(20, clock=clock)
    permits(limiter, clock, 2)
    limiter.penalize(5)
    # Answers to requests that were under way: the same event, and the longest pause counts.
    limiter.penalize(1)
    clock.now += 2
    limiter.penalize(0)
    assert limiter.try_acquire() == pytest.approx(3)
    clock.now += 3
    first = permits(limiter, clock, 1)
    assert 9 <= len(first) <= 11
    permits(limiter, clock, 60)
    assert 19 <= len(permits(limiter, clock, 1)) <= 21


def test_the_rate_is_half_after_a_pause_of_any_length() -> None:
    clock = Clock()
    limiter = RateLimiter(20, clock=clock)
    limiter.penalize(120)
    clock.now += 120
    assert 9 <= len(permits(limiter, clock, 1)) <= 11


def test_429s_of_one_moment_are_one_event() -> None:
    clock = Clock()
    limiter = RateLimiter(20, clock=clock)
    for _ in range(3):
        limiter.penalize(0)
        clock.now += 0.3
    assert 9 <= len(permits(limiter, clock, 1)) <= 11


def test_429_again_and_again_leaves_a_trickle() -> None:
    clock = Clock()
    limiter = RateLimiter(16, clock=clock)
    for _ in range(20):
        clock.now += 1
        limiter.penalize(0)
    assert 1 <= len(permits(limiter, clock, 2)) <= 4


@pytest.mark.parametrize("rate", [-1, float("nan"), float("inf")])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ValueError, match="requests_per_second"):
        RateLimiter(rate)


def test_enormous_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(1e300, clock=clock)
    assert limiter.try_acquire() == 0.0


class SlowDeque(deque[float]):
    """Lets other threads run between the look at the limit and the note that a permit was given."""

    def append(self, moment: float) -> None:
        time.sleep(0.001)
        super().append(moment)


def test_threads_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "deque", SlowDeque)
    clock = Clock()
    limiter = RateLimiter(100, clock=clock)
    given: list[float] = []

    def work() -> None:
        for _ in range(200):
            if limiter.try_acquire() == 0.0:
                given.append(clock.now)

    for _ in range(30):
        clock.now += 0.01
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert 27 <= len(given) <= 30
    assert len(set(given)) == len(given)


def test_one_limiter_per_account_and_rate() -> None:
    def config(token: str, rate: float) -> ClientConfig:
        return ClientConfig(seller_token=token, api_key="k", requests_per_second=rate)

    assert limiter_for(config("a", 1)) is limiter_for(config("a", 1))
    assert limiter_for(config("a", 1)) is not limiter_for(config("b", 1))
    assert limiter_for(config("a", 1)) is not limiter_for(config("a", 2))
