"""The constraints pin everything that is installed, by version alone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "constraints").glob("*.txt"))


def requirements() -> list[Requirement]:
    """Return every requirement of pyproject.toml: of the package, its extras and its groups."""
    document: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, groups = document["project"], document["dependency-groups"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups.values()]
    return [Requirement(text) for texts in lists for text in texts if isinstance(text, str)]


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_there_is_one_file_per_airflow() -> None:
    assert [path.name for path in FILES] == ["airflow-2.11.txt", "airflow-3.3.txt"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_lines_are_plain_pins(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9-]*==[A-Za-z0-9.+!]+", line)] == []
    assert list(pins(path)) == sorted(pins(path))
    assert pins(path)["apache-airflow"].startswith(path.stem.removeprefix("airflow-") + ".")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_requirement_is_pinned_within_its_range(path: Path) -> None:
    pinned = pins(path)
    wrong = [
        str(requirement)
        for requirement in requirements()
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]
    assert wrong == []
