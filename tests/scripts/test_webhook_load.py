"""The load test's verdict: what counts as lost, and what as too slow."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from scripts import webhook_load
from scripts.standalone import free_port
from scripts.webhook_load import Answer, report


def answers(*statuses: int, seconds: float = 0.01) -> list[Answer]:
    return [Answer(number, status, seconds) for number, status in enumerate(statuses, start=1)]


def test_what_was_answered_with_200_must_be_in_the_ledger() -> None:
    text, good = report(answers(200, 200, 503), Counter({1: 1, 2: 1}), elapsed=1.0)
    assert good
    assert "2 x 200, 1 x 503" in text
    assert not report(answers(200, 200), Counter({1: 1}), elapsed=1.0)[1]
    assert not report(answers(200, 200), Counter({1: 1, 2: 2}), elapsed=1.0)[1]


def test_silence_and_slowness_are_failures() -> None:
    assert not report(answers(200, 0), Counter({1: 1}), elapsed=1.0)[1]
    assert not report(answers(200, seconds=0.2), Counter({1: 1}), elapsed=1.0)[1]
    assert not report(answers(503, 503), Counter(), elapsed=1.0)[1]


def test_nobody_there_is_no_answer() -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    told = asyncio.run(webhook_load.deliver(url, range(1, 4), rate=0))
    assert [(answer.number, answer.status) for answer in told] == [(1, 0), (2, 0), (3, 0)]


def test_bodies_differ() -> None:
    bodies = [json.loads(webhook_load.body(number)) for number in (1, 2)]
    assert [body["user_id"] for body in bodies] == ["1", "2"]
