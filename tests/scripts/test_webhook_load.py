"""The load test's verdict: what counts as lost, and what as too slow."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from scripts import local_airflow, webhook_load
from scripts.ports import free_port
from scripts.webhook_load import Answer, ApiServer, report

STOPPED_WHILE_DELIVERING = """
import os, signal, sys
from contextlib import nullcontext
from types import SimpleNamespace
from scripts import webhook_load

async def post(*_):
    os.kill(os.getpid(), signal.SIGINT)

server = SimpleNamespace(url="", cpu_seconds=float)
webhook_load.own_airflow = lambda *_, **__: nullcontext(server)
webhook_load._post = post
sys.exit(webhook_load.main(["--rate=1", "--seconds=1"]))
"""


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
    text, good = report(answers(200, seconds=0.2), Counter({1: 1}), elapsed=1.0)
    assert not good
    assert "median 200.0 ms (goal: below 100 ms)" in text
    assert not report(answers(503, 503), Counter(), elapsed=1.0)[1]


def test_nobody_there_is_no_answer() -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    told = asyncio.run(webhook_load.deliver(url, range(1, 4), rate=0))
    assert [(answer.number, answer.status) for answer in told] == [(1, 0), (2, 0), (3, 0)]


def test_bodies_differ() -> None:
    bodies = [json.loads(webhook_load.body(number)) for number in (1, 2)]
    assert [body["user_id"] for body in bodies] == ["1", "2"]


def test_whoever_stops_it_while_airflow_starts_leaves_nothing_running(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its process would have ended now; here the level is put back for the tests to come.
    caplog.set_level(logging.INFO, logger="asyncio")
    # Programs in Airflow's place, which takes its time to make a database.
    for name, does in (("python", "exit 0"), ("airflow", "exec sleep 60")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    started: list[psutil.Process] = []

    def interrupted(_: ApiServer) -> bool:
        started.extend(psutil.Process().children())
        os.kill(os.getpid(), signal.SIGINT)
        return False

    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(ApiServer, "_answers", interrupted)
    assert webhook_load.main(["--rate=1", "--seconds=1"]) == 130
    assert capsys.readouterr().err == "load-test: stopped\n"
    assert started
    assert not [process for process in started if process.is_running()]


def test_whoever_stops_it_while_it_delivers_sees_no_traceback() -> None:
    command = [sys.executable, "-c", STOPPED_WHILE_DELIVERING]
    done = subprocess.run(command, cwd=local_airflow.ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "load-test: stopped\n")
