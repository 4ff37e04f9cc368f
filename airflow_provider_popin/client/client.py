"""Popin's API, one call at a time, as hooks and operators use it; and the one call that triggers make."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING

import requests

from airflow_provider_popin.client import protocol
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import (
    PopinError,
    PopinNotSentError,
    PopinOutcomeUnknownError,
    PopinReplyError,
)
from airflow_provider_popin.client.exchange import Endpoint, Failure, Request
from airflow_provider_popin.client.limits import RateLimiter, limiter_for
from airflow_provider_popin.client.models import Calendar, Customer, Lead, ScheduledCall
from airflow_provider_popin.client.outcomes import Outcome, Verdict, classify, error_for
from airflow_provider_popin.client.requests_sender import RequestsSender
from airflow_provider_popin.client.retrying import MAX_RETRY_AFTER_SECONDS, RetryPolicy, backoff_seconds

if TYPE_CHECKING:
    # Costs a quarter of a second to import, and only triggers and the lead sync have use for it.
    from airflow_provider_popin.client.async_sender import AsyncSender

# run() may fetch what Popin documents elsewhere, exports for example.
_MAX_FREE_BODY_BYTES = 64 * 1024 * 1024


class PopinClient:
    """One Popin account, blocking. What is safe to send again is retried: see :mod:`.retrying`.

    :param config: whose account
    :param sleep: waits
    """

    def __init__(self, config: ClientConfig, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._config = config
        self._sender = RequestsSender(config)
        self._limiter = limiter_for(config)
        self._sleep = sleep

    def __enter__(self) -> PopinClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        self._sender.close()

    def capture(self, lead: Lead) -> Customer:
        """Register a lead (grade D).

        If nobody can say whether it worked, it is sent once more: that may make a second customer (grade U),
        but never a second call.

        :param lead: who
        :raises PopinOutcomeUnknownError: still unknown
        :raises PopinError: the classes of :mod:`.errors` for everything else
        """
        request = protocol.build_capture(lead, postal_code_field=self._config.postal_code_field)
        personal = lead.personal_values()
        outcome = self._outcome(Endpoint.CAPTURE, request, personal)
        if outcome.verdict is Verdict.UNKNOWN:
            self._sleep(backoff_seconds(1))
            again = self._outcome(Endpoint.CAPTURE, request, personal)
            # Only a success ends the doubt: a refusal may be about the customer that the first try made.
            outcome = again if again.verdict is Verdict.OK else outcome
        if isinstance(outcome.value, Customer):
            return outcome.value
        raise error_for(outcome, request)

    def get_slots(self) -> Calendar:
        """The free slots (grade D).

        :raises PopinError: the classes of :mod:`.errors`
        """
        request = protocol.build_slots()
        outcome = self._outcome(Endpoint.SLOTS, request, ())
        if isinstance(outcome.value, Calendar):
            return outcome.value
        raise error_for(outcome, request)

    def schedule(
        self,
        customer_id: str,
        time: str,
        *,
        agent: int | None = None,
        native: bool | None = None,
        url: str | None = None,
    ) -> ScheduledCall:
        """Book a call (grade D). Never sent again once its body has left.

        :param customer_id: from :meth:`capture`
        :param time: Popin's slot string in the seller's timezone
        :param agent: number of the agent
        :param native: False makes the join link ``url``, or the one of the dashboard
        :param url: custom join link
        :raises PopinOutcomeUnknownError: the call may or may not be booked
        :raises PopinError: the classes of :mod:`.errors` for everything else
        """
        request = protocol.build_schedule(customer_id, time, agent=agent, native=native, url=url)
        outcome = self._outcome(Endpoint.SCHEDULE, request, ())
        if isinstance(outcome.value, ScheduledCall):
            return outcome.value
        raise error_for(outcome, request)

    def run(self, method: str, path: str, json: object = None) -> requests.Response:
        """Any other request, sent once. The response comes back as it is, whatever its status.

        :param method: HTTP method
        :param path: what follows ``/api/v1``, with its leading slash
        :param json: a JSON value for the body
        :raises PopinNotSentError: the request did not leave
        :raises PopinReplyError: a GET got no complete response
        :raises PopinOutcomeUnknownError: another request left and got no complete response
        """
        request = protocol.build_free(method, path, json)
        self._wait_for_permit()
        response = self._sender.fetch(request, max_bytes=_MAX_FREE_BODY_BYTES)
        if isinstance(response, Failure):
            raise _free_error(response, request)
        return response

    def _outcome(self, endpoint: Endpoint, request: Request, personal: Sequence[str]) -> Outcome:
        def attempt() -> Outcome:
            self._wait_for_permit()
            outcome = classify(endpoint, self._sender.send(request), now=_now(), personal=personal)
            _heed(self._limiter, outcome)
            return outcome

        return RetryPolicy(get=request.method == "GET").call(attempt, sleep=self._sleep)

    def _wait_for_permit(self) -> None:
        while (wait := self._limiter.try_acquire()) > 0:
            self._sleep(wait)


async def fetch_calendar(sender: AsyncSender, config: ClientConfig) -> Calendar:
    """The free slots, from an event loop, with retries.

    :param sender: an open one
    :param config: the same account
    :raises PopinError: the classes of :mod:`.errors`
    """
    request = protocol.build_slots()
    limiter = limiter_for(config)

    async def attempt() -> Outcome:
        while (wait := limiter.try_acquire()) > 0:  # noqa: ASYNC110 - it is a clock that is waited for, no event
            await asyncio.sleep(wait)
        exchange = await sender.send(request)
        # In a thread: a calendar of ten thousand slots takes 0.1 s to read, and the loop serves others too.
        outcome = await asyncio.to_thread(classify, Endpoint.SLOTS, exchange, now=_now())
        _heed(limiter, outcome)
        return outcome

    outcome = await RetryPolicy(get=True).acall(attempt)
    if isinstance(outcome.value, Calendar):
        return outcome.value
    raise error_for(outcome, request)


def _heed(limiter: RateLimiter, outcome: Outcome) -> None:
    """Slow everybody down after a 429, unless it asks for a wait that nobody will sit out."""
    if outcome.verdict is Verdict.RATE_LIMITED and (outcome.retry_after or 0.0) <= MAX_RETRY_AFTER_SECONDS:
        limiter.penalize(outcome.retry_after or 0.0)


def _free_error(failure: Failure, request: Request) -> PopinError:
    if not failure.sent:
        return PopinNotSentError(failure.reason, method=request.method, path=request.path)
    unknown = PopinReplyError if request.method in ("GET", "HEAD") else PopinOutcomeUnknownError
    return unknown(failure.reason, method=request.method, path=request.path)


def _now() -> datetime:
    return datetime.now(UTC)
