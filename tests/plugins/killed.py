"""``kill -9`` of the API server in the midst of a burst of deliveries."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

from scripts import webhook_load
from scripts.webhook_load import Answer, ApiServer
from tests.privacy import register_personal

register_personal(webhook_load.KEY)


def kill_in_a_burst(server: ApiServer, deliveries: int, *, kill_at: int) -> list[Answer]:
    """Deliver as fast as 50 connections can, and kill the server on the way.

    :param server: that runs; it is dead afterwards.
    :param deliveries: how many.
    :param kill_at: how many are answered when the server is killed.
    """
    url = f"{server.url}/popin/webhooks/{webhook_load.CONN_ID}"
    answered = threading.Semaphore(0)

    def kill() -> None:
        for _ in range(kill_at):
            assert answered.acquire(timeout=60)
        server.kill()

    async def both() -> list[Answer]:
        killed = asyncio.ensure_future(asyncio.to_thread(kill))
        answers = await webhook_load.deliver(
            url,
            range(1, deliveries + 1),
            rate=0,
            connections=50,
            told=lambda answer: answered.release(),
        )
        await killed
        return answers

    return asyncio.run(both())


def assert_nothing_that_was_answered_is_lost(answers: list[Answer], ledger: Path, *, kill_at: int) -> None:
    """Check the promise, and that the server died in the midst of the burst."""
    stored = webhook_load.stored_numbers(ledger)
    accepted = {answer.number for answer in answers if 200 <= answer.status < 300}
    assert accepted <= set(stored)
    assert set(stored.values()) == {1}
    unanswered = {answer.number for answer in answers if answer.status == 0}
    assert len(accepted) >= kill_at
    assert len(unanswered) >= len(answers) * 0.1
    assert {answer.status for answer in answers} == {200, 0}


def server_on_the_tests_database(set_connection: Callable[..., None], ledger: Path, log: Path) -> ApiServer:
    """Return an API server, not started, whose Airflow is that of the tests."""
    for conn_id, fields in webhook_load.connections(ledger).items():
        set_connection(conn_id, **fields)
    return ApiServer(os.environ, log)
