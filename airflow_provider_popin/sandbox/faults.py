"""Fault switches: their names, their syntax, and which of them strike a request.

One specification is `ENDPOINT:NAME[(VALUE)][=PROBABILITY | @WHICH]`:

- ENDPOINT is capture, slots, schedule, or `*` for every endpoint that knows the fault;
- VALUE is what the fault takes, if it takes one (seconds, a status, a field name; see `fault_kinds`);
- `=0.1` strikes by probability, `@3,7` the 3rd and 7th request, `@3-5` a range, `@3-` all from the 3rd on;
  without either, every request. Requests count per endpoint from the moment the faults were set, and only
  those whose headers were in order.

Faults combine: of each stage the first that strikes takes effect, so `slow_before_commit` goes with
`500_after_commit`, and `html_after_commit` with `slow_body`. A fault of the connection leaves no room for
another, and an answer given instead of the commit none for one after it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_popin.sandbox.fault_kinds import ALIASES, KINDS, Kind, Stage
from airflow_provider_popin.sandbox.grid import check_timezone
from airflow_provider_popin.sandbox.oracle import ENDPOINTS

SPEC = re.compile(
    r"(?P<endpoint>capture|slots|schedule|\*):(?P<name>[a-z0-9_]+)(?:\((?P<value>[^()]*)\))?"
    r"(?:=(?P<probability>[0-9.]+)|@(?P<which>[0-9,-]+))?"
)


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
    value = _value(text, kind, match["value"])
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
    :param seed: seed of the probabilities: with the same seed and specifications the same requests are
        struck.
    :raises FaultError: a specification cannot be used.
    """

    def __init__(self, *, specs: Sequence[str], seed: int) -> None:
        faults = [parse_fault(spec) for spec in specs]
        self.specs = tuple(specs)
        self.seed = seed
        self._seen = dict.fromkeys(ENDPOINTS, 0)
        self._faults: dict[str, list[tuple[Fault, random.Random]]] = {
            endpoint: [
                (fault, random.Random(f"{seed}/{endpoint}/{index}/{fault.text}"))
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


def _value(text: str, kind: Kind, value: str | None) -> str:
    if value is None:
        return kind.default
    if kind.value is None or re.fullmatch(kind.value, value) is None:
        raise FaultError(f"fault {text!r}: VALUE must be {kind.value or 'absent'}")
    if kind.name == "timezone_change":
        try:
            check_timezone(value)
        except ValueError as error:
            raise FaultError(f"fault {text!r}: {error}") from error
    return value


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
        match = re.fullmatch(r"([0-9]{1,9})(-([0-9]{1,9})?)?", part)
        if match is None or int(match[1]) < 1:
            raise FaultError(f"fault {text!r}: requests are numbered from 1, like @3,7 or @3-5 or @3-")
        last = int(match[1]) if match[2] is None else int(match[3]) if match[3] else None
        if last is not None and last < int(match[1]):
            raise FaultError(f"fault {text!r}: a range ends after its beginning")
        ranges.append((int(match[1]), last))
    return tuple(ranges)
