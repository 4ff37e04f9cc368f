"""Resolve all dependencies anew, for each Airflow on each Python it supports, and write ``constraints/``.

Needs uv, and the Pythons on this machine (uv finds them). Where Pythons disagree about a version, the lowest
is taken, and the last step installs once more on each of them to see that it can be.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
AIRFLOWS = {"3.3": ("3.11", "3.12", "3.13"), "2.11": ("3.11", "3.12")}
# What `make distributed` installs besides, into the environment of the first Airflow above.
DISTRIBUTED = "apache-airflow-providers-celery[redis]"
# They come with an environment, and no package of ours needs a certain one.
NOT_PINNED = frozenset({"setuptools", "wheel"})
HEADER = (
    "# What `make` installs with Airflow {}: runtime, extras and test tools. "
    "`make constraints` writes it anew.\n"
)
DISTRIBUTED_HEADER = (
    "# What `make distributed` adds to airflow-{}.txt: Airflow's Celery provider with its Redis client.\n"
)


def main() -> None:
    """Write one file per Airflow version, and one for what `make distributed` adds."""
    for airflow, pythons in AIRFLOWS.items():
        print(f"Airflow {airflow} on Python {', '.join(pythons)} ...", flush=True)
        pins = _lowest([_resolve([f"apache-airflow=={airflow}.*"], python) for python in pythons])
        target = ROOT / "constraints" / f"airflow-{airflow}.txt"
        _write(target, HEADER.format(airflow), pins)
        for python in pythons:
            _resolve(["--constraint", str(target)], python)
    _write_distributed(*next(iter(AIRFLOWS.items())))


def _write_distributed(airflow: str, pythons: tuple[str, ...]) -> None:
    base = ROOT / "constraints" / f"airflow-{airflow}.txt"
    known = set(base.read_text().splitlines())
    arguments = ["--constraint", str(base), DISTRIBUTED]
    pins = _lowest([_resolve(arguments, python) for python in pythons])
    added = {name: version for name, version in pins.items() if f"{name}=={version}" not in known}
    _write(
        ROOT / "constraints" / "distributed" / f"airflow-{airflow}.txt",
        DISTRIBUTED_HEADER.format(airflow),
        added,
    )


def _write(target: Path, header: str, pins: dict[str, str]) -> None:
    target.write_text(header + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))


def _resolve(arguments: list[str], python: str) -> dict[str, str]:
    """Install into an empty environment, seeded with pip; return name -> version of what is in it then."""
    with tempfile.TemporaryDirectory() as folder:
        executable = f"{folder}/bin/python"
        _uv("venv", "--quiet", "--clear", "--seed", "--python", python, folder)
        package = f"airflow-provider-popin[postgres,salesforce,sandbox] @ {ROOT}"
        _uv("pip", "install", "--quiet", "--python", executable, package, "--group", "dev", *arguments)
        frozen = _uv("pip", "freeze", "--quiet", "--python", executable)
    pairs = (line.split("==", 1) for line in frozen.splitlines() if "==" in line)
    return {name: version for name, version in pairs if name not in NOT_PINNED}


def _uv(*arguments: str) -> str:
    return subprocess.run(["uv", *arguments], check=True, text=True, stdout=subprocess.PIPE, cwd=ROOT).stdout


def _lowest(resolved: list[dict[str, str]]) -> dict[str, str]:
    pins: dict[str, str] = {}
    for name, version in (pair for pins_of_one in resolved for pair in pins_of_one.items()):
        pins[name] = min(pins.get(name, version), version, key=_sort_key)
    return pins


def _sort_key(version: str) -> list[int]:
    return [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")]


if __name__ == "__main__":
    main()
