"""The faults that the sandbox knows; `faults` chooses among them, `fault_replies` says what they answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_popin.sandbox.oracle import ENDPOINTS

# Of numbers as many digits as the calendar bears.
SECONDS = r"[0-9]{1,9}(\.[0-9]+)?"
ANY_TEXT = r"[ -~]*"
RETRY_AFTER = r"date:-?[0-9]{1,9}(\.[0-9]+)?|(?!date:)[ -~]*"


class Stage(StrEnum):
    """When in the life of a request a fault acts, in this order."""

    CONNECTION = "connection"  # before the body is read, nothing is committed
    STATE = "state"  # changes the sandbox itself
    DELAY_BEFORE = "delay before the commit"
    INSTEAD = "answer instead of the commit"
    AFTER = "answer after the commit"
    DELAY_AFTER = "delay after the commit"
    DELIVERY = "delivery of the answer"


@dataclass(frozen=True, slots=True)
class Kind:
    """
    One fault that the sandbox knows.

    :param name: its name, as the oracle records it.
    :param stage: when it acts.
    :param meaning: one line for people.
    :param value: pattern its VALUE must match, None when it takes none.
    :param default: VALUE when none is given.
    :param endpoints: endpoints it makes sense for.
    """

    name: str
    stage: Stage
    meaning: str
    value: str | None = None
    default: str = ""
    endpoints: tuple[str, ...] = ENDPOINTS


# Answers that leave the caller in doubt, so each exists on both sides of the commit.
TWO_SIDED = (
    ("reset", "TCP reset (RST) without an answer", None, ""),
    ("500", "HTTP 500 with a JSON message", None, ""),
    ("502_html", "HTTP 502 with an HTML page", None, ""),
    ("503", "HTTP 503, Retry-After as for 429", RETRY_AFTER, "1"),
    ("408", "HTTP 408 with a JSON message", None, ""),
    ("425", "HTTP 425 with a JSON message", None, ""),
    ("html", "HTTP 200 with an HTML page", None, ""),
    ("redirect", "HTTP 302 to VALUE", r"[!-~]+", "/login"),
    ("not_json", "HTTP 200, application/json, the body is JSON that breaks off", None, ""),
    ("empty_body", "HTTP 200 with an empty body", None, ""),
    ("status_true", "HTTP 200 with `status` true instead of 1", None, ""),
    ("status_text", 'HTTP 200 with `status` "1" instead of 1', None, ""),
)


def _before_the_answer() -> Iterable[Kind]:
    yield Kind("refuse", Stage.CONNECTION, "TCP reset as soon as the headers are in; the body is not read")
    meaning = "as refuse, all other connections reset too, and the port closed for VALUE seconds"
    yield Kind("outage", Stage.CONNECTION, meaning, SECONDS, "0.5")
    meaning = "from this request on, until a reset, VALUE is the seller's timezone on all endpoints"
    yield Kind("timezone_change", Stage.STATE, meaning, r"[A-Za-z0-9_+/-]+", "America/New_York", ("slots",))
    yield Kind("slow_before_commit", Stage.DELAY_BEFORE, "waits VALUE seconds, then commits", SECONDS, "1")
    yield Kind("slow_after_commit", Stage.DELAY_AFTER, "commits, then waits VALUE seconds", SECONDS, "1")


def _two_sided() -> Iterable[Kind]:
    for name, meaning, value, default in TWO_SIDED:
        before, after = f"{meaning}; not committed", f"{meaning}; committed"
        yield Kind(f"{name}_before_commit", Stage.INSTEAD, before, value, default)
        yield Kind(f"{name}_after_commit", Stage.AFTER, after, value, default)


def _refusals() -> Iterable[Kind]:
    """Never committed: no client can survive a server that commits and then says it refused."""
    for status in ("400", "409", "422"):
        meaning = f"HTTP {status} with an errors map that names the field VALUE"
        yield Kind(status, Stage.INSTEAD, meaning, r"[a-z_]+", "agent")
    for status in ("401", "403", "404"):
        yield Kind(status, Stage.INSTEAD, f"HTTP {status} with a JSON message")
    yield Kind("422_html", Stage.INSTEAD, "HTTP 422 with an HTML page")
    yield Kind("422_no_field", Stage.INSTEAD, "HTTP 422 with a JSON message and no errors map")
    meaning = "HTTP 429; VALUE is Retry-After: seconds, date:SECONDS as an HTTP date, none, or any other text"
    yield Kind("429", Stage.INSTEAD, meaning, RETRY_AFTER, "1")
    meaning = "HTTP 200 with `status` 0 and VALUE as message"
    yield Kind("status0", Stage.INSTEAD, meaning, ANY_TEXT, "Request refused.")
    meaning = "HTTP VALUE, message and errors echo the lead's name, phone, e-mail (200: `status` 0)"
    yield Kind("echo", Stage.INSTEAD, meaning, r"200|[45][0-9]{2}", "422", ("capture", "schedule"))


def _changed_successes() -> Iterable[Kind]:
    """A request that would be refused anyway is answered as without them."""
    meaning = "the success reply names a time VALUE minutes after the booked one"
    yield Kind("wrong_time", Stage.AFTER, meaning, r"-?[0-9]{1,6}", "30", ("schedule",))
    meaning = (
        "the success reply lacks VALUE, like url+message or schedule.data.time (default: all but status)"
    )
    yield Kind("missing_parts", Stage.AFTER, meaning, r"[A-Za-z_.+]*")
    meaning = "bad strings and a bad date between the good slots; VALUE all: no good one is left"
    yield Kind("malformed_slots", Stage.AFTER, meaning, "some|all", "some", ("slots",))
    yield Kind("empty_availability", Stage.AFTER, "`availability` is empty", endpoints=("slots",))


def _deliveries() -> Iterable[Kind]:
    meaning = "Content-Length of the whole body, half of it sent, then closed; committed"
    yield Kind("cut_body", Stage.DELIVERY, meaning)
    yield Kind("slow_body", Stage.DELIVERY, "the body drips over VALUE seconds; committed", SECONDS, "1")


KINDS = {
    kind.name: kind
    for kind in (*_before_the_answer(), *_two_sided(), *_refusals(), *_changed_successes(), *_deliveries())
}
# What a bare name means: errors come before the commit; answers that look like a success, after it.
ALIASES = {
    **{
        name: f"{name}_before_commit"
        for name in ("408", "425", "500", "502_html", "503", "html", "redirect", "reset", "slow")
    },
    **{name: f"{name}_after_commit" for name in ("not_json", "empty_body", "status_true", "status_text")},
}
