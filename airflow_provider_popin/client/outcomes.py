"""The one rule that says what an exchange with Popin means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from airflow_provider_popin.client.errors import PopinError
from airflow_provider_popin.client.exchange import Endpoint, Exchange, Request
from airflow_provider_popin.client.models import Calendar, Customer, ScheduledCall


class Verdict(StrEnum):
    """What an exchange means for the one who sent it."""

    OK = "ok"
    NOT_SENT = "not_sent"
    RATE_LIMITED = "rate_limited"
    STOP = "stop"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The meaning of one exchange."""

    verdict: Verdict
    value: Customer | Calendar | ScheduledCall | None = None
    status: int | None = None
    reason: str = ""
    field_errors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    retry_after: float | None = None
    slot_blamed: bool = False
    no_field_named: bool = False


def classify(
    endpoint: Endpoint, exchange: Exchange, *, now: datetime, personal: Sequence[str] = ()
) -> Outcome:
    """Say what an exchange means."""
    raise NotImplementedError


def error_for(outcome: Outcome, request: Request) -> PopinError:
    """The exception for an outcome that is not OK."""
    raise NotImplementedError
