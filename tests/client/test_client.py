"""PopinClient and fetch_calendar over real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_provider_popin.client import client, errors
from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.client import PopinClient, fetch_calendar
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.limits import RateLimiter
from airflow_provider_popin.client.models import Calendar, Customer, ScheduledCall
from airflow_provider_popin.client.outcomes import Outcome, Verdict
from tests.client.raw_server import Peer, RawServer, Script
from tests.client.support import CAPTURE_BODY, SCHEDULE_BODY, SLOT_TIME, SLOTS_BODY, a_config, a_lead


class Answers:
    """A server that answers each request with the next reply, and hangs up on None."""

    def __init__(self, *replies: tuple[str, bytes] | tuple[str, bytes, dict[str, str]] | None) -> None:
        self.replies: Iterator[tuple[str, bytes] | tuple[str, bytes, dict[str, str]] | None] = iter(replies)
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []

    def script(self) -> Script:
        def answer(peer: Peer) -> None:
            while True:
                self.heads.append(peer.read_head())
                self.bodies.append(peer.read_request())
                reply = next(self.replies)
                if reply is None:
                    return
                headers = reply[2] if len(reply) > 2 else {}
                peer.reply(reply[1], reply[0], **headers)

        return answer


OK_SLOTS = ("200 OK", SLOTS_BODY)
OK_CAPTURE = ("200 OK", CAPTURE_BODY)
OK_SCHEDULE = ("200 OK", SCHEDULE_BODY)
ERROR_500 = ("500 Internal Server Error", b"oops")
REFUSED_422 = ("422 Unprocessable Entity", b'{"message":"no","errors":{"mobile":["Invalid phone number"]}}')
LIMITED = ("429 Too Many Requests", b"{}", {"Retry_After": "3"})


@pytest.fixture
def slept() -> list[float]:
    return []


def client_for(url: str, slept: list[float], config: ClientConfig | None = None) -> PopinClient:
    return PopinClient(config or a_config(url, seller_token=url), sleep=slept.append)


def test_the_three_calls(slept: list[float]) -> None:
    answers = Answers(OK_CAPTURE, OK_SLOTS, OK_SCHEDULE)
    with RawServer(answers.script()) as server, client_for(server.url, slept) as client:
        customer = client.capture(a_lead())
        calendar = client.get_slots()
        call = client.schedule(
            customer.customer_id, SLOT_TIME, agent=210, native=False, url="https://example.com/ring"
        )
    assert customer == Customer("MzE1", "https://live.popin.to/8131-a157", incomplete=False)
    assert isinstance(calendar, Calendar)
    assert call == ScheduledCall("Thu, Sep 25 | 03:15 PM", "Asia/Kolkata", incomplete=False)
    assert json.loads(answers.bodies[0])["pincode"] == "560001"
    assert json.loads(answers.bodies[2])["url"] == "https://example.com/ring"
    assert slept == []


def test_postal_code_field_of_the_connection(slept: list[float]) -> None:
    answers = Answers(OK_CAPTURE)
    with RawServer(answers.script()) as server:
        config = replace(a_config(server.url), postal_code_field="pin_code")
        with client_for(server.url, slept, config) as client:
            client.capture(a_lead())
    assert json.loads(answers.bodies[0])["pin_code"] == "560001"


def test_capture_of_unknown_outcome_is_sent_once_more(slept: list[float]) -> None:
    answers = Answers(ERROR_500, OK_CAPTURE)
    with RawServer(answers.script()) as server, client_for(server.url, slept) as client:
        assert client.capture(a_lead()).customer_id == "MzE1"
    assert answers.bodies[0] == answers.bodies[1]
    assert len(slept) == 1


@pytest.mark.parametrize("second", [ERROR_500, None, REFUSED_422, ("401 Unauthorized", b"{}")])
def test_capture_that_stays_unknown(slept: list[float], second: tuple[str, bytes] | None) -> None:
    """Only a success ends the doubt: a refusal may be about the customer that the first try made."""
    answers = Answers(ERROR_500, second)
    with (
        RawServer(answers.script()) as server,
        client_for(server.url, slept) as client,
        pytest.raises(errors.PopinOutcomeUnknownError) as caught,
    ):
        client.capture(a_lead())
    assert (caught.value.status, caught.value.path) == (500, "/external/capture")
    assert len(answers.bodies) == 2


def test_schedule_of_unknown_outcome_is_never_sent_again(slept: list[float]) -> None:
    for reply in (None, ERROR_500, ("302 Found", b""), ("200 OK", b"<html>")):
        answers = Answers(reply, OK_SCHEDULE)
        with (
            RawServer(answers.script()) as server,
            client_for(server.url, slept) as client,
            pytest.raises(errors.PopinOutcomeUnknownError),
        ):
            client.schedule("MzE1", SLOT_TIME)
        assert len(answers.bodies) == 1
    assert slept == []


def test_429_is_waited_for(slept: list[float]) -> None:
    answers = Answers(LIMITED, OK_SCHEDULE)
    with RawServer(answers.script()) as server, client_for(server.url, slept) as client:
        # The limiter pauses as well, on the real clock: only its own waits come after the three seconds.
        client._sleep = lambda seconds: _forgive(client, slept, seconds)
        client.schedule("MzE1", SLOT_TIME)
    assert slept[0] == 3.0
    assert len(answers.bodies) == 2


def _forgive(client: PopinClient, slept: list[float], seconds: float) -> None:
    slept.append(seconds)
    client._limiter._paused_until = 0.0


def test_429_that_asks_too_much_fails_at_once(slept: list[float]) -> None:
    answers = Answers(("429 Too Many Requests", b"{}", {"Retry_After": "121"}), OK_SLOTS)
    with RawServer(answers.script()) as server, client_for(server.url, slept) as client:
        with pytest.raises(errors.PopinRateLimitError) as caught:
            client.get_slots()
        assert caught.value.retry_after == 121
        assert isinstance(client.get_slots(), Calendar)
    assert slept == []


def test_rejection_carries_the_fields(slept: list[float]) -> None:
    answers = Answers(REFUSED_422)
    with (
        RawServer(answers.script()) as server,
        client_for(server.url, slept) as client,
        pytest.raises(errors.PopinRejectedError) as caught,
    ):
        client.capture(a_lead())
    assert caught.value.field_errors == {"mobile": ("Invalid phone number",)}
    assert str(caught.value) == "POST /external/capture: mobile: Invalid phone number (HTTP 422)"


def test_access_is_an_error_at_once(slept: list[float]) -> None:
    answers = Answers(("401 Unauthorized", b"{}"))
    with (
        RawServer(answers.script()) as server,
        client_for(server.url, slept) as client,
        pytest.raises(errors.PopinAccessError) as caught,
    ):
        client.get_slots()
    assert caught.value.status == 401
    assert slept == []


def test_get_is_tried_five_times(slept: list[float]) -> None:
    answers = Answers(ERROR_500, None, ("200 OK", b"<html>"), ("301 Moved", b""), ERROR_500)
    with (
        RawServer(answers.script()) as server,
        client_for(server.url, slept) as client,
        pytest.raises(errors.PopinReplyError),
    ):
        client.get_slots()
    assert len(answers.bodies) == 5
    assert len(slept) == 4


def test_not_sent_is_tried_five_times(slept: list[float]) -> None:
    with RawServer(lambda peer: None) as server:
        url = server.url
    with client_for(url, slept) as client, pytest.raises(errors.PopinNotSentError) as caught:
        client.schedule("MzE1", SLOT_TIME)
    assert (caught.value.reason, caught.value.method) == ("connect_failed", "POST")
    assert len(slept) == 4


def test_rate_limit_is_kept(slept: list[float]) -> None:
    answers = Answers(OK_SLOTS, OK_SLOTS)
    with RawServer(answers.script()) as server:
        config = replace(a_config(server.url, seller_token="rate"), requests_per_second=2)
        with PopinClient(config) as client:
            client._sleep = lambda seconds: _really_sleep(slept, seconds)
            client.get_slots()
            client.get_slots()
    assert slept
    assert sum(slept) < 0.6


def _really_sleep(slept: list[float], seconds: float) -> None:
    slept.append(seconds)
    time.sleep(seconds)


class TestRun:
    """Everything that Popin documents elsewhere."""

    def test_response_as_it_is(self, slept: list[float]) -> None:
        answers = Answers(("201 Created", b"bytes"), ("404 Not Found", b"{}"))
        with RawServer(answers.script()) as server, client_for(server.url, slept) as client:
            created = client.run("post", "/export?day=1", {"date": "2025-09-01"})
            assert (created.status_code, created.content, created.text) == (201, b"bytes", "bytes")
            assert client.run("GET", "/none").status_code == 404
        assert answers.heads[0].startswith(b"POST /api/v1/export?day=1 HTTP/1.1")
        assert b"X-API-KEY: key-of-tests" in answers.heads[0]
        assert answers.bodies[0] == b'{"date": "2025-09-01"}'

    def test_large_responses(self, slept: list[float]) -> None:
        big = b"a" * (5 * 1024 * 1024)
        with RawServer(Answers(("200 OK", big)).script()) as server, client_for(server.url, slept) as client:
            assert client.run("GET", "/export").content == big

    def test_errors(self, slept: list[float]) -> None:
        with RawServer(Answers(None).script(), Answers(None).script()) as server:
            url = server.url
            with client_for(url, slept) as client:
                with pytest.raises(errors.PopinReplyError):
                    client.run("GET", "/x")
                with pytest.raises(errors.PopinOutcomeUnknownError):
                    client.run("POST", "/x", {})
        with client_for(url, slept) as client, pytest.raises(errors.PopinNotSentError):
            client.run("POST", "/x", {})
        with client_for(url, slept) as client, pytest.raises(errors.PopinInputError):
            client.run("POST", "x")
        assert slept == []


class TestFetchCalendar:
    """What triggers do."""

    def fetch(self, config: ClientConfig) -> Calendar:
        async def fetch() -> Calendar:
            async with AsyncSender(config) as sender:
                return await fetch_calendar(sender, config)

        return asyncio.run(fetch())

    def test_calendar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_popin.client.retrying._FIRST_WAIT_SECONDS", 0.001)
        answers = Answers(ERROR_500, OK_SLOTS)
        with RawServer(answers.script()) as server:
            calendar = self.fetch(a_config(server.url))
        assert len(calendar.slots) == 2
        assert len(answers.bodies) == 2

    def test_access(self) -> None:
        with (
            RawServer(Answers(("403 Forbidden", b"{}")).script()) as server,
            pytest.raises(errors.PopinAccessError) as caught,
        ):
            self.fetch(a_config(server.url))
        assert caught.value.status == 403

    def test_rate_limit_is_kept(self) -> None:
        answers = Answers(OK_SLOTS, OK_SLOTS)
        with RawServer(answers.script()) as server:
            config = replace(a_config(server.url, seller_token="loop-rate"), requests_per_second=20)

            async def twice() -> float:
                async with AsyncSender(config) as sender:
                    began = asyncio.get_running_loop().time()
                    await fetch_calendar(sender, config)
                    await fetch_calendar(sender, config)
                    return asyncio.get_running_loop().time() - began

            assert asyncio.run(twice()) >= 0.045


@pytest.mark.parametrize(("asked", "paused"), [(None, 0.0), (7.0, 7.0), (120.0, 120.0), (120.5, 0.0)])
def test_everybody_waits_what_a_429_asks_for_unless_nobody_will(asked: float | None, paused: float) -> None:
    limiter = RateLimiter(0, clock=lambda: 50.0)
    client._heed(limiter, Outcome(Verdict.RATE_LIMITED, retry_after=asked))
    assert limiter.try_acquire() == paused
    client._heed(limiter, Outcome(Verdict.UNKNOWN, retry_after=60.0))
    assert limiter.try_acquire() == paused


def test_a_429_of_one_call_slows_down_all_of_the_account() -> None:
    now, waits = 50.0, []
    limiter = RateLimiter(0, clock=lambda: now)

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append((seconds, limiter.try_acquire()))
        now += seconds

    with (
        RawServer(Answers(LIMITED, OK_SLOTS).script()) as server,
        PopinClient(a_config(server.url), sleep=sleep) as popin,
    ):
        popin._limiter = limiter
        popin.get_slots()
    assert waits == [(3.0, 3.0)]


async def test_a_429_of_a_trigger_slows_down_all_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimiter(0, clock=lambda: 50.0)
    monkeypatch.setattr(client, "limiter_for", lambda _: limiter)
    at_once = ("429 Too Many Requests", b"{}", {"Retry_After": "0"})
    with RawServer(Answers(at_once, OK_SLOTS).script()) as server:
        async with AsyncSender(config := a_config(server.url)) as sender:
            await fetch_calendar(sender, config)
    assert limiter._factor(50.0) == 0.5


def test_a_free_request_waits_for_its_permit_too() -> None:
    now, waits = 50.0, []
    limiter = RateLimiter(0, clock=lambda: now)
    limiter.penalize(4.0)

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    with (
        RawServer(Answers(OK_SLOTS).script()) as server,
        PopinClient(a_config(server.url), sleep=sleep) as popin,
    ):
        popin._limiter = limiter
        assert popin.run("GET", "/anything").status_code == 200
    assert waits == [4.0]


def test_a_name_of_plain_words_is_hidden_where_popin_echoes_it(slept: list[float]) -> None:
    refused = ("422 Unprocessable Entity", b'{"message":"no","errors":{"name":["Field Key is invalid"]}}')
    with (
        RawServer(Answers(refused).script()) as server,
        client_for(server.url, slept) as popin,
        pytest.raises(errors.PopinRejectedError) as caught,
    ):
        popin.capture(replace(a_lead(), name="Field Key"))
    assert caught.value.reason == "name: *** is invalid"


def test_a_free_head_that_got_no_answer_may_be_asked_again(slept: list[float]) -> None:
    with (
        RawServer(Answers(None).script()) as server,
        client_for(server.url, slept) as popin,
        pytest.raises(errors.PopinReplyError),
    ):
        popin.run("HEAD", "/anything")
