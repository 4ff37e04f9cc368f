"""What ``make`` hands on to all that it starts, and what it starts in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from tests.scheduler import test_up

ROOT = Path(__file__).parents[2]
SHOW = "include Makefile\nshow: ; @env\n"


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a program that make starts in ours and these variables."""
    ours = {name: value for name, value in os.environ.items() if name.upper() not in ("NO_PROXY", "LC_ALL")}
    command = ["make", "--no-print-directory", "--file", "-", "show"]
    done = subprocess.run(
        command, cwd=ROOT, env=ours | variables, input=SHOW, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "pypi.example.com,.test"}, ".test,127.0.0.1,localhost,pypi.example.com"),
        ({"no_proxy": "a.test", "NO_PROXY": "b.test"}, "127.0.0.1,a.test,b.test,localhost"),
        # As in a make that make calls.
        ({"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}, "127.0.0.1,localhost"),
    ],
)
def test_no_proxy_is_asked_for_this_machine(given: dict[str, str], expected: str) -> None:
    variables = environment(http_proxy="http://127.0.0.1:9", **given)
    assert variables["no_proxy"] == variables["NO_PROXY"] == expected


@pytest.mark.parametrize(("given", "kept"), [("C", False), ("POSIX", False), ("C.UTF-8", True)])
def test_ascii_is_not_all_that_python_can_read(given: str, *, kept: bool) -> None:
    assert ("LC_ALL" in environment(LC_ALL=given)) == kept


def test_what_takes_minutes_is_not_ended_as_if_it_hung() -> None:
    """What pytest ends does not say what it waited for, and may leave an Airflow running."""
    command = ["make", "--dry-run", "test-scheduler", "wheel-test", "PYTHON_FOR_2=python"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    patient = re.findall(r"-m pytest --override-ini=faulthandler_timeout=(\d+) -m (\w+) ", shown)
    assert sorted(marker for _, marker in patient) == ["scheduler", "scheduler", "wheel"]
    longest = test_up.START_SECONDS + 3 * test_up.MOVE_SECONDS
    assert all(int(seconds) > longest for seconds, _ in patient)


def test_environment_without_pip_is_made_anew(tmp_path: Path) -> None:
    tools = {name: shutil.which(name) or "" for name in ("bash", "rm")}
    (tmp_path / "path").mkdir()  # without uv
    for name, tool in tools.items():
        (tmp_path / "path" / name).symlink_to(tool)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || { echo "$@"; exit 1; }\n', "utf-8")
    python.chmod(0o755)
    venv.create(tmp_path / "venv", with_pip=False)
    command = [tools["bash"], "scripts/venv.sh", str(tmp_path / "venv"), "constraints.txt", str(python)]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path / "path")}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, f"-m venv {tmp_path / 'venv'}")
