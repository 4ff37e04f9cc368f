"""All options of the sandbox, checked in one place, from Python, JSON or the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, time

from airflow_provider_popin.sandbox.faults import parse_fault
from airflow_provider_popin.sandbox.grid import check_timezone, parse_time
from airflow_provider_popin.sandbox.loopback import is_loopback
from airflow_provider_popin.sandbox.webhook_settings import WebhookSettings, webhooks_from_json

REFUSALS = ("422", "status0")
# Of what is said in absolute terms: the calendar goes on around it.
YEARS = range(1970, 9901)
FIXED_AT_START = frozenset({"host", "port", "allow_remote"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """
    What the sandbox is told at its start, or by a reset.

    :param host: address to listen on; anything but a loopback address needs `allow_remote`.
    :param port: TCP port; 0 takes any free one.
    :param allow_remote: listen on an address that other machines can reach (the oracle answers this one
        only).
    :param api_key: the expected `X-API-KEY`.
    :param token: the expected `X-TOKEN` (seller token).
    :param timezone: IANA name of the seller's timezone (D: Asia/Kolkata in the samples).
    :param opens: first slot of a day, seller's time.
    :param closes: no slot starts at or after this time; 00:00 means the end of the day.
    :param days: days offered, today included. How far Popin looks ahead is U.
    :param slot_minutes: distance between slots in minutes, `slotDiff` in the reply (D: 15).
    :param seats_per_slot: calls that one slot takes. How many Popin takes is U.
    :param slots: the whole list of slots as Popin spells them (`Thu, 25 Sep 2025 03:15 PM`), instead of hours
        and days.
    :param now: aware instant at which the sandbox's clock stands still; None is the real clock.
    :param latency_ms: milliseconds that every request to the three endpoints waits before it is handled.
    :param refusal: how a taken, past or malformed time is refused (U, so both exist): `422` with an errors
        map, or `status0`, a JSON `status` of 0 under HTTP 200.
    :param same_mobile_same_customer: whether a mobile captured twice gets the same customer_id (U).
    :param dashboard_url: join link of calls with `native` false and no `url` of their own.
    :param faults: fault specifications, see `airflow_provider_popin.sandbox.faults`.
    :param seed: seed of the faults that fire by probability.
    :param keep_requests: newest requests that the oracle keeps in detail; counts go on beyond it.
    :param webhooks: what is told to whom after captures and bookings; None tells nobody.
    :raises ValueError: a value is unusable; the text names it.
    """

    host: str = "127.0.0.1"
    port: int = 0
    allow_remote: bool = False
    api_key: str = field(default="sandbox-api-key", repr=False)
    token: str = field(default="51", repr=False)
    timezone: str = "Asia/Kolkata"
    opens: time = time(10, 0)
    closes: time = time(22, 0)
    days: int = 7
    slot_minutes: int = 15
    seats_per_slot: int = 1
    slots: tuple[str, ...] | None = None
    now: datetime | None = None
    latency_ms: float = 0.0
    refusal: str = "422"
    same_mobile_same_customer: bool = False
    dashboard_url: str = "https://shop.example.com/live"
    faults: tuple[str, ...] = ()
    seed: int = 0
    keep_requests: int = 500_000
    webhooks: WebhookSettings | None = None

    def __post_init__(self) -> None:
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(f"host: {self.host} is not a loopback address; --allow-remote permits it")
        for name, key in (("api_key", self.api_key), ("token", self.token)):
            if not key.strip() or not key.isascii() or not key.isprintable():
                raise ValueError(f"{name}: must be ASCII text that is not empty; no client could send it")
        check_timezone(self.timezone)
        if self.refusal not in REFUSALS:
            raise ValueError("refusal: one of {}".format(", ".join(REFUSALS)))
        self._check_times()
        self._check_numbers()
        for spec in self.faults:
            parse_fault(spec)

    def _check_times(self) -> None:
        if self.now is not None and self.now.tzinfo is None:
            raise ValueError("now: needs an offset from UTC")
        if self.now is not None and self.now.year not in YEARS:
            raise ValueError(f"now: must be in the years {YEARS[0]} to {YEARS[-1]}")
        for name, clock in (("opens", self.opens), ("closes", self.closes)):
            if clock.tzinfo is not None:
                raise ValueError(f"{name}: must have no offset from UTC, it is the seller's time")
        if self.closes != time(0, 0) and self.closes <= self.opens:
            raise ValueError("closes: must be later than opens (00:00 is the end of the day)")
        for text in self.slots or ():
            try:
                year = parse_time(text).year
            except ValueError as error:
                raise ValueError(f"slots: {text!r}: {error}") from error
            if year not in YEARS:
                raise ValueError(f"slots: {text!r}: must be in the years {YEARS[0]} to {YEARS[-1]}")

    def _check_numbers(self) -> None:
        limits: tuple[tuple[str, float, float, float], ...] = (
            ("port", self.port, 0, 65535),
            ("days", self.days, 0, 3660),
            ("slot_minutes", self.slot_minutes, 1, 1440),
            ("seats_per_slot", self.seats_per_slot, 1, 1_000_000),
            ("latency_ms", self.latency_ms, 0, 600_000),
            ("keep_requests", self.keep_requests, 1, 5_000_000),
        )
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise ValueError(f"{name}: must be from {low} to {high}")

    def changed(self, changes: Mapping[str, object]) -> SandboxSettings:
        """
        These settings with some values replaced, as a reset does.

        :param changes: field names and values, either of the field's type or as JSON has them (`opens` and
            `closes` as `HH:MM`, `now` as ISO text, lists for tuples, for `webhooks` null or an object of what
            differs). Host, port and allow_remote are fixed.
        :return: new settings.
        :raises ValueError: an unknown or fixed name, or an unusable value.
        """
        known = {item.name for item in fields(self)} - FIXED_AT_START
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ValueError(
                "unknown setting {}; known: {}".format(", ".join(unknown), ", ".join(sorted(known)))
            )
        values = {name: _from_json(name, value, getattr(self, name)) for name, value in changes.items()}
        return replace(self, **values)  # type: ignore[arg-type]  # checked one by one above


def _from_json(name: str, value: object, old: object) -> object:
    if name == "webhooks":
        return webhooks_from_json(value, old if isinstance(old, WebhookSettings) else None)
    if name in ("opens", "closes", "now") and isinstance(value, str):
        read = datetime.fromisoformat if name == "now" else time.fromisoformat
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if name in ("slots", "faults") and isinstance(value, (list, tuple)):
        if not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name}: a list of text")
        return tuple(value)
    if name in ("slots", "now") and (value is None or isinstance(value, datetime)):
        return value
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(old):
        raise ValueError(f"{name}: {type(old).__name__} expected")
    return value
