"""The one rule that says what an exchange with Popin means.

| what happened | verdict |
|---|---|
| DNS, connect or TLS failure, proxy refused, sender too late: no byte of the body left | NOT_SENT |
| 429 | RATE_LIMITED |
| 401, 403, any 4xx not named here; 400, 409, 422 whose body is no JSON object | STOP |
| 400, 409, 422 with a JSON object; 2xx whose ``status`` is a number other than 1 | REJECTED |
| 2xx as documented | OK |
| all else: lost replies, 408, 425, 5xx, redirects, other bodies, ``status`` of another type | UNKNOWN |

The slots endpoint has no ``status`` (grade D), so its absence is fine there and nowhere else. Schedule books
a call, so only the integer 1 counts there: not true, not "1", not 1.0. For the other two 1.0 is the number 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from airflow_provider_popin.client.errors import (
    PopinAccessError,
    PopinError,
    PopinNotSentError,
    PopinOutcomeUnknownError,
    PopinRateLimitError,
    PopinRejectedError,
    PopinReplyError,
)
from airflow_provider_popin.client.exchange import Endpoint, Exchange, Failure, Reply, Request
from airflow_provider_popin.client.models import Calendar, Customer, ScheduledCall
from airflow_provider_popin.client.redaction import HIDDEN, redact_text, shortened
from airflow_provider_popin.client.replies import decode_json, is_number, parse_customer, parse_scheduled_call
from airflow_provider_popin.client.slots import parse_calendar

_VALIDATION_STATUSES = (400, 409, 422)
_LOST_STATUSES = (408, 425)
_MAX_ERRORS = 20
_MAX_SECONDS = 1e9


class Verdict(StrEnum):
    """What an exchange means for the one who sent it."""

    OK = "ok"
    NOT_SENT = "not_sent"
    RATE_LIMITED = "rate_limited"
    STOP = "stop"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


_ERRORS: Mapping[Verdict, type[PopinError]] = {
    Verdict.NOT_SENT: PopinNotSentError,
    Verdict.RATE_LIMITED: PopinRateLimitError,
    Verdict.STOP: PopinAccessError,
    Verdict.REJECTED: PopinRejectedError,
    Verdict.UNKNOWN: PopinOutcomeUnknownError,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The meaning of one exchange. Nothing in it is personal, except what ``value`` is there for.

    :param verdict: see the table of the module
    :param value: what was answered, exactly when the verdict is OK
    :param status: HTTP status, None without a reply
    :param reason: a short code, or for REJECTED field names and redacted text; at most 200 characters
    :param field_errors: for REJECTED, what Popin wrote per field, redacted
    :param retry_after: seconds that a 429 or 503 asked to wait, not clamped (above 120 the caller stops its
        run)
    :param slot_blamed: REJECTED, and ``errors`` names ``time``
    :param no_field_named: REJECTED, and ``errors`` names no field
    """

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
    """Say what an exchange means. Never raises, whatever Popin sent.

    For the slots endpoint the verdicts are the same; the caller retries NOT_SENT and UNKNOWN, and errors on
    REJECTED.

    :param endpoint: what was asked
    :param exchange: what came of it
    :param now: aware; a ``Retry-After`` may be a date
    :param personal: the lead's own values, to be hidden in Popin's texts
    """
    if isinstance(exchange, Failure):
        return Outcome(Verdict.UNKNOWN if exchange.sent else Verdict.NOT_SENT, reason=exchange.reason)
    status = exchange.status
    if 200 <= status < 300:
        return _classify_success(endpoint, exchange, personal)
    if status == 429:
        wait = parse_retry_after(exchange.headers.get("retry-after"), now)
        return Outcome(Verdict.RATE_LIMITED, status=status, reason="http_429", retry_after=wait)
    if status in _VALIDATION_STATUSES:
        payload = decode_json(exchange.body)
        if isinstance(payload, Mapping):
            return _rejection(payload, status, personal)
    if 400 <= status < 500 and status not in _LOST_STATUSES:
        return Outcome(Verdict.STOP, status=status, reason=f"http_{status}")
    wait = parse_retry_after(exchange.headers.get("retry-after"), now) if status == 503 else None
    reason = f"redirect_{status}" if 300 <= status < 400 else f"http_{status}"
    return Outcome(Verdict.UNKNOWN, status=status, reason=reason, retry_after=wait)


