"""Fault switches: their names, their syntax, and which of them strike a request.

One specification is `ENDPOINT:NAME[(VALUE)][=PROBABILITY | @WHICH]`:

- ENDPOINT is capture, slots, schedule, or `*` for every endpoint that knows the fault;
- VALUE is what the fault takes, if it takes one (seconds, a status, a field name; see `KINDS`);
- `=0.1` strikes by probability, `@3,7` the 3rd and 7th request, `@3-5` a range, `@3-` all from the 3rd on; neither: all.
  Requests count per endpoint from the moment the faults were set, and only those whose headers were in order.

Faults combine: of each stage the first that strikes takes effect (`slow_before_commit` beside `500_after_commit`), all
state and delay stages apply. An answer given before the commit replaces one given after it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


ENDPOINTS = ("capture", "slots", "schedule")
POSTS = ("capture", "schedule")
SPEC = re.compile(
    r"(?P<endpoint>capture|slots|schedule|\*):(?P<name>[a-z0-9_]+)(?:\((?P<value>[^()]*)\))?"
    r"(?:=(?P<probability>[0-9.]+)|@(?P<which>[0-9,-]+))?"
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    A fault as specified.

    :param text: the specification.
    :param endpoint: endpoint or `*`.
    :param kind: what it does.
    :param value: its VALUE or the default.
    :param probability: chance per request, None when chosen by number or always.
    :param ranges: request numbers it strikes, first and last (None: no last).
    """

    text: str
    endpoint: str
    kind: Kind
    value: str
    probability: float | None
    ranges: tuple[tuple[int, int | None], ...]

    def strikes(self, n: int, dice: random.Random) -> bool:
        """
        Whether the n-th request is struck.

        :param n: number of the request, from 1.
        :param dice: random numbers of this fault alone.
        """
        if self.probability is not None:
            return dice.random() < self.probability
        return any(first <= n and (last is None or n <= last) for first, last in self.ranges)


SECONDS = r"[0-9]+(\.[0-9]+)?"
RETRY_AFTER = r"none|date:-?[0-9]+|-?[0-9]+"


def _kinds() -> Iterable[Kind]:
    yield Kind(
        "refuse", Stage.CONNECTION, "connection reset as soon as the headers are in; the body is never read"
    )
    yield Kind(
        "outage",
        Stage.CONNECTION,
        "like refuse, and all connections reset and the port closed for VALUE seconds (connection refused)",
        SECONDS,
        "0.5",
    )
    yield Kind(
        "timezone_change",
        Stage.STATE,
        "from this request on the seller's timezone is VALUE, on all endpoints, until a reset",
        r"[A-Za-z0-9_+/-]+",
        "America/New_York",
        ("slots",),
    )
    yield Kind(
        "slow_before_commit", Stage.DELAY_BEFORE, "waits VALUE seconds before the commit", SECONDS, "1"
    )
    yield Kind("slow_after_commit", Stage.DELAY_AFTER, "waits VALUE seconds after the commit", SECONDS, "1")
    yield from _two_sided_kinds()
    yield from _refusal_kinds()
    yield from _success_kinds()
    yield Kind("cut_body", Stage.DELIVERY, "Content-Length of the whole body, half of it sent, then closed")
    yield Kind("slow_body", Stage.DELIVERY, "the body drips over VALUE seconds", SECONDS, "1")


def _two_sided_kinds() -> Iterable[Kind]:
    """Answers that leave the caller in doubt, so each exists before and after the commit."""
    sides = (("before_commit", Stage.INSTEAD, "not committed"), ("after_commit", Stage.AFTER, "committed"))
    for suffix, stage, told in sides:
        for name, meaning, value, default in (
            ("reset", "TCP reset without an answer", None, ""),
            ("500", "HTTP 500 with a JSON message", None, ""),
            ("502_html", "HTTP 502 with an HTML page", None, ""),
            ("503", "HTTP 503 with Retry-After: VALUE seconds, date:VALUE, or none", RETRY_AFTER, "1"),
            ("408", "HTTP 408 with a JSON message", None, ""),
            ("425", "HTTP 425 with a JSON message", None, ""),
            ("html", "HTTP 200 with an HTML page", None, ""),
            ("redirect", "HTTP 302 to VALUE", r"\S+", "/login"),
            ("not_json", "HTTP 200, application/json, body that is cut JSON", None, ""),
            ("empty_body", "HTTP 200 with an empty body", None, ""),
            ("status_true", "HTTP 200, `status` true instead of 1", None, ""),
            ("status_text", 'HTTP 200, `status` "1" instead of 1', None, ""),
        ):
            yield Kind(name + "_" + suffix, stage, f"{meaning}; {told}", value, default)


def _refusal_kinds() -> Iterable[Kind]:
    """Refusals; none is ever committed, because a server that commits and then refuses can not be survived."""
    for status in ("400", "409", "422"):
        meaning = f"HTTP {status} with an errors map that names the field VALUE"
        yield Kind(status, Stage.INSTEAD, meaning, r"[a-z_]+", "agent")
    for status in ("401", "403", "404"):
        yield Kind(status, Stage.INSTEAD, f"HTTP {status} with a JSON message")
    yield Kind("422_html", Stage.INSTEAD, "HTTP 422 with an HTML page")
    yield Kind("422_no_field", Stage.INSTEAD, "HTTP 422 with a message and no errors map")
    yield Kind(
        "429", Stage.INSTEAD, "HTTP 429, Retry-After: VALUE seconds, date:VALUE, or none", RETRY_AFTER, "1"
    )
    yield Kind(
        "status0", Stage.INSTEAD, "HTTP 200 with `status` 0 and VALUE as message", r".*", "Request refused."
    )
    yield Kind(
        "echo",
        Stage.INSTEAD,
        "HTTP VALUE with errors that echo the lead's name, phone and e-mail (200: `status` 0)",
        r"200|4[0-9][0-9]|5[0-9][0-9]",
        "422",
        POSTS,
    )


