"""The seller's side of the sandbox: customers, seats and bookings, and the answers of the three endpoints without faults."""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, TypedDict
from zoneinfo import ZoneInfo

from airflow_provider_popin.sandbox.grid import (
    GridSlot,
    daily_slots,
    format_reply_time,
    listed_slots,
    parse_time,
)
from airflow_provider_popin.sandbox.oracle import Booking, Oracle, RequestRecord
from airflow_provider_popin.sandbox.settings import SandboxSettings

DEFAULT_COUNTRY = "91"  # D
FIRST_CUSTOMER_NUMBER = 1001
SLUG_FACTOR = (
    2654435761  # odd, so that it maps the 32-bit numbers one to one: no two customers share a join link
)

Errors = dict[str, list[str]]


class CustomerRow(TypedDict):
    """A customer as JSON-ready mapping; `fields` is the first capture request as received."""

    customer_id: str
    lead: str | None
    url: str
    fields: dict[str, object]


class Result(NamedTuple):
    """
    What an endpoint answers without faults.

    :param status: HTTP status.
    :param payload: JSON object of the reply.
    :param local: booked start in the seller's timezone, of a booking only.
    """

    status: int
    payload: dict[str, object]
    local: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """
    A captured lead.

    :param customer_id: base64 of the decimal number (I).
    :param lead: its test_lead, None without one.
    :param url: join link of the capture reply.
    :param fields: the capture request as received.
    """

    customer_id: str
    lead: str | None
    url: str
    fields: Mapping[str, object] = field(repr=False)

    @property
    def name(self) -> str:
        """Full name as captured."""
        return str(self.fields["name"])

    @property
    def phone(self) -> str:
        """Plus sign, country and mobile, as the schedule reply has it (D)."""
        return "+{}{}".format(self.fields.get("country") or DEFAULT_COUNTRY, self.fields["mobile"])


