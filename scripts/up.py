"""``make up``: Airflow's UI and scheduler on this machine, with the examples and a sandbox, until Ctrl-C.

The whole loop moves by itself: new leads come into the CRM, a Dag books calls for them every minute, the
sandbox tells by webhook what becomes of the calls, and Dags run on that. Everything is new at each start,
since the sandbox remembers nothing, and stays in ``.up`` for a look.
"""

from __future__ import annotations

import argparse
import csv
import logging
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.webhook_settings import WebhookSettings
from scripts import crm, local_airflow
from scripts.feeder import Feeder
from scripts.ports import HOST, PortTakenError, check_port
from scripts.standalone import Standalone, StandaloneError
from scripts.stopping import interrupted_once

EXAMPLES = local_airflow.ROOT / "example_dags"
DEFAULT_PLACE = local_airflow.ROOT / ".up"
# Without a Salesforce it could only fail.
LEFT_OUT = frozenset({"popin_salesforce_sync.py"})
# A lead of the file example in each of them, from the sample's columns.
_FILE_COLUMNS = {
    "Lead ID": "id",
    "First Name": "first_name",
    "Last Name": "last_name",
    "Mobile": "mobile_phone",
    "Phone": "other_phone",
    "Email": "email",
    "Country Code": "country",
    "Source": "utm_source",
}
_FILE_ROWS = 40

# The Dags that run by themselves, those of them that there are.
LOOP = ("popin_crm_sync", "popin_slots_open", "popin_missed_calls", "popin_call_outcomes")
# The examples' own schedules are for people who do not watch.
FASTER = {
    'schedule="*/15 * * * *"': 'schedule="* * * * *"',
    'schedule="@hourly"': 'schedule="*/2 * * * *"',
}
# Near the end of the first run one booking's answer is lost: what needs a person is what the page is for.
FAULTS = ("schedule:500_before_commit@150",)
# So soon after its booking a call takes place, whenever its slot is.
OUTCOME_AFTER_SECONDS = 20.0

