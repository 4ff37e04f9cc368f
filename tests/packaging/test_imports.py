"""Who imports what: asking the provider about itself is free, and the rooms of the package stay apart."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_provider_popin"


def modules_after(code: str) -> set[str]:
    """Return the modules that a fresh process imported while it ran ``code``."""
    program = (
        f"import sys, json\nbefore = set(sys.modules)\n{code}\n"
        "print(json.dumps(list(set(sys.modules) - before)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def top_level_names(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def modules_of(room: str) -> list[str]:
    paths = [path for path in sorted((PACKAGE / room).rglob("*.py")) if path.name != "__main__.py"]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]


def imports_in(path: Path) -> set[str]:
    """Return the modules named by import statements anywhere in a file, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def test_provider_info_imports_nothing() -> None:
    code = (
        "import airflow_provider_popin\n"
        "from airflow_provider_popin.get_provider_info import get_provider_info\n"
        "get_provider_info()"
    )
    assert modules_after(code) - {"__future__"} == {
        "airflow_provider_popin",
        "airflow_provider_popin.get_provider_info",
    }


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("client", {"airflow", "sqlalchemy"}),
        ("sync", {"airflow"}),
        ("sync/source", {"airflow", "sqlalchemy"}),
        ("sync/planning", {"airflow", "sqlalchemy"}),
        ("webhooks", {"airflow"}),
        ("sandbox", {"airflow", "sqlalchemy"}),
    ],
)
def test_room_loads_without(room: str, forbidden: set[str]) -> None:
    loaded = modules_after("\n".join(f"import {name}" for name in modules_of(room)))
    assert not top_level_names(loaded) & forbidden


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


# The package itself, which is only the version, may be imported from everywhere.
@pytest.mark.parametrize(
    ("room", "own"),
    [
        ("client", ["client"]),
        ("sync", ["client", "sync"]),
        ("sync/ledger", ["client", "sync.ledger", "sync.errors", "sync.settings"]),
        ("sync/source", ["client", "sync.source"]),
        ("sync/planning", ["client", "sync.planning"]),
        ("webhooks", ["client", "sync", "webhooks"]),
        ("sandbox", ["sandbox"]),
    ],
)
def test_imports_of_a_room_point_one_way(room: str, own: list[str]) -> None:
    foreign = {
        (path.name, name)
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports_in(path)
        if name.startswith("airflow_provider_popin.")
        and not any(is_inside(name, f"airflow_provider_popin.{room}") for room in own)
    }
    assert not foreign


@pytest.mark.parametrize(
    ("room", "library"),
    [
        ("client", "airflow"),
        ("client", "sqlalchemy"),
        ("sync", "airflow"),
        ("webhooks", "airflow"),
        ("sandbox", "airflow"),
    ],
)
def test_room_names_no(library: str, room: str) -> None:
    wrong = {
        path.name
        for path in (PACKAGE / room).rglob("*.py")
        for name in imports_in(path)
        if is_inside(name, library)
    }
    assert not wrong


@pytest.mark.parametrize(
    "room",
    [
        "client",
        "sync",
        "sync/ledger",
        "sync/source",
        "sync/planning",
        "webhooks",
        "hooks",
        "operators",
        "triggers",
        "plugins",
        "plugins/page",
    ],
)
def test_the_map_of_a_room_names_all_that_is_in_it(room: str) -> None:
    folder = PACKAGE / room
    drawn = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    named = re.findall(r"^``(\w+)/?``", drawn, re.MULTILINE)
    inside = [path.stem for path in folder.iterdir() if not path.name.startswith(("__", "."))]
    assert sorted(named) == sorted(inside)


def test_nothing_but_the_sandbox_imports_the_sandbox() -> None:
    wrong = {
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        if "sandbox" not in path.relative_to(PACKAGE).parts
        and any(name.startswith("airflow_provider_popin.sandbox") for name in imports_in(path))
    }
    assert not wrong


def test_imports_in_sees_late_and_relative_imports(tmp_path: Path) -> None:
    source = tmp_path / "some.py"
    source.write_text("import a.b\ndef f():\n    from c.d import e\n    from .x import y\n")
    assert imports_in(source) == {"a.b", "c.d", ".x"}
