"""When and how long to wait before sending again: one policy, for threads and for event loops.

What may be sent again at all is a matter of the outcome: what was not sent and what was answered 429 always,
anything unknown only when it was a GET. A POST whose outcome is unknown is never sent again here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import tenacity

from airflow_provider_popin.client.outcomes import Outcome, Verdict

MAX_TRIES = 5
MAX_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 120.0
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 16.0


def may_send_again(outcome: Outcome, *, get: bool) -> bool:
    """Whether an outcome allows to send the same request again.

    :param outcome: what came of it
    :param get: whether it was a GET
    """
    if outcome.retry_after is not None and outcome.retry_after > MAX_RETRY_AFTER_SECONDS:
        return False
    if outcome.verdict is Verdict.UNKNOWN:
        return get
    return outcome.verdict in (Verdict.NOT_SENT, Verdict.RATE_LIMITED)


def backoff_seconds(attempt: int, jitter: Callable[[], float] = random.random) -> float:
    """The exponential wait after a try: 0.5, 1, 2, 4 ... at most 16 seconds, half of it by chance.

    :param attempt: number of the try that failed, from 1
    :param jitter: gives a number from 0 to 1
    """
    full = min(_FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1), _LONGEST_WAIT_SECONDS)
    return float(full * (0.5 + jitter() / 2))


class RetryPolicy:
    """Five tries or 60 seconds, whichever comes first; waits that Popin asked for do not count. For one call
    only.

    :param get: whether the request is a GET
    :param jitter: gives a number from 0 to 1
    :param clock: seconds, monotonic
    """

    def __init__(
        self,
        *,
        get: bool,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._get = get
        self._jitter = jitter
        self._clock = clock
        self._began: float | None = None
        self._asked_seconds = 0.0

    def call(self, attempt: Callable[[], Outcome], *, sleep: Callable[[float], None] = time.sleep) -> Outcome:
        """Send until the outcome is final, blocking.

        :param attempt: sends once
        :param sleep: waits
        :return: the last outcome, whatever it is
        """
        self._began = self._clock()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(self._again),
            wait=self._wait,
            stop=self._stop,
            sleep=sleep,
            retry_error_callback=_last_outcome,
        )
        return retrying(attempt)

    async def acall(
        self,
        attempt: Callable[[], Awaitable[Outcome]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Outcome:
        """Send until the outcome is final, in an event loop.

        :param attempt: sends once
        :param sleep: waits
        :return: the last outcome, whatever it is
        """
        self._began = self._clock()
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(self._again),
            wait=self._wait,
            stop=self._stop,
            sleep=sleep,
            retry_error_callback=_last_outcome,
        )
        return await retrying(attempt)

    def _again(self, outcome: Outcome) -> bool:
        return may_send_again(outcome, get=self._get)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        asked = _last_outcome(state).retry_after
        return backoff_seconds(state.attempt_number, self._jitter) if asked is None else asked

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        """Asked once per failed try, after the wait is known."""
        if state.attempt_number >= MAX_TRIES:
            return True
        own_seconds = self._clock() - (self._began or 0.0) - self._asked_seconds
        if _last_outcome(state).retry_after is not None:
            self._asked_seconds += state.upcoming_sleep
            return own_seconds >= MAX_SECONDS
        return own_seconds + state.upcoming_sleep >= MAX_SECONDS


def _last_outcome(state: tenacity.RetryCallState) -> Outcome:
    assert state.outcome is not None
    outcome = state.outcome.result()
    assert isinstance(outcome, Outcome)
    return outcome
