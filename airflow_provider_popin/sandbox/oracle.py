"""What really happened: every request that arrived, what was committed, who was booked.

Everything lives in the memory of the server and is touched by its event loop only, so a query in mid-flight
sees a consistent state, and a client that was killed takes nothing with it. It holds no name, phone or
e-mail; a lead is known by its `campaign.test_lead`.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from airflow_provider_popin.sandbox.rows import BookingRow, RequestRow, Stats, WebhookCounts
from airflow_provider_popin.sandbox.times import iso

ENDPOINTS = ("capture", "slots", "schedule")
LEADS_NAMED = 100


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request while it is handled; `RequestRow` says what the fields mean. Times are in seconds."""

    endpoint: str
    n: int
    method: str
    received: float
    monotonic: float
    faults: tuple[str, ...] = ()
    status: int | None = None
    committed: bool = False
    lead: str | None = None
    customer_id: str | None = None
    open: bool = True

    def row(self) -> RequestRow:
        """The record as JSON-ready mapping."""
        return {
            "endpoint": self.endpoint,
            "n": self.n,
            "method": self.method,
            "received": iso(self.received),
            "monotonic": self.monotonic,
            "faults": list(self.faults),
            "status": self.status,
            "committed": self.committed,
            "lead": self.lead,
            "customer_id": self.customer_id,
            "open": self.open,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """A booking that took its seat; `BookingRow` says what the fields mean. Times are in epoch seconds."""

    request_n: int
    lead: str | None
    customer_id: str
    time: str
    timezone: str
    start: float
    booked: float
    agent: int | None
    join_url: str

    def row(self) -> BookingRow:
        """The booking as JSON-ready mapping."""
        return {
            "request_n": self.request_n,
            "lead": self.lead,
            "customer_id": self.customer_id,
            "time": self.time,
            "timezone": self.timezone,
            "start": iso(self.start),
            "booked": iso(self.booked),
            "agent": self.agent,
            "join_url": self.join_url,
        }


class Oracle:
    """
    Witness of one life of the sandbox (from start or reset to the next reset).

    :param keep_requests: newest requests kept in detail; older ones are only counted.
    """

    def __init__(self, *, keep_requests: int) -> None:
        self.records: deque[RequestRecord] = deque(maxlen=keep_requests)
        self.bookings: list[Booking] = []
        self.refused_headers = 0
        self.other_paths = 0
        self._arrived: Counter[str] = Counter()
        self._committed: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._faults: dict[str, Counter[str]] = {endpoint: Counter() for endpoint in ENDPOINTS}
        self._captured_leads: Counter[str] = Counter()
        self._booked_leads: Counter[str] = Counter()
        self._booked_customers: Counter[str] = Counter()
        self._load = {name: _Load() for name in (*ENDPOINTS, "all")}

    def arrived(self, endpoint: str, method: str) -> RequestRecord:
        """
        Note a request whose headers have arrived.

        :param endpoint: one of `ENDPOINTS`.
        :param method: HTTP method.
        :return: its record, to be filled in; `left` closes it.
        """
        now = time.monotonic()
        self._arrived[endpoint] += 1
        record = RequestRecord(endpoint, self._arrived[endpoint], method, time.time(), now)
        self.records.append(record)
        self._load[endpoint].enter(now)
        self._load["all"].enter(now)
        return record

    def left(self, record: RequestRecord) -> None:
        """
        Note that a request is over, answered or not.

        :param record: what `arrived` returned.
        """
        record.open = False
        self._load[record.endpoint].inside -= 1
        self._load["all"].inside -= 1
        self._statuses["none" if record.status is None else str(record.status)] += 1

    def struck(self, record: RequestRecord, faults: Sequence[str]) -> None:
        """
        Note the faults that strike a request.

        :param record: what `arrived` returned.
        :param faults: names of the faults.
        """
        record.faults = tuple(faults)
        self._faults[record.endpoint].update(faults)

    def committed(self, record: RequestRecord) -> None:
        """
        Note that a request had its effect, at the moment it has it.

        :param record: what `arrived` returned.
        """
        record.committed = True
        self._committed[record.endpoint] += 1

    def captured(self, lead: str | None) -> None:
        """
        Note a new customer.

        :param lead: its test_lead.
        """
        if lead is not None:
            self._captured_leads[lead] += 1

    def booked(self, booking: Booking) -> None:
        """
        Note a booking at the moment it takes its seat.

        :param booking: the booking.
        """
        self.bookings.append(booking)
        self._booked_customers[booking.customer_id] += 1
        if booking.lead is not None:
            self._booked_leads[booking.lead] += 1

    def rows(
        self, *, endpoint: str | None = None, lead: str | None = None, limit: int | None = None
    ) -> Iterator[RequestRow]:
        """
        The requests kept, oldest first.

        :param endpoint: only of this endpoint.
        :param lead: only of this test_lead.
        :param limit: only the newest so many (after the filters).
        :return: rows, made one by one; which requests they are is settled at the call.
        """
        kept = [
            record
            for record in self.records
            if (endpoint is None or record.endpoint == endpoint) and (lead is None or record.lead == lead)
        ]
        first = 0 if limit is None else max(0, len(kept) - limit)
        return (record.row() for record in islice(kept, first, None))

    def booking_rows(self, *, lead: str | None = None) -> list[BookingRow]:
        """
        The bookings, oldest first.

        :param lead: only of this test_lead.
        :return: rows.
        """
        return [booking.row() for booking in self.bookings if lead is None or booking.lead == lead]

    def last_booking(self, customer_id: str) -> Booking | None:
        """
        The newest booking of a customer.

        :param customer_id: the customer.
        :return: the booking, None without one.
        """
        own = (booking for booking in reversed(self.bookings) if booking.customer_id == customer_id)
        return next(own, None)

    def stats(
        self, *, customers: int, free_seats: int, bookings_per_slot_max: int, webhooks: WebhookCounts
    ) -> Stats:
        """
        The counts.

        :param customers: customers stored.
        :param free_seats: seats free in slots to come.
        :param bookings_per_slot_max: most bookings in one slot.
        :param webhooks: counts of the deliveries.
        :return: the counts.
        """
        return {
            "requests": _by_endpoint(self._arrived),
            "committed": _by_endpoint(self._committed),
            "statuses": dict(self._statuses),
            "faults": {endpoint: dict(counts) for endpoint, counts in self._faults.items()},
            "customers": customers,
            "customers_per_lead_max": max(self._captured_leads.values(), default=0),
            "bookings": len(self.bookings),
            "bookings_without_lead": len(self.bookings) - self._booked_leads.total(),
            "leads_booked": len(self._booked_leads),
            "bookings_per_lead_max": max(self._booked_leads.values(), default=0),
            "leads_booked_twice": self._leads_booked_twice(),
            "bookings_per_customer_max": max(self._booked_customers.values(), default=0),
            "bookings_per_slot_max": bookings_per_slot_max,
            "free_seats": free_seats,
            "peak_requests_per_second": {name: load.peak for name, load in self._load.items()},
            "max_concurrency": {name: load.inside_max for name, load in self._load.items()},
            "open_requests": self._load["all"].inside,
            "refused_headers": self.refused_headers,
            "other_paths": self.other_paths,
            "requests_forgotten": self._arrived.total() - len(self.records),
            "webhooks": webhooks,
        }

    def _leads_booked_twice(self) -> list[str]:
        twice = (lead for lead, bookings in self._booked_leads.items() if bookings > 1)
        return list(islice(twice, LEADS_NAMED))


class _Load:
    """Arrivals within one second and requests inside at once, with their highest values."""

    __slots__ = ("inside", "inside_max", "peak", "recent")

    def __init__(self) -> None:
        self.inside = 0
        self.inside_max = 0
        self.peak = 0
        self.recent: deque[float] = deque()

    def enter(self, now: float) -> None:
        self.inside += 1
        self.inside_max = max(self.inside_max, self.inside)
        self.recent.append(now)
        while self.recent[0] <= now - 1.0:
            self.recent.popleft()
        self.peak = max(self.peak, len(self.recent))


def _by_endpoint(counts: Counter[str]) -> dict[str, int]:
    return {**{endpoint: counts[endpoint] for endpoint in ENDPOINTS}, "all": counts.total()}
