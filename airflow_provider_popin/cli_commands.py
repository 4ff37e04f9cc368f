"""Every command and option, written once for ``argparse`` and for Airflow's own command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

SUMMARY = "Look after the Popin ledger: what was booked, and what is in doubt."
GROUPS = {
    "ledger": "The ledger: create it, look into it, forget leads.",
    "in-doubt": "Bookings of which nobody knows whether they exist.",
    "webhooks": "What Popin told by webhook, and matches no one booking.",
    "alarms": "Leads that may have a call which the ledger did not make.",
}


@dataclass(frozen=True, slots=True)
class Argument:
    """One option.

    :param flag: for example ``--source``.
    :param options: keyword arguments of ``add_argument``, as Airflow's ``Arg`` takes them too.
    """

    flag: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    :param name: of the command itself.
    :param group: the word before it, a key of :data:`GROUPS`; None for none.
    :param help: what it does, one line.
    :param action: name of the function in ``cli_actions`` that does it.
    :param arguments: its options.
    :param columns: what a table shows of each row; empty for all. JSON always has all.
    """

    name: str
    group: str | None
    help: str
    action: str
    arguments: tuple[Argument, ...]
    columns: tuple[str, ...] = ()


def _number_to(most: int) -> Callable[[str], int]:
    """Return a type for ``add_argument``: whole numbers from 1 that the ledger's database can hold."""

    def number(text: str) -> int:
        found = int(text) if re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) else 0
        if not 1 <= found <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}")
        return found

    return number


def _argument(flag: str, help_text: str, **options: Any) -> Argument:
    return Argument(flag, {"help": help_text, **options})


_POPIN = _argument("--popin-conn-id", "Popin connection (popin_default)", default="popin_default")
_LEDGER = _argument("--ledger-conn-id", "connection of the ledger (popin_ledger)", default="popin_ledger")
_OUTPUT = _argument(
    "--output", "table for people (default) or json for programs", default="table", choices=("table", "json")
)
_GENERATION = _number_to(2**31 - 1)
_EVENT = _number_to(2**63 - 1)
_SOURCE = _argument("--source", "name of the source, as the Dag gives it", required=True)
_ONE_SOURCE = _argument("--source", "only this source")
_ACCOUNT = _argument("--account", "of the lead, if several accounts have it; the list as json names it")

COMMANDS = (
    Command(
        name="check",
        group=None,
        help="try the Popin connection and the ledger; sends nothing, creates nothing",
        action="check",
        arguments=(_POPIN, _LEDGER, _OUTPUT),
    ),
    Command(
        name="init",
        group="ledger",
        help="create the tables; with --source, say that this is the right ledger for a source",
        action="init",
        arguments=(
            _argument("--source", "accept the ledger for it, whatever earlier runs reported"),
            _argument("--lead-id-column", "its column with the lead ids; default: the first run says it"),
            _POPIN,
            _LEDGER,
            _OUTPUT,
        ),
    ),
    Command(
        name="summary",
        group="ledger",
        help="count leads by source and state",
        action="summary",
        arguments=(_ONE_SOURCE, _LEDGER, _OUTPUT),
    ),
    Command(
        name="export",
        group="ledger",
        help="print every lead, one JSON object a line",
        action="export",
        arguments=(_ONE_SOURCE, _LEDGER),
    ),
    Command(
        name="forget",
        group="ledger",
        help="erase what is kept of a lead, or let rejected leads be tried again; the booked stay booked",
        action="forget",
        arguments=(
            _SOURCE,
            _argument("--lead", "id of the lead to forget"),
            _argument("--rejected", "forget all rejected leads of the source", action="store_true"),
            _LEDGER,
            _OUTPUT,
        ),
    ),
    Command(
        name="watermark",
        group="ledger",
        help="show how far a source was read; with --reset, the next run reads everything once more",
        action="watermark",
        arguments=(
            _SOURCE,
            _argument("--task", "only of this task, <dag>/<task>; also one that tells outcomes"),
            _argument("--reset", "read, or tell, everything once more", action="store_true"),
            _LEDGER,
            _OUTPUT,
        ),
        columns=("task", "column", "highest_read", "oldest_unfinished", "updated_at"),
    ),
    Command(
        name="list",
        group="in-doubt",
        help="list the bookings that a person must look up",
        action="list_in_doubt",
        arguments=(_ONE_SOURCE, _LEDGER, _OUTPUT),
        columns=("source", "lead_id", "generation", "customer_id", "call_time", "updated_at", "reason"),
    ),
    Command(
        name="resolve",
        group="in-doubt",
        help="say whether a call in doubt exists, after a look into Popin's dashboard",
        action="resolve",
        arguments=(
            _SOURCE,
            _argument("--lead", "id of the lead in its source", required=True),
            _argument("--generation", "of the lead, if several are in doubt", type=_GENERATION),
            _ACCOUNT,
            _argument("--outcome", "does the call exist?", required=True, choices=("booked", "not-booked")),
            _argument("--why", "how you know; kept without phone numbers and names", required=True),
            _argument("--user", "who says so; default: the user of the operating system"),
            _LEDGER,
            _OUTPUT,
        ),
        columns=("source", "lead_id", "generation", "booking", "call_time"),
    ),
    Command(
        name="list",
        group="webhooks",
        help="list the events that match no one booking",
        action="list_webhooks",
        arguments=(
            _argument(
                "--strangers",
                "those of customers that no lead of the ledger has, instead of all others",
                action="store_true",
            ),
            _LEDGER,
            _OUTPUT,
        ),
        columns=("id", "received_at", "kind", "customer_id", "slot_local", "reason"),
    ),
    Command(
        name="dismiss",
        group="webhooks",
        help="take an event off that list; it is kept",
        action="dismiss_webhook",
        arguments=(
            _argument("--event", "id of the event", type=_EVENT, required=True),
            _argument("--why", "kept without phone numbers and names", required=True),
            _argument("--user", "who says so; default: the user of the operating system"),
            _LEDGER,
            _OUTPUT,
        ),
        columns=("id", "kind", "status", "closed_by", "closed_why"),
    ),
    Command(
        name="process",
        group="webhooks",
        help="let the events count that were received; the API server and every lead sync do it too",
        action="process_webhooks",
        arguments=(_LEDGER, _OUTPUT),
    ),
    Command(
        name="list",
        group="alarms",
        help="list the leads with an alarm, with history and events",
        action="list_alarms",
        arguments=(_ONE_SOURCE, _LEDGER, _OUTPUT),
        columns=("source", "lead_id", "generation", "booking", "call_time", "updated_at"),
    ),
    Command(
        name="clear",
        group="alarms",
        help="say that an alarm was dealt with; where a booking is in doubt, `in-doubt resolve` does it",
        action="clear_alarm",
        arguments=(
            _SOURCE,
            _argument("--lead", "id of the lead in its source", required=True),
            _argument("--generation", "of the lead, if several have an alarm", type=_GENERATION),
            _ACCOUNT,
            _argument("--why", "what was done; kept without phone numbers and names", required=True),
            _argument("--user", "who says so; default: the user of the operating system"),
            _LEDGER,
            _OUTPUT,
        ),
        columns=("source", "lead_id", "generation", "booking", "alarm"),
    ),
)
