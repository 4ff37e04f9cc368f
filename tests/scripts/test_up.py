"""What ``make up`` does before it starts Airflow; ``tests/scheduler`` starts it."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from example_dags import popin_file_sync
from scripts import local_airflow, up
from scripts.ports import PortTakenError, check_port, free_port
from scripts.stopping import STOP_SIGNALS


@pytest.mark.parametrize("option", ["--port", "--sandbox-port"])
def test_taken_port_is_told_with_a_way_out(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ports = {"--port": str(free_port()), "--sandbox-port": str(free_port()), option: str(port)}
        arguments = [word for pair in ports.items() for word in pair]
        assert up.main([*arguments, "--place", str(tmp_path / "up")]) == 2
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err
    assert not (tmp_path / "up").exists()


def test_port_that_only_root_may_have_is_not_called_taken() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest <= 1:
        pytest.skip("NOT TESTED: everybody may listen on any port here")
    # Not in this process: who has given root away cannot take it back.
    code = (
        "import os\n"
        "from scripts.ports import check_port\n"
        "os.geteuid() or os.setuid(65534)\n"
        f"try: check_port({lowest - 1})\n"
        "except ValueError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=local_airflow.ROOT, check=False, capture_output=True, text=True)
    assert done.stdout == f"port {lowest - 1} is for root only: take a higher one\n", done.stderr


def test_a_port_that_cannot_be_had_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(port: int) -> None:
        raise ValueError(f"port {port} is for root only: take a higher one")

    monkeypatch.setattr(up, "check_port", refuse)
    assert up.main(["--port=80", f"--place={tmp_path / 'up'}"]) == 1
    assert capsys.readouterr().err == "up: port 80 is for root only: take a higher one\n"
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "9" * 5000])
def test_what_is_no_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        up.main([f"--port={port}"])
    assert ended.value.code == 2
    assert "argument --port: must be from 1 to 65535" in capsys.readouterr().err


def test_one_port_for_both_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    port = str(free_port())
    with pytest.raises(SystemExit) as ended:
        up.main(["--port", port, "--sandbox-port", port])
    assert ended.value.code == 2
    assert "PORT and SANDBOX_PORT must differ" in capsys.readouterr().err


@pytest.mark.parametrize("again", STOP_SIGNALS)
def test_whoever_is_impatient_leaves_nothing_running(
    again: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    @contextmanager
    def airflow() -> Iterator[None]:
        try:
            yield
        finally:
            os.kill(os.getpid(), again)
            ended.append(again)

    monkeypatch.setattr(up, "make_standalone", lambda *_, **__: airflow())
    monkeypatch.setattr(up, "start_the_loop", lambda _: os.kill(os.getpid(), signal.SIGINT))
    ports = ["--port", str(free_port()), "--sandbox-port", str(free_port())]
    assert up.main([*ports, "--place", str(tmp_path / "up")]) == 0
    assert ended == [again]
    assert capsys.readouterr().out.endswith("Everything is stopped.\n")


def test_free_port_can_be_listened_on() -> None:
    check_port(free_port())


def test_port_in_use_has_its_number() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(PortTakenError) as error:
            check_port(listener.getsockname()[1])
    assert error.value.port > 0


def test_examples_have_what_they_ask_for(tmp_path: Path) -> None:
    place = tmp_path / "up"
    place.mkdir()
    (place / "of an earlier start").touch()
    airflow = up.make_standalone(place, port=8080, sandbox_url="http://127.0.0.1:8081")
    assert sorted(path.name for path in airflow.dags.iterdir()) == sorted(
        {path.name for path in up.EXAMPLES.glob("*.py")} - up.LEFT_OUT
    )
    assert airflow.connections.keys() == {"popin_default", "popin_ledger", "crm"}
    assert not (place / "of an earlier start").exists()
    with (place / "leads.csv").open(encoding="utf-8", newline="") as stream:
        (header, *rows) = csv.reader(stream)
    wanted = popin_file_sync.FIELD_MAP.values()
    assert {name for value in wanted for name in ([value] if isinstance(value, str) else value)} <= {*header}
    assert len(rows) == 40


def test_examples_are_copied_as_they_are_unless_they_shall_be_faster(tmp_path: Path) -> None:
    def schedules(*, faster: bool) -> set[str]:
        airflow = up.make_standalone(tmp_path / "up", port=8080, sandbox_url="http://x:1", faster=faster)
        texts = [(file, file.read_text("utf-8")) for file in airflow.dags.iterdir()]
        changed = [file for file, text in texts if text != (up.EXAMPLES / file.name).read_text("utf-8")]
        assert bool(changed) == faster
        return {slow for slow in up.FASTER if any(slow in text for _, text in texts)}

    assert schedules(faster=False) == {*up.FASTER}
    assert schedules(faster=True) == set()


def test_dags_of_the_loop_exist() -> None:
    assert {f"{dag_id}.py" for dag_id in up.LOOP} <= {path.name for path in up.EXAMPLES.glob("*.py")}


def test_sandbox_and_airflow_agree_about_webhooks(tmp_path: Path) -> None:
    webhooks = up.sandbox_settings(port=8081, airflow_port=8080, webhook_key="a-key").webhooks
    airflow = up.make_standalone(
        tmp_path / "up", port=8080, sandbox_url="http://127.0.0.1:8081", webhook_key="a-key"
    )
    extra = airflow.connections["popin_default"]["extra"]
    assert webhooks is not None
    assert isinstance(extra, dict)
    assert webhooks.key == extra["webhook_key"] == "a-key"
    assert webhooks.url == f"{airflow.url}/popin/webhooks/popin_default"
    assert webhooks.outcome_after == up.OUTCOME_AFTER_SECONDS


def test_place_that_airflow_cannot_work_in_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = ["--port", str(free_port()), "--sandbox-port", str(free_port())]
    assert up.main([*ports, "--place", str(tmp_path / "100%")]) == 1
    assert "its path holds %" in capsys.readouterr().err
