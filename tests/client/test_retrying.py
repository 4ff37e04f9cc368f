"""When to send again, with a clock and a sleep of its own."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_popin.client.outcomes import Outcome, Verdict
from airflow_provider_popin.client.retrying import RetryPolicy, backoff_seconds, may_send_again

NOT_SENT = Outcome(Verdict.NOT_SENT, reason="connect_failed")
UNKNOWN = Outcome(Verdict.UNKNOWN, reason="http_500")
OK = Outcome(Verdict.OK)


def limited(seconds: float | None) -> Outcome:
    return Outcome(Verdict.RATE_LIMITED, status=429, reason="http_429", retry_after=seconds)


@pytest.mark.parametrize(
    ("outcome", "for_get", "for_post"),
    [
        (OK, False, False),
        (NOT_SENT, True, True),
        (limited(None), True, True),
        (limited(0), True, True),
        (limited(120), True, True),
        (limited(120.1), False, False),
        (Outcome(Verdict.STOP), False, False),
        (Outcome(Verdict.REJECTED), False, False),
        (UNKNOWN, True, False),
        (Outcome(Verdict.UNKNOWN, status=503, retry_after=30), True, False),
        (Outcome(Verdict.UNKNOWN, status=503, retry_after=300), False, False),
    ],
)
def test_may_send_again(outcome: Outcome, for_get: bool, for_post: bool) -> None:
    assert may_send_again(outcome, get=True) is for_get
    assert may_send_again(outcome, get=False) is for_post


def test_backoff() -> None:
    assert [backoff_seconds(attempt, lambda: 1.0) for attempt in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 16, 16]
    assert backoff_seconds(3, lambda: 0.0) == 1.0
    assert 0.25 <= backoff_seconds(1) <= 0.5


class World:
    """Outcomes in a row, the last one again and again, and time that passes only here."""

    def __init__(self, *outcomes: Outcome, duration: float = 0.0) -> None:
        self.outcomes = outcomes
        self.duration = duration
        self.now = 0.0
        self.tries = 0
        self.slept: list[float] = []

    def attempt(self) -> Outcome:
        outcome = self.outcomes[min(self.tries, len(self.outcomes) - 1)]
        self.tries += 1
        self.now += self.duration
        return outcome

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def aattempt(self) -> Outcome:
        return self.attempt()

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def policy(self, *, get: bool) -> RetryPolicy:
        return RetryPolicy(get=get, jitter=lambda: 1.0, clock=lambda: self.now)

    def run(self, world: str, *, get: bool = True) -> Outcome:
        if world == "threads":
            return self.policy(get=get).call(self.attempt, sleep=self.sleep)
        return asyncio.run(self.policy(get=get).acall(self.aattempt, sleep=self.asleep))


@pytest.mark.parametrize("kind", ["threads", "loops"])
class TestPolicy:
    """The same in both worlds."""

    def test_first_success_is_final(self, kind: str) -> None:
        world = World(OK)
        assert world.run(kind) is OK
        assert (world.tries, world.slept) == (1, [])

    def test_until_success(self, kind: str) -> None:
        world = World(NOT_SENT, UNKNOWN, OK)
        assert world.run(kind) is OK
        assert world.slept == [0.5, 1.0]

    def test_five_tries(self, kind: str) -> None:
        world = World(NOT_SENT)
        assert world.run(kind, get=False) is NOT_SENT
        assert (world.tries, world.slept) == (5, [0.5, 1, 2, 4])

    def test_a_post_of_unknown_outcome_is_never_sent_again(self, kind: str) -> None:
        world = World(NOT_SENT, UNKNOWN, OK)
        assert world.run(kind, get=False) is UNKNOWN
        assert world.tries == 2

    def test_sixty_seconds(self, kind: str) -> None:
        world = World(UNKNOWN, duration=29.0)
        assert world.run(kind) is UNKNOWN
        assert world.tries == 3
        assert world.slept == [0.5, 1.0]

    def test_no_wait_that_ends_too_late(self, kind: str) -> None:
        world = World(UNKNOWN, duration=59.6)
        world.run(kind)
        assert (world.tries, world.slept) == (1, [])

    def test_asked_waits_are_sat_out_and_do_not_count(self, kind: str) -> None:
        world = World(limited(120.0), limited(100.0), UNKNOWN, OK)
        assert world.run(kind) is OK
        assert world.slept == [120.0, 100.0, 2.0]

    def test_asked_waits_count_as_tries(self, kind: str) -> None:
        world = World(limited(7.0))
        assert world.run(kind).retry_after == 7.0
        assert world.tries == 5

    def test_slow_tries_count_between_asked_waits(self, kind: str) -> None:
        world = World(limited(7.0), duration=31.0)
        world.run(kind)
        assert world.tries == 2

    def test_too_long_a_wait_ends_at_once(self, kind: str) -> None:
        world = World(limited(121.0))
        assert world.run(kind).retry_after == 121.0
        assert (world.tries, world.slept) == (1, [])
