"""What the endpoints answer without faults: customers are stored, seats taken, oracle and webhooks told."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from airflow_provider_popin.sandbox.customers import DEFAULT_COUNTRY, Customer
from airflow_provider_popin.sandbox.grid import GridSlot, format_reply_time
from airflow_provider_popin.sandbox.oracle import Booking, Oracle, RequestRecord
from airflow_provider_popin.sandbox.rows import CustomerRow
from airflow_provider_popin.sandbox.seats import Seats
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.validation import CAPTURE_RULES, SCHEDULE_RULES, Errors, find_errors
from airflow_provider_popin.sandbox.webhooks import Webhooks

FIRST_CUSTOMER_NUMBER = 1001
SLUG_FACTOR = 2654435761  # odd, so it maps the 32-bit numbers one to one: no two customers share a join link


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


class Popin:
    """
    One seller's account.

    :param settings: how it behaves.
    :param oracle: witness of every commit.
    """

    def __init__(self, *, settings: SandboxSettings, oracle: Oracle) -> None:
        self.settings = settings
        self.oracle = oracle
        self.seats = Seats(settings=settings)
        self.webhooks = Webhooks(settings=settings.webhooks, seed=settings.seed, clock=self.seats.now)
        self.customers: dict[str, Customer] = {}
        self._by_phone: dict[str, Customer] = {}
        self._numbers = itertools.count(FIRST_CUSTOMER_NUMBER)

    def capture(self, fields: Mapping[str, object], raw: bytes, record: RequestRecord) -> Result:
        """
        Answer a capture request, and store its customer.

        :param fields: the JSON object of the body.
        :param raw: the body.
        :param record: the oracle's record; gets lead, customer and commit.
        :return: the answer (D; refusals P, by analogy).
        """
        record.lead = lead_mark(fields)
        errors = find_errors(fields, CAPTURE_RULES)
        if errors:
            return _refused(errors)
        phone = f"+{fields.get('country') or DEFAULT_COUNTRY}{fields['mobile']}"
        customer = self._by_phone.get(phone) if self.settings.same_mobile_same_customer else None
        if customer is None:
            customer = self._store(fields, raw, phone, record.lead)
        record.customer_id = customer.customer_id
        self.oracle.committed(record)
        self.webhooks.captured(customer)
        answer: dict[str, object] = {"status": 1, "customer_id": customer.customer_id, "url": customer.url}
        return Result(200, {**answer, "message": "User captured successfully"})

    def schedule(self, fields: Mapping[str, object], record: RequestRecord) -> Result:
        """
        Answer a schedule request, and take the seat.

        :param fields: the JSON object of the body.
        :param record: the oracle's record; gets lead, customer and commit.
        :return: the answer (D; refusals P and I).
        """
        customer = self.customer_of(fields)
        if customer is not None:
            record.lead, record.customer_id = customer.lead, customer.customer_id
        errors = find_errors(fields, SCHEDULE_RULES)
        if customer is None:
            errors.setdefault("customer_id", ["The selected customer id is invalid."])
        if customer is None or errors:
            return _refused(errors)
        slot = self.seats.find(str(fields["time"]))
        if isinstance(slot, str):
            return self._time_refused(slot)
        self._book(slot, customer, fields, record)
        data = {
            "name": customer.name,
            "time": format_reply_time(slot.local),
            "timezone": self.seats.timezone,
        }
        return Result(200, {"status": 1, "schedule": {"data": data}, "data": customer.phone}, slot.local)

    def customer_of(self, fields: Mapping[str, object]) -> Customer | None:
        """
        The customer whom a schedule request names.

        :param fields: the request.
        :return: the customer, None when unknown.
        """
        customer_id = fields.get("customer_id")
        return self.customers.get(customer_id) if isinstance(customer_id, str) else None

    def customer_rows(self, *, lead: str | None = None) -> list[CustomerRow]:
        """
        The customers, oldest first.

        :param lead: only of this test_lead.
        :return: rows, with the fields as received.
        """
        return [
            {"customer_id": each.customer_id, "lead": each.lead, "url": each.url, "fields": each.fields()}
            for each in self.customers.values()
            if lead is None or each.lead == lead
        ]

    def _store(self, fields: Mapping[str, object], raw: bytes, phone: str, lead: str | None) -> Customer:
        number = next(self._numbers)
        live_url = _live_url(number)
        customer = Customer(
            customer_id=base64.b64encode(b"%d" % number).decode(),
            lead=lead,
            url=self.settings.dashboard_url if fields.get("native") is False else live_url,
            live_url=live_url,
            name=str(fields["name"]),
            phone=phone,
            raw=raw,
        )
        self.customers[customer.customer_id] = customer
        self._by_phone[phone] = customer
        self.oracle.captured(lead)
        return customer

    def _time_refused(self, why: str) -> Result:
        if self.settings.refusal == "status0":
            return Result(200, {"status": 0, "message": why})
        return _refused({"time": [why]})

    def _book(
        self, slot: GridSlot, customer: Customer, fields: Mapping[str, object], record: RequestRecord
    ) -> None:
        self.seats.take(slot)
        self.oracle.committed(record)
        agent = fields.get("agent")
        booking = Booking(
            request_n=record.n,
            lead=customer.lead,
            customer_id=customer.customer_id,
            time=slot.text,
            timezone=self.seats.timezone,
            start=slot.start,
            booked=self.seats.now(),
            agent=agent if isinstance(agent, int) else None,
            join_url=self._join_url(customer, fields),
        )
        self.oracle.booked(booking)
        self.webhooks.booked(customer, booking)

    def _join_url(self, customer: Customer, fields: Mapping[str, object]) -> str:
        """The join-link table (D): `url` counts only when `native` is false."""
        if fields.get("native") is not False:
            return customer.live_url
        return str(fields.get("url") or self.settings.dashboard_url)


def lead_mark(fields: Mapping[str, object]) -> str | None:
    """
    The mark by which the oracle follows a lead.

    :param fields: a capture request.
    :return: `campaign.test_lead` as text, None without one.
    """
    campaign = fields.get("campaign")
    mark = campaign.get("test_lead") if isinstance(campaign, dict) else None
    return None if mark is None else str(mark)


def _live_url(number: int) -> str:
    """A join link of Popin's own: hex digits `xxxx-xxxx` (I)."""
    slug = f"{number * SLUG_FACTOR % 2**32:08x}"
    return f"https://live.popin.to/{slug[:4]}-{slug[4:]}"


def _refused(errors: Errors) -> Result:
    return Result(422, {"message": "Validation failed", "errors": errors})
