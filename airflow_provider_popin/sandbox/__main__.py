"""A local Popin server with fault switches and an oracle: `python -m airflow_provider_popin.sandbox`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from datetime import datetime, time
from pathlib import Path

from airflow_provider_popin.sandbox.fault_kinds import ALIASES, KINDS
from airflow_provider_popin.sandbox.runner import Runner
from airflow_provider_popin.sandbox.settings import REFUSALS, SandboxSettings

DEFAULTS = {item.name: item.default for item in fields(SandboxSettings) if item.default is not MISSING}
DEFAULT_PORT = 8081


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the sandbox until SIGINT or SIGTERM.

    :param argv: arguments, None for those of the process.
    :return: exit code: 0, or 2 when an argument is unusable or the port taken.
    """
    arguments = make_parser().parse_args(argv)
    if arguments.list_faults:
        print(fault_table())
        return 0
    try:
        runner = Runner(settings_from(arguments), access_log=arguments.access_log)
        port = runner.bind()
    except (ValueError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    if arguments.access_log:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"Popin sandbox on http://{host}:{port} (what happened: /_sandbox/stats)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        runner.run()
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_popin.sandbox", description=__doc__)
    add = parser.add_argument
    add("--host", default=DEFAULTS["host"], help="address to listen on (%(default)s)")
    add("--port", type=int, default=DEFAULT_PORT, help="0 takes any free one (%(default)s)")
    add("--allow-remote", action="store_true", help="permit an address that other machines can reach")
    add("--api-key", default=DEFAULTS["api_key"], help="expected X-API-KEY (%(default)s)")
    add("--token", default=DEFAULTS["token"], help="expected X-TOKEN (%(default)s)")
    add("--timezone", default=DEFAULTS["timezone"], help="IANA name (%(default)s)")
    add("--hours", type=_hours, default=(DEFAULTS["opens"], DEFAULTS["closes"]), metavar="10:00-22:00")
    add("--days", type=int, default=DEFAULTS["days"], help="days offered, today included (%(default)s)")
    add("--slot-minutes", type=int, default=DEFAULTS["slot_minutes"], help="(%(default)s)")
    add("--seats", type=int, default=DEFAULTS["seats_per_slot"], help="calls per slot (%(default)s)")
    add(
        "--slot",
        action="append",
        metavar="'Thu, 25 Sep 2025 03:15 PM'",
        help="absolute list instead of hours",
    )
    add("--slots-file", type=Path, help="the same, one per line")
    add("--now", type=datetime.fromisoformat, help="stop the clock here (ISO 8601 with offset)")
    add(
        "--latency-ms",
        type=float,
        default=DEFAULTS["latency_ms"],
        help="added to every request (%(default)s)",
    )
    add("--refusal", choices=REFUSALS, default=DEFAULTS["refusal"], help="of taken, past, malformed times")
    add("--same-customer", action="store_true", help="the same mobile captured twice is the same customer")
    add("--dashboard-url", default=DEFAULTS["dashboard_url"], help="custom join link (%(default)s)")
    add("--fault", action="append", default=[], metavar="ENDPOINT:NAME[(VALUE)][=PROBABILITY|@WHICH]")
    add("--seed", type=int, default=DEFAULTS["seed"], help="of the probabilities (%(default)s)")
    add("--list-faults", action="store_true", help="print the known faults and exit")
    add("--access-log", action="store_true", help="print method, path, status and faults of each request")
    return parser


def settings_from(arguments: argparse.Namespace) -> SandboxSettings:
    """
    The settings that a command line asks for.

    :param arguments: parsed arguments.
    :return: settings.
    :raises ValueError: a value is unusable.
    :raises OSError: the file of slots cannot be read.
    """
    slots = list(arguments.slot or [])
    if arguments.slots_file is not None:
        slots += [
            line.strip() for line in arguments.slots_file.read_text("utf-8").splitlines() if line.strip()
        ]
    opens, closes = arguments.hours
    return SandboxSettings(
        host=arguments.host,
        port=arguments.port,
        allow_remote=arguments.allow_remote,
        api_key=arguments.api_key,
        token=arguments.token,
        timezone=arguments.timezone,
        opens=opens,
        closes=closes,
        days=arguments.days,
        slot_minutes=arguments.slot_minutes,
        seats_per_slot=arguments.seats,
        slots=tuple(slots) if arguments.slot or arguments.slots_file else None,
        now=arguments.now,
        latency_ms=arguments.latency_ms,
        refusal=arguments.refusal,
        same_mobile_same_customer=arguments.same_customer,
        dashboard_url=arguments.dashboard_url,
        faults=tuple(arguments.fault),
        seed=arguments.seed,
    )


def fault_table() -> str:
    """All faults, one a line, with their VALUE's default, stage and endpoints."""
    lines = []
    for kind in KINDS.values():
        name = kind.name if kind.value is None else f"{kind.name}({kind.default})"
        lines.append(f"{name:<34} {kind.meaning} [{', '.join(kind.endpoints)}]")
    lines += [f"{alias:<34} same as {name}" for alias, name in ALIASES.items()]
    return "\n".join(lines)


def _hours(text: str) -> tuple[time, time]:
    opens, _, closes = text.partition("-")
    return time.fromisoformat(opens), time.fromisoformat("00:00" if closes == "24:00" else closes)


if __name__ == "__main__":
    sys.exit(main())