class Popin:
    """
    One seller's account.

    :param settings: how it behaves.
    :param oracle: witness of every commit.
    """

    def __init__(self, *, settings: SandboxSettings, oracle: Oracle) -> None:
        self.settings = settings
        self.oracle = oracle
        self.customers: dict[str, Customer] = {}
        self.timezone = settings.timezone
        self._by_phone: dict[str, Customer] = {}
        self._numbers = itertools.count(FIRST_CUSTOMER_NUMBER)
        self._taken: Counter[float] = Counter()
        self._slots: list[GridSlot] = []
        self._starts: list[float] = []
        self._by_text: dict[str, GridSlot] = {}
        self._grid_ends = 0.0
        self._full = 0
        self._cached: tuple[int, int, bytes] | None = None
        self.set_timezone(settings.timezone)

    def now(self) -> float:
        """The sandbox's clock, in seconds since the epoch."""
        return time.time() if self.settings.now is None else self.settings.now.timestamp()

    def set_timezone(self, name: str) -> None:
        """
        Offer the same local hours in another timezone from now on; bookings keep their instant.

        :param name: IANA name.
        """
        self.timezone = name
        self._make_grid()

    def capture(self, body: object, record: RequestRecord) -> Result:
        """
        Answer a capture request, and store its customer.

        :param body: the JSON value of the body.
        :param record: the oracle's record; gets lead, customer and commit.
        :return: the answer (D; refusals P, by analogy).
        """
        fields = body if isinstance(body, dict) else {}
        record.lead = test_lead(fields)
        errors = _capture_errors(fields)
        if errors:
            return _refused(errors)
        phone = "{}-{}".format(fields.get("country") or DEFAULT_COUNTRY, fields["mobile"])
        customer = self._by_phone.get(phone) if self.settings.same_mobile_same_customer else None
        if customer is None:
            customer = self._store(fields, record.lead)
            self._by_phone[phone] = customer
        record.customer_id = customer.customer_id
        self.oracle.committed(record)
        message = "User captured successfully"
        return Result(
            200, {"status": 1, "customer_id": customer.customer_id, "url": customer.url, "message": message}
        )

    def availability(self) -> bytes:
        """
        The slots reply: what is neither past nor full (D for keys and formats; that past ones are left out is I).

        :return: JSON text.
        """
        first = self._first_open()
        if self._cached is None or self._cached[:2] != (first, self._full):
            self._cached = (first, self._full, self._availability(first))
        return self._cached[2]

    def schedule(self, body: object, record: RequestRecord) -> Result:
        """
        Answer a schedule request, and take the seat.

        :param body: the JSON value of the body.
        :param record: the oracle's record; gets lead, customer and commit.
        :return: the answer (D; refusals P and I).
        """
        fields = body if isinstance(body, dict) else {}
        customer = self.customer_of(fields)
        if customer is not None:
            record.lead, record.customer_id = customer.lead, customer.customer_id
        errors = _errors(fields, SCHEDULE_RULES)
        if customer is None and "customer_id" not in errors:
            errors["customer_id"] = ["The selected customer id is invalid."]
        if customer is None or errors:
            return _refused(errors)
        slot = self._bookable(str(fields["time"]))
        if isinstance(slot, str):
            return self._time_refused(slot)
        self._book(slot, customer, fields, record)
        data = {"name": customer.name, "time": format_reply_time(slot.local), "timezone": self.timezone}
        return Result(200, {"status": 1, "schedule": {"data": data}, "data": customer.phone}, slot.local)

    def customer_of(self, fields: Mapping[str, object]) -> Customer | None:
        """
        The customer whom a schedule request names.

        :param fields: the request.
        :return: the customer, None when unknown.
        """
        customer_id = fields.get("customer_id")
        return self.customers.get(customer_id) if isinstance(customer_id, str) else None

    def customer_rows(self, lead: str | None = None) -> list[CustomerRow]:
        """
        The customers in order of their capture.

        :param lead: only of this test_lead.
        :return: rows, with the fields as received.
        """
        return [
            {"customer_id": each.customer_id, "lead": each.lead, "url": each.url, "fields": dict(each.fields)}
            for each in self.customers.values()
            if lead is None or each.lead == lead
        ]

    def free_seats(self) -> int:
        """Seats free in slots to come."""
        seats = self.settings.seats_per_slot
        first = self._first_open()
        return sum(max(0, seats - self._taken[start]) for start in self._starts[first:])

    def bookings_per_slot_max(self) -> int:
        """Most bookings in one slot."""
        return max(self._taken.values(), default=0)

    def _store(self, fields: Mapping[str, object], lead: str | None) -> Customer:
        number = next(self._numbers)
        slug = "%08x" % (number * SLUG_FACTOR % 2**32)
        url = f"https://live.popin.to/{slug[:4]}-{slug[4:]}"
        if fields.get("native") is False:
            url = self.settings.dashboard_url
        customer_id = base64.b64encode(str(number).encode()).decode()
        customer = Customer(customer_id=customer_id, lead=lead, url=url, fields=fields)
        self.customers[customer_id] = customer
        self.oracle.captured(lead)
        return customer

    def _bookable(self, text: str) -> GridSlot | str:
        """The slot a time names, or why it cannot be booked."""
        self._first_open()
        slot = self._by_text.get(text)
        if slot is None:
            return self._why_no_slot(text)
        if slot.start <= self.now():
            return "The selected time is in the past."
        if self._taken[slot.start] >= self.settings.seats_per_slot:
            return "The selected slot is already booked."
        return slot

    def _why_no_slot(self, text: str) -> str:
        try:
            local = parse_time(text)
        except ValueError as error:
            return str(error)
        if local.replace(tzinfo=ZoneInfo(self.timezone)).timestamp() <= self.now():
            return "The selected time is in the past."
        return "The selected time is not an available slot."

    def _time_refused(self, why: str) -> Result:
        if self.settings.refusal == "status0":
            return Result(200, {"status": 0, "message": why})
        return _refused({"time": [why]})

    def _book(
        self, slot: GridSlot, customer: Customer, fields: Mapping[str, object], record: RequestRecord
    ) -> None:
        self._taken[slot.start] += 1
        if self._taken[slot.start] >= self.settings.seats_per_slot:
            self._full += 1
        self.oracle.committed(record)
        agent = fields.get("agent")
        self.oracle.booked(
            Booking(
                request_n=record.n,
                lead=customer.lead,
                customer_id=customer.customer_id,
                time=slot.text,
                timezone=self.timezone,
                start=slot.start,
                booked=self.now(),
                agent=agent if isinstance(agent, int) else None,
                join_url=self._join_url(customer, fields),
            )
        )

    def _join_url(self, customer: Customer, fields: Mapping[str, object]) -> str:
        """The join-link table (D)."""
        if fields.get("native") is not False:
            return "https://live.popin.to/" + customer.customer_id
        url = fields.get("url")
        return url if isinstance(url, str) and url else self.settings.dashboard_url

    def _make_grid(self) -> None:
        settings, zone = self.settings, ZoneInfo(self.timezone)
        today = datetime.fromtimestamp(self.now(), zone).date()
        if settings.slots is not None:
            self._slots = listed_slots(settings.slots, zone=zone)
            self._grid_ends = float("inf")
        else:
            self._slots = daily_slots(
                today,
                days=settings.days,
                opens=settings.opens,
                closes=settings.closes,
                slot_minutes=settings.slot_minutes,
                zone=zone,
            )
            tomorrow = datetime.combine(today + timedelta(days=1), datetime.min.time(), zone)
            self._grid_ends = tomorrow.timestamp()
        self._starts = [slot.start for slot in self._slots]
        self._by_text = {slot.text: slot for slot in self._slots}
        self._cached = None

    def _first_open(self) -> int:
        """Index of the first slot that is still to come; on a new day the grid moves on first."""
        now = self.now()
        if now >= self._grid_ends:
            self._make_grid()
        return bisect_right(self._starts, now)

    def _availability(self, first: int) -> bytes:
        seats, days = self.settings.seats_per_slot, dict[str, list[str]]()
        for slot in self._slots[first:]:
            if self._taken[slot.start] < seats:
                days.setdefault(slot.day, []).append(slot.clock)
        reply = {
            "availability": [{"date": day, "slots": clocks} for day, clocks in days.items()],
            "slotDiff": self.settings.slot_minutes,
            "timezone": self.timezone,
        }
        return json.dumps(reply, separators=(",", ":")).encode()