def error_for(outcome: Outcome, request: Request) -> PopinError:
    """The exception for an outcome that is not OK.

    :param outcome: what came of it
    :param request: what was asked
    :raises ValueError: the outcome is OK
    """
    if outcome.verdict is Verdict.OK:
        raise ValueError("an outcome that is OK has no error")
    kind = _ERRORS[outcome.verdict]
    if outcome.verdict is Verdict.UNKNOWN and request.method == "GET":
        kind = PopinReplyError
    return kind(
        outcome.reason,
        status=outcome.status,
        field_errors=outcome.field_errors,
        retry_after=outcome.retry_after,
        method=request.method,
        path=request.path,
    )


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from either form of a ``Retry-After`` header.

    :param value: the header
    :param now: aware
    :return: never negative; None if there is no header or it cannot be read
    """
    text = (value or "").strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), _MAX_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return min(max((moment - now).total_seconds(), 0.0), _MAX_SECONDS)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _classify_success(endpoint: Endpoint, reply: Reply, personal: Sequence[str]) -> Outcome:
    payload = decode_json(reply.body)
    if not isinstance(payload, Mapping):
        return _unknown(reply, "not_a_json_object")
    needs_status = endpoint is not Endpoint.SLOTS
    if needs_status or "status" in payload:
        if "status" not in payload:
            return _unknown(reply, "status_missing")
        status = payload["status"]
        if not is_number(status):
            return _unknown(reply, "status_of_another_type")
        if status != 1:
            return _rejection(payload, reply.status, personal)
        if endpoint is Endpoint.SCHEDULE and not isinstance(status, int):
            return _unknown(reply, "status_of_another_type")
    return _documented(endpoint, reply, payload)


def _documented(endpoint: Endpoint, reply: Reply, payload: Mapping[str, object]) -> Outcome:
    """The value of a 2xx whose status is in order, unless the rest is not as documented."""
    if endpoint is Endpoint.CAPTURE:
        customer = parse_customer(payload)
        if customer is None:
            return _unknown(reply, "customer_id_missing")
        return Outcome(Verdict.OK, customer, reply.status)
    if endpoint is Endpoint.SCHEDULE:
        return Outcome(Verdict.OK, parse_scheduled_call(payload), reply.status)
    try:
        return Outcome(Verdict.OK, parse_calendar(payload), reply.status)
    except PopinReplyError as error:
        return _unknown(reply, error.reason)


def _unknown(reply: Reply, reason: str) -> Outcome:
    return Outcome(Verdict.UNKNOWN, status=reply.status, reason=reason)


def _rejection(payload: Mapping[str, object], status: int, personal: Sequence[str]) -> Outcome:
    """A refusal. ``errors`` is read by field; ``message`` is only shown, never understood."""
    errors = payload.get("errors")
    named = errors if isinstance(errors, Mapping) else {}
    field_errors: dict[str, tuple[str, ...]] = {}
    for name, texts in list(named.items())[:_MAX_ERRORS]:
        shown = redact_text(name, personal) if isinstance(name, str) else HIDDEN
        field_errors[shown] = field_errors.get(shown, ()) + _texts(texts, personal)
    message = payload.get("message")
    parts = [f"{name}: {' '.join(texts)}" if texts else name for name, texts in field_errors.items()]
    if not parts and isinstance(message, str) and message.strip():
        parts = [redact_text(message, personal)]
    return Outcome(
        Verdict.REJECTED,
        status=status,
        reason=shortened("; ".join(parts) or "no_reason_given"),
        field_errors=field_errors,
        slot_blamed="time" in named,
        no_field_named=not named,
    )


def _texts(value: object, personal: Sequence[str]) -> tuple[str, ...]:
    """What Popin wrote about one field: a list of texts (grade P), or a text."""
    items = value if isinstance(value, list) else [value]
    return tuple(redact_text(item, personal) for item in items[:_MAX_ERRORS] if isinstance(item, str))
