"""What a fault puts on the wire."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from airflow_provider_popin.sandbox.faults import Fault
from airflow_provider_popin.sandbox.grid import format_reply_time
from airflow_provider_popin.sandbox.popin import Result
from airflow_provider_popin.sandbox.wire import HTML, LOGIN_PAGE, Headers, Reply, json_reply, message_reply

BAD_CLOCKS: tuple[object, ...] = ("25:99 PM", "", "10:00", "13:30 PM", None, 7, "00:15 AM", "noon")
BAD_DAY = {"date": "Wed, 31 Feb 2025", "slots": ["10:00 AM"]}
ALL_PARTS = {
    "capture": "customer_id+url+message",
    "slots": "availability+slotDiff+timezone",
    "schedule": "schedule+data",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """
    A request that a fault strikes.

    :param endpoint: its endpoint.
    :param result: what the endpoint answered; None when it was not asked, since nothing may be committed.
    :param person: name, mobile, e-mail and phone of the lead, as far as known.
    """

    endpoint: str
    result: Result | None
    person: Mapping[str, str] = field(repr=False)


Answer = Callable[[str, Struck], Reply]
Change = Callable[[dict[str, object], str, Struck], None]


def fault_reply(fault: Fault, struck: Struck) -> Reply | None:
    """
    The answer of a fault.

    :param fault: a fault of stage `INSTEAD` or `AFTER`.
    :param struck: the request.
    :return: the answer, None for a connection reset.
    """
    name = fault.kind.name.removesuffix("_before_commit").removesuffix("_after_commit")
    if name == "reset":
        return None
    if name in CHANGES:
        return _changed(CHANGES[name], fault.value, struck)
    return ANSWERS[name](fault.value, struck)


def _message(status: int, text: str) -> Answer:
    return lambda value, struck: message_reply(status, text)


def _page(status: int) -> Answer:
    return lambda value, struck: Reply(status, LOGIN_PAGE, HTML)


def _with_errors(status: int) -> Answer:
    def answer(value: str, struck: Struck) -> Reply:
        errors = {value: [f"The selected {value} is invalid."]}
        return json_reply(status, {"message": "Validation failed", "errors": errors})

    return answer


def _throttled(status: int, text: str) -> Answer:
    def answer(value: str, struck: Struck) -> Reply:
        headers: Headers = ((b"x-ratelimit-limit", b"60"), (b"x-ratelimit-remaining", b"0"))
        if value.startswith("date:"):
            moment = datetime.now(UTC) + timedelta(seconds=float(value.removeprefix("date:")))
            value = format_datetime(moment, usegmt=True)
        if value != "none":
            headers += ((b"retry-after", value.encode()),)
        return message_reply(status, text, headers)

    return answer


def _redirect(value: str, struck: Struck) -> Reply:
    page = b"<!DOCTYPE html><html><body>Redirecting</body></html>"
    return Reply(302, page, HTML, ((b"location", value.encode()),))


def _echo(value: str, struck: Struck) -> Reply:
    said = ", ".join(f"{name} {part}" for name, part in struck.person.items())
    text = f"The customer ({said}) can not be handled."
    if value == "200":
        return json_reply(200, {"status": 0, "message": text})
    errors = {name: [f"The value {part} is invalid."] for name, part in struck.person.items()}
    return json_reply(int(value), {"message": text, "errors": errors})


ANSWERS: dict[str, Answer] = {
    "400": _with_errors(400),
    "401": _message(401, "Unauthenticated."),
    "403": _message(403, "This action is unauthorized."),
    "404": _message(404, "Not found."),
    "408": _message(408, "Request Timeout"),
    "409": _with_errors(409),
    "422": _with_errors(422),
    "422_html": _page(422),
    "422_no_field": _message(422, "Validation failed"),
    "425": _message(425, "Too Early"),
    "429": _throttled(429, "Too Many Attempts."),
    "500": _message(500, "Server Error"),
    "502_html": _page(502),
    "503": _throttled(503, "Service Unavailable"),
    "echo": _echo,
    "empty_body": lambda value, struck: Reply(200, b""),
    "html": _page(200),
    "not_json": lambda value, struck: Reply(200, b'{"status":1,"message":"OK","data'),
    "redirect": _redirect,
    "status0": lambda value, struck: json_reply(200, {"status": 0, "message": value}),
}


def _changed(change: Change, value: str, struck: Struck) -> Reply:
    """A success reply with something wrong in it; a refusal is left as it is."""
    result = struck.result
    if result is None:  # nothing was committed, so there is no success to change, only one to pretend
        result = Result(200, {"status": 1, "message": "OK"})
    elif result.status != 200 or result.payload.get("status", 1) != 1:
        return json_reply(result.status, result.payload)
    payload = copy.deepcopy(result.payload)
    change(payload, value, struck)
    return json_reply(200, payload)


def _wrong_time(payload: dict[str, object], value: str, struck: Struck) -> None:
    assert struck.result is not None
    assert struck.result.local is not None
    told = struck.result.local + timedelta(minutes=int(value))
    _at(payload, "schedule.data")["time"] = format_reply_time(told)


def _missing_parts(payload: dict[str, object], value: str, struck: Struck) -> None:
    for path in (value or ALL_PARTS[struck.endpoint]).split("+"):
        parent, _, key = path.rpartition(".")
        _at(payload, parent).pop(key, None)


def _malformed_slots(payload: dict[str, object], value: str, struck: Struck) -> None:
    days = payload["availability"]
    assert isinstance(days, list)
    for day in days:
        good = [] if value == "all" else day["slots"]
        day["slots"] = [*good[:1], *BAD_CLOCKS, *good[1:]]
    days.insert(len(days) // 2, copy.deepcopy(BAD_DAY))


def _empty_availability(payload: dict[str, object], value: str, struck: Struck) -> None:
    payload["availability"] = []


def _status(wrong: object) -> Change:
    def change(payload: dict[str, object], value: str, struck: Struck) -> None:
        payload["status"] = wrong

    return change


CHANGES: dict[str, Change] = {
    "empty_availability": _empty_availability,
    "malformed_slots": _malformed_slots,
    "missing_parts": _missing_parts,
    "status_text": _status("1"),
    "status_true": _status(True),
    "wrong_time": _wrong_time,
}


def _at(payload: dict[str, object], path: str) -> dict[str, object]:
    """The object at a dotted path; an empty one where there is none."""
    node: object = payload
    for key in path.split(".") if path else ():
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}