def _success_kinds() -> Iterable[Kind]:
    """Changes to a success reply; a refused request is answered as if there were no fault."""
    yield Kind(
        "wrong_time",
        Stage.AFTER,
        "the success reply names a time VALUE minutes later than the booked one",
        r"-?[0-9]+",
        "30",
        ("schedule",),
    )
    yield Kind(
        "missing_parts",
        Stage.AFTER,
        "the success reply lacks the parts VALUE, like url+message or schedule.data.time (all but status by default)",
        r"[A-Za-z_.+]*",
    )
    yield Kind(
        "malformed_slots",
        Stage.AFTER,
        "bad strings and a bad date between the good ones; VALUE all: none is well-formed",
        "some|all",
        "some",
        ("slots",),
    )
    yield Kind("empty_availability", Stage.AFTER, "availability is empty", endpoints=("slots",))


KINDS = {kind.name: kind for kind in _kinds()}
# A bare name means the side on which a caller is most easily misled: error answers before the commit, answers that look
# like a success after it.
ALIASES = {
    **{
        name: name + "_before_commit"
        for name in ("408", "425", "503", "502_html", "redirect", "html", "slow")
    },
    **{name: name + "_after_commit" for name in ("not_json", "empty_body", "status_true", "status_text")},
}


class FaultError(ValueError):
    """A specification that cannot be used; the text lists the known names where the name is the reason."""


def parse_fault(text: str) -> Fault:
    """
    Read one specification.

    :param text: see the module docstring.
    :return: the fault.
    :raises FaultError: wrong syntax, unknown name, value or endpoint that does not fit.
    """
    match = SPEC.fullmatch(text)
    if match is None:
        raise FaultError(f"fault {text!r} is not ENDPOINT:NAME[(VALUE)][=PROBABILITY|@WHICH]")
    name = ALIASES.get(match["name"], match["name"])
    kind = KINDS.get(name)
    if kind is None:
        raise FaultError(
            "unknown fault {!r}; known: {}".format(match["name"], ", ".join(sorted([*KINDS, *ALIASES])))
        )
    if match["endpoint"] != "*" and match["endpoint"] not in kind.endpoints:
        raise FaultError("fault {!r} is for {} only".format(text, ", ".join(kind.endpoints)))
    value = kind.default if match["value"] is None else match["value"]
    if match["value"] is not None and (kind.value is None or re.fullmatch(kind.value, value) is None):
        raise FaultError("fault {!r}: VALUE must be {}".format(text, kind.value or "absent"))
    probability = None if match["probability"] is None else _probability(text, match["probability"])
    return Fault(
        text=text,
        endpoint=match["endpoint"],
        kind=kind,
        value=value,
        probability=probability,
        ranges=_ranges(text, match["which"]),
    )


class FaultPlan:
    """
    The faults in force, and the count of requests they have seen.

    :param specs: specifications.
    :param seed: seed of the probabilities; the same specifications, seed and order of requests strike the same requests.
    :raises FaultError: a specification cannot be used.
    """

    def __init__(self, *, specs: Sequence[str], seed: int) -> None:
        faults = [parse_fault(spec) for spec in specs]
        self.specs = tuple(specs)
        self.seed = seed
        self._seen = dict.fromkeys(ENDPOINTS, 0)
        self._faults: dict[str, list[tuple[Fault, random.Random]]] = {
            endpoint: [
                (fault, random.Random("%d/%s/%d/%s" % (seed, endpoint, index, fault.text)))
                for index, fault in enumerate(faults)
                if fault.endpoint in ("*", endpoint) and endpoint in fault.kind.endpoints
            ]
            for endpoint in ENDPOINTS
        }

    def pick(self, endpoint: str) -> dict[Stage, Fault]:
        """
        The faults that strike the next request.

        :param endpoint: endpoint of the request.
        :return: at most one fault for each stage; empty for nearly all requests.
        """
        self._seen[endpoint] += 1
        faults = self._faults[endpoint]
        if not faults:
            return {}
        chosen: dict[Stage, Fault] = {}
        n = self._seen[endpoint]
        for fault, dice in faults:
            # The dice are thrown for every fault, so that one fault does not change when another strikes.
            if fault.strikes(n, dice):
                chosen.setdefault(fault.kind.stage, fault)
        if Stage.CONNECTION in chosen:
            return {Stage.CONNECTION: chosen[Stage.CONNECTION]}
        if Stage.INSTEAD in chosen:
            chosen.pop(Stage.AFTER, None)
        return chosen


def _probability(text: str, value: str) -> float:
    try:
        probability = float(value)
    except ValueError:
        probability = -1.0
    if not 0 <= probability <= 1:
        raise FaultError(f"fault {text!r}: a probability is from 0 to 1")
    return probability


def _ranges(text: str, which: str | None) -> tuple[tuple[int, int | None], ...]:
    if which is None:
        return ((1, None),)
    ranges: list[tuple[int, int | None]] = []
    for part in which.split(","):
        match = re.fullmatch(r"([0-9]+)(-([0-9]+)?)?", part)
        if match is None or int(match[1]) < 1:
            raise FaultError(f"fault {text!r}: requests are numbered from 1, like @3,7 or @3-5 or @3-")
        last = int(match[1]) if match[2] is None else int(match[3]) if match[3] else None
        ranges.append((int(match[1]), last))
    return tuple(ranges)
