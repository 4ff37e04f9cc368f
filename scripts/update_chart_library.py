"""``make chart-library``: take Chart.js from npm as its authors publish it, for the page in Airflow's UI.

Needs npm. The version, and hashes of what was taken, are kept beside the files; a test compares them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "airflow_provider_popin" / "plugins" / "page" / "static" / "vendor"
PACKAGE = "chart.js"
# Name in the package -> name here.
FILES = {"dist/chart.umd.min.js": "chart.js", "LICENSE.md": "chart.js.LICENSE.md"}
RECORD = "vendored.json"


def main() -> None:
    """Take one version."""
    parser = argparse.ArgumentParser(prog="python -m scripts.update_chart_library", description=__doc__)
    parser.add_argument("--version", default="latest", help="of Chart.js (%(default)s)")
    version = parser.parse_args().version
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["npm", "pack", "--json", f"{PACKAGE}@{version}"],
            cwd=folder,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        [told] = json.loads(packed.stdout)
        with tarfile.open(Path(folder) / told["filename"]) as archive:
            archive.extractall(folder, filter="data")
        TARGET.mkdir(parents=True, exist_ok=True)
        for name, here in FILES.items():
            shutil.copyfile(Path(folder) / "package" / name, TARGET / here)
        licence = json.loads((Path(folder) / "package" / "package.json").read_text())["license"]
    record = {
        "package": PACKAGE,
        "version": told["version"],
        "licence": licence,
        "integrity": told["integrity"],
        "sha256": {here: sha256(TARGET / here) for here in FILES.values()},
    }
    (TARGET / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    print(f"{PACKAGE} {told['version']} ({licence})")


def sha256(file: Path) -> str:
    """Return the hash of a file, in hexadecimal.

    :param file: to be read.
    """
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
