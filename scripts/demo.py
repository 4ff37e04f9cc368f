"""``make demo``: real Airflow makes calls of a CRM's leads, in a local sandbox; then it says who has one.

What it makes stays in ``.demo``, so that a second run knows who is booked; ``make clean`` removes it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from scripts import crm, demo_report, local_airflow
from scripts.field_maps import FieldMapError, guess_field_map, read_field_map
from scripts.own_leads import OwnLeads

EXAMPLE = local_airflow.ROOT / "example_dags" / "popin_crm_sync.py"
DEFAULT_PLACE = local_airflow.ROOT / ".demo"
# Of the sandbox's week, without today: some of today's slots are always over.
_SLOTS_OF_A_WEEK = 6 * 48


@dataclass(frozen=True, slots=True)
class Place:
    """Where one demo keeps its things: an Airflow home, a CRM, a ledger, results.

    :param folder: all of it.
    """

    folder: Path

    @property
    def crm(self) -> Path:
        """The CRM."""
        return self.folder / "crm.db"

    @property
    def ledger(self) -> Path:
        """The ledger."""
        return self.folder / "ledger.db"

    @property
    def results(self) -> Path:
        """Results of the operator."""
        return self.folder / "results"

    @property
    def dags(self) -> Path:
        """Airflow's Dags folder."""
        return self.folder / "dags"

    @property
    def log(self) -> Path:
        """What Airflow said."""
        return self.folder / "airflow.log"

    def prepare(self) -> bool:
        """Make the folder; what an interrupted run left is removed.

        :return: whether an earlier run ended well here.
        """
        finished = (self.folder / "finished").exists()
        if not finished and self.folder.exists():
            # The sandbox of that run is gone, and with it the customers that the ledger remembers.
            print("The last run did not get to its end; starting anew.")
            shutil.rmtree(self.folder)
        self.dags.mkdir(parents=True, exist_ok=True)
        return finished

    def finish(self) -> None:
        """Remember that the run ended well."""
        (self.folder / "finished").touch()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    :param arguments: of the command line.
    :return: exit code: 0; 1 when a run failed, 2 when an argument cannot be used, 130 when stopped.
    """
    given = _parser().parse_args(arguments)
    try:
        if not given.leads and (given.field_map or given.region):
            raise ValueError("FIELD_MAP and REGION belong to LEADS, which is not given")
        local_airflow.check_place(given.place)
        return _own(given) if given.leads else _sample(given.place)
    except (crm.LeadsFileError, FieldMapError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo: stopped; the next run starts anew", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__)
    parser.add_argument("--leads", type=_file, help="CSV file of your own, instead of the sample")
    parser.add_argument("--field-map", help="JSON: Popin's field to a column or a list of columns")
    parser.add_argument("--region", help="ISO country of phone numbers without one, like US")
    parser.add_argument("--place", type=lambda text: Path(text).resolve(), default=DEFAULT_PLACE)
    return parser


def _file(text: str) -> Path:
    # zsh, for one, leaves a ~ behind the = of LEADS=~/leads.csv to us.
    return Path(os.path.expanduser(text))


def _sample(folder: Path) -> int:
    place = Place(folder / "sample")
    if not place.prepare():
        rows = crm.make_sample_crm(place.crm)
        print(f"CRM: {place.crm}, filled with the sample of {rows} messy leads")
    shutil.copy(EXAMPLE, place.dags)
    print(f"Dag: {EXAMPLE}")
    return _run(place, place.dags / EXAMPLE.name, seats=1)


def _own(given: argparse.Namespace) -> int:
    header, rows = crm.read_csv(given.leads)
    field_map = read_field_map(given.field_map, header) if given.field_map else guess_field_map(header, rows)
    name = re.sub(r"\W+", "-", given.leads.stem)
    leads = OwnLeads(
        file=given.leads,
        source=f"file.{name}",
        field_map=field_map,
        region=given.region,
        calls_per_slot=1 + len(rows) // _SLOTS_OF_A_WEEK,
    )
    # Another file, map or region is another demo, with a ledger of its own.
    mark = hashlib.sha256(repr((leads, given.leads.read_bytes())).encode()).hexdigest()[:8]
    place = Place(given.place / f"{name}-{mark}")
    if not place.prepare():
        count = crm.make_own_crm(place.crm, given.leads, id_column=leads.id_column)
        print(f"CRM: {place.crm}, filled with {count} rows of {given.leads}")
    dag = leads.write_dag(place.dags)
    print(f"Dag: {dag}")
    print("Columns: " + "; ".join(f"{target} = {_columns(value)}" for target, value in field_map.items()))
    return _run(place, dag, seats=leads.calls_per_slot)


def _run(place: Place, dag_file: Path, *, seats: int) -> int:
    booked = crm.count_states(place.crm).get("booked", 0)
    if booked:
        print(
            f"This is not the first run: {booked} of {crm.count_rows(place.crm)} rows of the CRM are booked."
        )
    settings = SandboxSettings(
        api_key=local_airflow.API_KEY, token=local_airflow.SELLER_TOKEN, seats_per_slot=seats
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with SandboxServer(settings) as popin:
        print(f"Sandbox: {popin.url}, a seller in {settings.timezone}; a week of slots")
        _enter_airflow(place, popin.url)
        print(f"Airflow {version('apache-airflow')} runs the Dag ...", flush=True)
        began = time.monotonic()
        with _output_to(place.log):
            state = _run_dag(dag_file)
        print(f"... {state}, {time.monotonic() - began:.1f} s")
        stats = popin.stats()
    if state != "success":
        print(f"The run failed; the reason is at the end of {place.log}", file=sys.stderr)
        return 1
    path, lines = demo_report.newest_results(place.results)
    for text in demo_report.report(lines=lines, database=place.crm, stats=stats):
        print(text)
    print(f"\nOne line per row: {path}\nAirflow's log:    {place.log}")
    place.finish()
    return 0


def _enter_airflow(place: Place, sandbox_url: str) -> None:
    """Make this process the Airflow of a place; Airflow reads its environment when it is imported."""
    settings = local_airflow.environment(
        place.folder / "airflow",
        dags=place.dags,
        connections=local_airflow.connections(sandbox_url=sandbox_url, ledger=place.ledger, crm=place.crm),
        # Not as_uri(): Airflow's object storage takes %20 for three characters of a name.
        variables={"popin_results": f"file://{place.results}"},
    )
    clean = local_airflow.without_airflow(os.environ)
    os.environ.clear()
    os.environ.update(clean | settings)


def _run_dag(dag_file: Path) -> str:
    """Run a Dag once, in this process; return the state of the run."""
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb

    if not (Path(os.environ["AIRFLOW_HOME"]) / "airflow.db").exists():
        initdb()
    Pool.create_or_update_pool(local_airflow.POOL, slots=1, description="Popin", include_deferred=False)
    return str(_load(dag_file).dag.test().state)


def _load(dag_file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(dag_file.stem, dag_file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Send all output of this process into a file; Airflow's log is long."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with file.open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _columns(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " / ".join(value)


if __name__ == "__main__":
    sys.exit(main())
