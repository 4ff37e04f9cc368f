"""`python -m airflow_provider_popin.sandbox`."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, time
from pathlib import Path
from time import sleep

import pytest

from airflow_provider_popin.sandbox.__main__ import main
from airflow_provider_popin.sandbox.arguments import make_parser, settings_from
from airflow_provider_popin.sandbox.faults import parse_fault
from airflow_provider_popin.sandbox.settings import SandboxSettings
from tests.sandbox.talk import headers
from tests.waiting import PATIENCE_SECONDS

COMMAND = [sys.executable, "-W", "error", "-m", "airflow_provider_popin.sandbox"]


def parse(*argv: str) -> SandboxSettings:
    return settings_from(make_parser().parse_args(argv))


def test_defaults_are_those_of_the_settings() -> None:
    assert parse() == SandboxSettings(port=8081)


def test_every_option(tmp_path: Path) -> None:
    listed = tmp_path / "slots.txt"
    listed.write_text("Thu, 25 Sep 2025 03:15 PM\n\n", "utf-8")
    assert parse(
        *("--host", "::1", "--port", "0", "--allow-remote", "--api-key", "k", "--token", "7"),
        *("--timezone", "Asia/Dubai", "--hours", "09:30-24:00", "--days", "2", "--slot-minutes", "30"),
        *("--seats", "4", "--slot", "Wed, 24 Sep 2025 03:15 PM", "--slots-file", str(listed)),
        *("--now", "2025-09-24T12:00:00+05:30", "--latency-ms", "2.5", "--refusal", "status0"),
        *("--same-customer", "--dashboard-url", "https://example.com", "--seed", "9"),
        *("--fault", "schedule:reset_after_commit=0.1", "--fault", "capture:500_after_commit@3,7"),
    ) == SandboxSettings(
        host="::1",
        port=0,
        allow_remote=True,
        api_key="k",
        token="7",
        timezone="Asia/Dubai",
        opens=time(9, 30),
        closes=time(0, 0),
        days=2,
        slot_minutes=30,
        seats_per_slot=4,
        slots=("Wed, 24 Sep 2025 03:15 PM", "Thu, 25 Sep 2025 03:15 PM"),
        now=datetime(2025, 9, 24, 6, 30, tzinfo=UTC),
        latency_ms=2.5,
        refusal="status0",
        same_mobile_same_customer=True,
        dashboard_url="https://example.com",
        faults=("schedule:reset_after_commit=0.1", "capture:500_after_commit@3,7"),
        seed=9,
    )


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--host", "0.0.0.0"], "--allow-remote"),
        (["--fault", "schedule:gremlins"], "known: "),
        (["--timezone", "Asia/Nowhere"], "timezone"),
        (["--slots-file", "/nonexistent"], "No such file"),
        (["--api-key", " "], "api_key: must be ASCII text"),
        (["--token", "é"], "token: must be ASCII text"),
    ],
)
def test_unusable_arguments_end_with_2(argv: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--port", "0"]) == 2
    assert why in capsys.readouterr().err


def test_a_taken_port_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    why = "Address already in use"
    assert capsys.readouterr().err == f"sandbox: port {port} of 127.0.0.1 is not to be had: {why}\n"


@pytest.mark.parametrize("missing", ["uvicorn", "starlette"])
def test_without_its_extra_it_says_what_to_install(missing: str) -> None:
    # A process of its own: here, all of it is imported.
    script = (
        f"import sys; sys.modules[{missing!r}] = None; "
        "from airflow_provider_popin.sandbox.__main__ import main; sys.exit(main(['--port', '0']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert ended.returncode == 2
    assert "pip install 'airflow-provider-popin[sandbox]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        (["--hours", "ten"], "argument --hours: two times of day, like 10:00-22:00"),
        (["--now", "noon"], "argument --now: a time in ISO 8601"),
        (["--refusal", "500"], "argument --refusal: invalid choice"),
    ],
)
def test_unreadable_arguments_are_usage_errors(
    argument: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argument)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_list_of_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-faults"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("reset_after_commit ")]
    assert [line for line in lines if line.startswith("slow_before_commit(1) ")]
    assert [line for line in lines if re.match(r"500 +same as 500_before_commit", line)]
    # What is printed can be copied.
    for line in lines:
        parse_fault(f"*:{line.split('  ')[0]}")


def test_runs_until_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn"), "level", logging.NOTSET)

    def interrupt_once_it_answers() -> None:
        for _ in range(1000):
            with contextlib.suppress(OSError):
                ask_for_slots(unused_tcp_port)
                os.kill(os.getpid(), signal.SIGINT)
                return
            sleep(0.01)

    person = threading.Thread(target=interrupt_once_it_answers)
    person.start()
    assert main(["--port", str(unused_tcp_port), "--access-log"]) == 0
    person.join()
    # Where a test has loaded Airflow, its logging prints the request behind this.
    printed = capsys.readouterr().out
    assert re.match(r"Popin sandbox on http://127\.0\.0\.1:\d+ .*\n", printed)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_as_a_process(how: signal.Signals) -> None:
    command = [*COMMAND, "--port", "0", "--fault", "slots:503@1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert match is not None
        assert ask_for_slots(int(match[1])).startswith(b"HTTP/1.1 503 Service Unavailable")
        process.send_signal(how)
        rest, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (rest, errors) == ("", "")
    assert process.returncode == (0 if how is signal.SIGINT else -signal.SIGTERM)


def ask_for_slots(port: int) -> bytes:
    lines = [
        "GET /api/v1/external/slots HTTP/1.1",
        "Host: localhost",
        *(f"{name}: {value}" for name, value in headers().items()),
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection.recv(100)
