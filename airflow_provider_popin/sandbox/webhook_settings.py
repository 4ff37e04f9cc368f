"""Options of the webhooks, checked in one place, from Python, JSON or the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_popin.sandbox.loopback import is_loopback
from airflow_provider_popin.sandbox.webhook_events import ENVELOPES, TIMESTAMPS, Style

OUTCOMES = ("missed", "abandoned", "successful")
# None is a value of theirs.
MAY_BE_NONE = frozenset({"outcome_after", "successful"})
# What may come besides the outcome.
EXTRAS = ("notified", "guest_connected", "missed_notified", "remark_added", "rated")
FAULTS = ("duplicate", "delay", "reorder", "drop")
PROBABILITIES = (*OUTCOMES, *EXTRAS, *FAULTS)
# A reset may not send webhooks anywhere else than the start allowed.
FIXED_AT_START = frozenset({"allow_remote"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """
    Where webhooks go, what they look like, what becomes of calls, and what goes wrong on the way.

    Probabilities are from 0 to 1. That Popin sends webhooks for what came through the API is I; so is every
    probability and every fault of the delivery.

    :param url: where to POST; on a loopback address, unless `allow_remote`. Redirects are not followed.
    :param key: sent as `X-API-KEY`; empty: no such header (P).
    :param allow_remote: whether the URL may lead to another machine.
    :param envelope: see `Style`.
    :param timestamps: see `Style`.
    :param plus: see `Style`.
    :param outcome_after: seconds from booking to call, whatever the slot; a slot that comes sooner is not
        waited for longer. None: `time_factor` counts.
    :param time_factor: how many times faster than the clock the time from booking to call and after it
        passes. 1 waits for the slot. Timestamps are always those of uncompressed time.
    :param missed: share of calls that are missed.
    :param abandoned: share of calls that are abandoned before they are answered.
    :param successful: share of calls that happen; None: all others. Of what the three leave of 1, nothing
        is heard.
    :param notified: chance of each of the two notifications before a call.
    :param guest_connected: chance that a guest joins a call that happens.
    :param missed_notified: chance of the notification of a missed call.
    :param remark_added: chance of a remark after an outcome.
    :param rated: chance that a call that happened is rated.
    :param duplicate: chance that an event is delivered twice, with the same body.
    :param delay: chance that it is delivered up to `delay_seconds` late.
    :param reorder: chance that it is delivered after the same customer's next one (or `delay_seconds` late,
        if there is none by then).
    :param drop: chance that it is not delivered.
    :param delay_seconds: see `delay` and `reorder`.
    :param connections: deliveries at a time. Those to one customer come one after the other.
    :param timeout_seconds: for one delivery. What fails is not sent again (U).
    :param max_waiting: events that may wait; more are given up, and counted as `lost`.
    :param keep: newest deliveries that the oracle keeps in detail.
    :raises ValueError: a value is unusable; the text names it.
    """

    url: str
    key: str = field(default="", repr=False)
    allow_remote: bool = False
    envelope: str = "documented"
    timestamps: str = "iso"
    plus: bool = False
    outcome_after: float | None = None
    time_factor: float = 1.0
    missed: float = 0.2
    abandoned: float = 0.05
    successful: float | None = None
    notified: float = 1.0
    guest_connected: float = 0.1
    missed_notified: float = 1.0
    remark_added: float = 0.2
    rated: float = 0.4
    duplicate: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    drop: float = 0.0
    delay_seconds: float = 5.0
    connections: int = 4
    timeout_seconds: float = 10.0
    max_waiting: int = 100_000
    keep: int = 100_000

    def __post_init__(self) -> None:
        self._check_url()
        if not self.key.isascii() or not self.key.isprintable():
            raise ValueError("webhook key: not usable in a header")
        for name, value, known in (
            ("envelope", self.envelope, ENVELOPES),
            ("timestamps", self.timestamps, TIMESTAMPS),
        ):
            if value not in known:
                raise ValueError("webhook {}: one of {}".format(name, ", ".join(known)))
        self._check_numbers()

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """How many of all calls have which outcome."""
        others = self.missed + self.abandoned
        successful = max(0.0, 1 - others) if self.successful is None else self.successful
        return (("missed", self.missed), ("abandoned", self.abandoned), ("successful", successful))

    @property
    def style(self) -> Style:
        """How events are spelled."""
        return Style(envelope=self.envelope, timestamps=self.timestamps, plus=self.plus)

    def _check_url(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"webhook url: {error}") from error
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("webhook url: http://host... or https://host...")
        if not self.allow_remote and not is_loopback(host):
            raise ValueError("webhook url: not on a loopback address; --webhook-allow-remote permits it")

    def _check_numbers(self) -> None:
        limits: list[tuple[str, float, float, float]] = [
            *((name, getattr(self, name) or 0.0, 0, 1) for name in PROBABILITIES),
            ("outcome_after", self.outcome_after or 0.0, 0, 3660 * 86400),
            ("time_factor", self.time_factor, 0.01, 1_000_000),
            ("delay_seconds", self.delay_seconds, 0, 86400),
            ("connections", self.connections, 1, 256),
            ("timeout_seconds", self.timeout_seconds, 0.01, 600),
            ("max_waiting", self.max_waiting, 1, 5_000_000),
            ("keep", self.keep, 1, 5_000_000),
        ]
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise ValueError(f"webhook {name}: must be from {low} to {high}")
        if sum(getattr(self, name) or 0.0 for name in OUTCOMES) > 1 + 1e-9:
            raise ValueError("webhook {}: together more than 1".format(" + ".join(OUTCOMES)))


def webhooks_from_json(value: object, old: WebhookSettings | None) -> WebhookSettings | None:
    """
    Settings as a reset gives them.

    :param value: None for no webhooks, settings, or an object of the fields that differ from `old`.
    :param old: settings before, None without webhooks; then `url` is needed.
    :return: settings.
    :raises ValueError: an unknown or fixed name, or an unusable value.
    """
    if value is None or isinstance(value, WebhookSettings):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("webhooks: an object")
    known = {item.name for item in fields(WebhookSettings)} - FIXED_AT_START
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(
            "unknown webhook setting {}; known: {}".format(", ".join(unknown), ", ".join(sorted(known)))
        )
    if old is None and "url" not in value:
        raise ValueError("webhook url: needed")
    changes: dict[str, Any] = {name: _typed(name, item) for name, item in value.items()}
    return WebhookSettings(**changes) if old is None else replace(old, **changes)


_TEXTS = frozenset({"url", "key", "envelope", "timestamps"})
_COUNTS = frozenset({"connections", "max_waiting", "keep"})


def _typed(name: str, value: object) -> object:
    if name in _TEXTS:
        fits, wanted = isinstance(value, str), "text"
    elif name == "plus":
        fits, wanted = isinstance(value, bool), "true or false"
    elif name in _COUNTS:
        fits, wanted = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    else:
        fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
        fits = fits or (name in MAY_BE_NONE and value is None)
    if not fits:
        raise ValueError(f"webhook {name}: {wanted} expected")
    return value
