"""The wheel holds the package and nothing else, and works in an empty environment with each Airflow.

Marked ``wheel`` and run by ``make wheel-test``: it builds, and installs two Airflows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_popin

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_popin"
AIRFLOWS = ("3.3", "2.11")

IMPORT_ALL = """
import importlib, pkgutil, airflow_provider_popin as package
from importlib.metadata import version
names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
chosen = [n for n in names if not n.startswith(package.__name__ + ".sandbox") and not n.endswith("__main__")]
if version("apache-airflow").startswith("2."):
    # What the plugin mounts needs FastAPI, which Airflow 2 does not bring; the plugin itself is importable.
    mounted = package.__name__ + ".plugins."
    chosen = [n for n in chosen if not n.startswith(mounted) or n in (mounted + "popin", mounted + "page")]
for name in chosen:
    importlib.import_module(name)
assert "/site-packages/" in package.__file__, package.__file__
print(len(chosen))
"""


def run(*command: str | Path, **environment: str) -> str:
    """Run a command outside the checkout; return its standard output."""
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=environment.get("AIRFLOW_HOME", ROOT),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from that."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    [built] = folder.glob("*.whl")
    return built


def python_for(airflow: str) -> str:
    if airflow != "2.11":
        return sys.executable
    named = os.environ.get("POPIN_PYTHON_FOR_AIRFLOW_2", sys.executable if sys.version_info < (3, 13) else "")
    if not named:
        pytest.skip("NOT TESTED with Airflow 2.11: it needs Python 3.11 or 3.12")
    return named


def install(wheel: Path, airflow: str, folder: Path) -> Path:
    """Install the wheel and its dependencies into an empty environment; return the folder of its programs."""
    python, bin_folder = python_for(airflow), folder / "venv" / "bin"
    constraints = ROOT / "constraints" / f"airflow-{airflow}.txt"
    if shutil.which("uv"):
        run("uv", "venv", "--quiet", "--python", python, folder / "venv")
        run("uv", "pip", "install", "--quiet", "--python", bin_folder / "python", "-c", constraints, wheel)
    else:
        run(python, "-m", "venv", folder / "venv")
        run(bin_folder / "python", "-m", "pip", "install", "-qq", "--no-compile", "-c", constraints, wheel)
    return bin_folder


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    source = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"{PACKAGE}-{airflow_provider_popin.__version__}.dist-info"
    assert {name for name in names if not name.startswith(f"{info}/")} == source
    assert f"{PACKAGE}/py.typed" in source
    assert {f"{info}/entry_points.txt", f"{info}/licenses/LICENSE"} <= names


def test_source_distribution_holds_what_its_tests_need(wheel: Path) -> None:
    [source] = wheel.parent.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        folders = {Path(name).parts[1] for name in archive.getnames() if name.count("/") > 1}
    assert folders >= {"tests", "scripts", "benchmarks", "example_dags", "constraints", "docs", PACKAGE}


def test_wheel_metadata(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    assert metadata["Name"] == "airflow-provider-popin"
    assert metadata["Version"] == airflow_provider_popin.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == {"postgres", "salesforce", "sandbox"}
    assert not any(" @ " in requirement for requirement in metadata.get_all("Requires-Dist", []))


@dataclass(frozen=True)
class Answers:
    """What an Airflow says in an environment with nothing but the wheel and what that asks for."""

    version: str
    providers: list[dict[str, Any]]
    hooks: list[dict[str, Any]]
    imported: int


def answers_of(wheel: Path, airflow: str, folder: Path) -> Answers:
    programs = install(wheel, airflow, folder)
    home = folder / "home"
    home.mkdir()
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home),
    }

    def ask(*command: str) -> str:
        return run(programs / "airflow", *command, **settings)

    return Answers(
        version=ask("version").strip(),
        providers=json.loads(ask("providers", "list", "--output", "json")),
        hooks=json.loads(ask("providers", "hooks", "--output", "json")),
        imported=int(run(programs / "python", "-c", IMPORT_ALL, **settings).splitlines()[-1]),
    )


@pytest.fixture(scope="module")
def answers(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Answers]]]:
    """Both at once: each keeps one processor busy for a minute and a half."""
    with ThreadPoolExecutor() as pool:
        yield {
            airflow: pool.submit(answers_of, wheel, airflow, tmp_path_factory.mktemp("empty"))
            for airflow in AIRFLOWS
        }


@pytest.mark.parametrize("airflow", AIRFLOWS)
def test_wheel_in_an_empty_environment(answers: dict[str, Future[Answers]], airflow: str) -> None:
    told = answers[airflow].result()
    assert told.version.startswith(f"{airflow}.")
    [provider] = [row for row in told.providers if row["package_name"] == "airflow-provider-popin"]
    assert provider["version"] == airflow_provider_popin.__version__
    [hook] = [row for row in told.hooks if row["connection_type"] == "popin"]
    assert hook["class"] == f"{PACKAGE}.hooks.popin.PopinHook"
    assert told.imported > 10