def test_lead(fields: Mapping[str, object]) -> str | None:
    """
    The mark by which the oracle follows a lead.

    :param fields: a capture request.
    :return: `campaign.test_lead` as text, None without one.
    """
    campaign = fields.get("campaign")
    mark = campaign.get("test_lead") if isinstance(campaign, dict) else None
    return None if mark is None else str(mark)


def _pattern(pattern: str) -> Callable[[object], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _Rule(NamedTuple):
    field: str
    required: bool
    accepts: Callable[[object], bool]
    message: str


_TEXT = _pattern(r"(?s).*\S.*")
# Types are those of the samples (D). That Popin is as strict is I; strictness is what finds a careless client.
CAPTURE_RULES = (
    _Rule("name", True, _TEXT, "The name field must be a string."),
    _Rule("mobile", True, _pattern(r"[0-9]{4,15}"), "Invalid phone number"),
    _Rule("email", False, _pattern(r"[^@\s]+@[^@\s]+"), "The email must be a valid email address."),
    _Rule("group", False, _TEXT, "The group must be a string."),
    _Rule("pincode", False, _TEXT, "The pincode must be a string."),
    _Rule("pin_code", False, _TEXT, "The pin code must be a string."),
    _Rule("country", False, _pattern(r"[1-9][0-9]{0,2}"), "The country must be a calling code."),
    _Rule("agent", False, _integer, "The agent must be an integer."),
    _Rule("native", False, lambda value: isinstance(value, bool), "The native field must be true or false."),
    _Rule("campaign", False, lambda value: isinstance(value, dict), "The campaign must be an array."),
)
SCHEDULE_RULES = (
    _Rule("customer_id", True, _TEXT, "The customer id must be a string."),
    _Rule("time", True, _TEXT, "The time must be a string."),
    _Rule("agent", False, _integer, "The agent must be an integer."),
    _Rule("native", False, lambda value: isinstance(value, bool), "The native field must be true or false."),
    _Rule("url", False, _pattern(r"https?://\S+"), "The url format is invalid."),
)


def _capture_errors(fields: Mapping[str, object]) -> Errors:
    return _errors(fields, CAPTURE_RULES)


def _errors(fields: Mapping[str, object], rules: tuple[_Rule, ...]) -> Errors:
    errors: Errors = {}
    for rule in rules:
        value = fields.get(rule.field)
        if value is None or value == "":
            if rule.required:
                errors[rule.field] = ["The {} field is required.".format(rule.field.replace("_", " "))]
        elif not rule.accepts(value):
            errors[rule.field] = [rule.message]
    return errors


def _refused(errors: Errors) -> Result:
    return Result(422, {"message": "Validation failed", "errors": errors})
