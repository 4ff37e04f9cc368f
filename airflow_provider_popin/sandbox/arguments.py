"""The command line of the sandbox: its arguments, and the settings that they ask for."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from datetime import datetime, time
from pathlib import Path

from airflow_provider_popin.sandbox.settings import REFUSALS, SandboxSettings
from airflow_provider_popin.sandbox.webhook_events import ENVELOPES, TIMESTAMPS
from airflow_provider_popin.sandbox.webhook_settings import PROBABILITIES, WebhookSettings

DEFAULTS = {item.name: item.default for item in fields(SandboxSettings) if item.default is not MISSING}
WEBHOOK_DEFAULTS = {item.name: item.default for item in fields(WebhookSettings)}
DEFAULT_PORT = 8081
CHANCES = (*PROBABILITIES, "delay_seconds")


def make_parser(description: str | None = None) -> argparse.ArgumentParser:
    """
    The command line.

    :param description: for its help.
    """
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_popin.sandbox", description=description)
    _add_server(parser)
    _add_webhooks(parser.add_argument_group("webhooks", "what is told of captures, bookings and calls"))
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
        webhooks=_webhooks_from(arguments),
    )


def _add_server(parser: argparse.ArgumentParser) -> None:
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
    help_slots = "absolute list instead of hours"
    add("--slot", action="append", metavar="'Thu, 25 Sep 2025 03:15 PM'", help=help_slots)
    add("--slots-file", type=Path, help="the same, one per line")
    add("--now", type=_instant, help="stop the clock here (ISO 8601 with offset)")
    help_latency = "added to every request (%(default)s)"
    add("--latency-ms", type=float, default=DEFAULTS["latency_ms"], help=help_latency)
    add("--refusal", choices=REFUSALS, default=DEFAULTS["refusal"], help="of taken, past, malformed times")
    add("--same-customer", action="store_true", help="the same mobile captured twice is the same customer")
    add("--dashboard-url", default=DEFAULTS["dashboard_url"], help="custom join link (%(default)s)")
    add("--fault", action="append", default=[], metavar="ENDPOINT:NAME[(VALUE)][=PROBABILITY|@WHICH]")
    add("--seed", type=int, default=DEFAULTS["seed"], help="of the probabilities (%(default)s)")
    add("--list-faults", action="store_true", help="print the known faults and exit")
    add("--access-log", action="store_true", help="print method, path, status and faults of each request")


def _add_webhooks(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    default = WEBHOOK_DEFAULTS
    add("--webhook-url", help="where to POST them; without it there are none")
    add("--webhook-key", default="", help="sent as X-API-KEY")
    add("--webhook-allow-remote", action="store_true", help="permit a URL on another machine")
    add("--webhook-envelope", choices=ENVELOPES, default=default["envelope"], help="(%(default)s)")
    add("--webhook-timestamps", choices=TIMESTAMPS, default=default["timestamps"], help="(%(default)s)")
    add("--outcome-after", type=float, metavar="SECONDS", help="from booking to call, whatever the slot")
    help_factor = "how many times faster than the clock calls come (%(default)s)"
    add("--time-factor", type=float, default=default["time_factor"], help=help_factor)
    known = ", ".join(
        f"{name} ({'the rest' if default[name] is None else default[name]})" for name in CHANCES
    )
    add("--webhook", action="append", default=[], type=_chance, metavar="NAME=NUMBER", help=known)


def _webhooks_from(arguments: argparse.Namespace) -> WebhookSettings | None:
    given = {"--outcome-after": arguments.outcome_after is not None, "--webhook": arguments.webhook}
    if arguments.webhook_url is None:
        for option in (name for name, value in given.items() if value):
            raise ValueError(f"{option}: needs --webhook-url")
        return None
    return WebhookSettings(
        url=arguments.webhook_url,
        key=arguments.webhook_key,
        allow_remote=arguments.webhook_allow_remote,
        envelope=arguments.webhook_envelope,
        timestamps=arguments.webhook_timestamps,
        outcome_after=arguments.outcome_after,
        time_factor=arguments.time_factor,
        **dict(arguments.webhook),
    )


def _chance(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in CHANCES:
        raise argparse.ArgumentTypeError(f"one of {', '.join(CHANCES)}")
    try:
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{name}: a number") from None


def _hours(text: str) -> tuple[time, time]:
    opens, _, closes = text.partition("-")
    try:
        return time.fromisoformat(opens), time.fromisoformat("00:00" if closes == "24:00" else closes)
    except ValueError:
        raise argparse.ArgumentTypeError("two times of day, like 10:00-22:00") from None


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a time in ISO 8601, like 2025-09-24T12:00:00+05:30") from None