GUIDE = """
Airflow is ready:   {url}   (no login; only this machine can reach it)
Popin's stand-in:   {sandbox}/_sandbox/bookings   /_sandbox/webhooks   and   /_sandbox/stats

It moves by itself: leads come into the CRM, popin_crm_sync books their calls every minute, and {seconds:.0f}
seconds after a booking Popin's stand-in tells by webhook what became of the call, as if its time had come.

What to look at
  1. Popin, in the navigation: leads, calls, what became of them, and what needs a person. One does: an
     answer is lost on purpose in the first run, which fails to say so, and no webhook ends the doubt. The
     truth is in {sandbox}/_sandbox/bookings; Resolve tells it to the ledger.
  2. Dags, popin_crm_sync: of the task sync_leads, the log tells the counts, and the tab Storage holds the
     report. The CRM that it reads and writes:
     sqlite3 {crm} "SELECT id, popin_state, popin_call_time FROM leads"
  3. Dags, popin_one_lead: unpause it, then Trigger, and fill in the form. The tab Details of its task capture
     has the button "Join call".
  4. Admin, Connections: popin_default has a form of its own, and a Test button in the list.
  5. Dags, popin_mapped_leads: the same for a handful. popin_file_sync: the leads of {file}

Airflow's log: {log}
Ctrl-C ends everything.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start everything, wait for Ctrl-C, stop everything.

    :param arguments: of the command line.
    :return: exit code: 0 after Ctrl-C, 1 when Airflow fails or cannot have this place or port, 2 when a
        port is taken.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.port == given.sandbox_port:
        parser.error("PORT and SANDBOX_PORT must differ (--port, --sandbox-port)")
    try:
        local_airflow.check_place(given.place)
        for port in (given.port, given.sandbox_port):
            check_port(port)
        with interrupted_once():
            _up(given.place, given.port, given.sandbox_port)
    except KeyboardInterrupt:
        print("Everything is stopped.")
    except PortTakenError as error:
        print(
            f"up: {error}. Is another `make up` running? Take others: "
            f"make up PORT={given.port + 10} SANDBOX_PORT={given.sandbox_port + 10}",
            file=sys.stderr,
        )
        return 2
    except (StandaloneError, ValueError) as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    return 0


def make_standalone(
    place: Path, *, port: int, sandbox_url: str, webhook_key: str | None = None, faster: bool = False
) -> Standalone:
    """Fill a folder with all that the examples need, and return an Airflow that uses it.

    :param place: what it holds is removed.
    :param port: of Airflow's UI.
    :param sandbox_url: where the sandbox listens.
    :param webhook_key: that Airflow expects of webhooks; None: it takes none.
    :param faster: whether the examples run more often than they say.
    """
    if place.exists():
        shutil.rmtree(place)
    dags = place / "dags"
    dags.mkdir(parents=True)
    for file in sorted(EXAMPLES.glob("*.py")):
        if file.name not in LEFT_OUT:
            text = file.read_text("utf-8")
            for slow, fast in FASTER.items() if faster else ():
                text = text.replace(slow, fast)
            (dags / file.name).write_text(text, "utf-8")
    crm.make_sample_crm(place / "crm.db")
    make_leads_file(place / "leads.csv")
    return Standalone(
        home=place / "airflow",
        dags=dags,
        port=port,
        connections=local_airflow.connections(
            sandbox_url=sandbox_url,
            ledger=place / "ledger.db",
            crm=place / "crm.db",
            webhook_key=webhook_key,
        ),
        variables={
            # Not as_uri(): Airflow's object storage takes %20 for three characters of a name.
            "popin_results": f"file://{place / 'results'}",
            "popin_leads_file": f"file://{place / 'leads.csv'}",
        },
    )


def make_leads_file(file: Path) -> None:
    """Write some leads of the sample in the columns that ``popin_file_sync`` reads.

    :param file: a CSV file to be made.
    """
    header, rows = crm.read_csv(crm.SAMPLE)
    columns = [header.index(name) for name in _FILE_COLUMNS.values()]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_FILE_COLUMNS)
        writer.writerows([row[column] for column in columns] for row in rows[:_FILE_ROWS])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.up", description=__doc__)
    parser.add_argument("--port", type=_port, default=8080, help="of Airflow's UI (%(default)s)")
    parser.add_argument("--sandbox-port", type=_port, default=8081, help="of the sandbox (%(default)s)")
    parser.add_argument("--place", type=lambda text: Path(text).resolve(), default=DEFAULT_PLACE)
    return parser


def _port(text: str) -> int:
    if re.fullmatch("[0-9]{1,5}", text) is None or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("must be from 1 to 65535")
    return int(text)


def sandbox_settings(*, port: int, airflow_port: int, webhook_key: str) -> SandboxSettings:
    """Return a Popin with room for some hundred calls, which tells Airflow what becomes of them.

    :param port: of the sandbox.
    :param airflow_port: of Airflow's UI.
    :param webhook_key: that Airflow expects.
    """
    webhooks = WebhookSettings(
        url=f"http://{HOST}:{airflow_port}/popin/webhooks/popin_default",
        key=webhook_key,
        outcome_after=OUTCOME_AFTER_SECONDS,
        # As on a real network: now and then one comes twice, or late.
        duplicate=0.05,
        delay=0.05,
    )
    return SandboxSettings(
        port=port,
        api_key=local_airflow.API_KEY,
        token=local_airflow.SELLER_TOKEN,
        days=14,
        faults=FAULTS,
        webhooks=webhooks,
    )


def start_the_loop(airflow: Standalone) -> list[str]:
    """Unpause the Dags that run by themselves.

    :param airflow: that runs.
    :return: their ids.
    """
    found = [dag for dag in LOOP if (airflow.dags / f"{dag}.py").exists()]
    for dag in found:
        airflow.ask("PATCH", f"/dags/{dag}", json={"is_paused": False})
    return found


def _up(place: Path, port: int, sandbox_port: int) -> None:
    key = secrets.token_urlsafe(16)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with SandboxServer(sandbox_settings(port=sandbox_port, airflow_port=port, webhook_key=key)) as popin:
        print(f"Airflow starts; that takes a minute. Its files are in {place}", flush=True)
        airflow = make_standalone(place, port=port, sandbox_url=popin.url, webhook_key=key, faster=True)
        with airflow, Feeder(place / "crm.db"):
            start_the_loop(airflow)
            guide = GUIDE.format(
                url=airflow.url,
                sandbox=popin.url,
                seconds=OUTCOME_AFTER_SECONDS,
                crm=shlex.quote(str(place / "crm.db")),
                file=place / "leads.csv",
                log=airflow.log,
            )
            print(guide, flush=True)
            while True:
                airflow.check_alive()
                time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
