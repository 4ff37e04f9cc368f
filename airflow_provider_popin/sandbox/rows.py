"""What the oracle tells, as JSON-ready mappings: the same from Python and from `/_sandbox/*`."""

from __future__ import annotations

from typing import TypedDict


class RequestRow(TypedDict):
    """
    One request to one of the three endpoints.

    `n` counts per endpoint from 1 since the start or the last reset. `received` is UTC ISO text,
    `monotonic` the server's monotonic clock in seconds. `faults` names the faults that struck it. `status`
    is the HTTP status put on the wire, None when there was no answer (a reset, or not yet). `committed`: a
    customer was stored or a seat taken. `lead` is the test_lead, `customer_id` the customer captured or
    scheduled, `open` whether the request is still being handled.
    """

    endpoint: str
    n: int
    method: str
    received: str
    monotonic: float
    faults: list[str]
    status: int | None
    committed: bool
    lead: str | None
    customer_id: str | None
    open: bool


class BookingRow(TypedDict):
    """
    One committed booking.

    `request_n` is the `n` of the schedule request, `time` the slot in Popin's spelling, `timezone` the
    seller's at that moment, `start` and `booked` UTC ISO text, `join_url` the link that the customer got.
    """

    request_n: int
    lead: str | None
    customer_id: str
    time: str
    timezone: str
    start: str
    booked: str
    agent: int | None
    join_url: str


class CustomerRow(TypedDict):
    """One customer; `fields` is the first capture request as received."""

    customer_id: str
    lead: str | None
    url: str
    fields: dict[str, object]


class WebhookRow(TypedDict):
    """
    One delivery of one event.

    `n` counts events from 1 since the start or the last reset; a duplicate has the `n` of its original.
    `request_n` is the `n` of the schedule request whose booking it is about, `occurred` when it happened, in
    uncompressed time. `faults` are those of the delivery. `state`: `waiting` for its time or its turn,
    `sending`, `answered` with `status`, `failed` with `error` (the name of an exception), `dropped` by a
    fault, or `lost`, because too many waited. `sent` and `answered` are UTC ISO text.
    """

    n: int
    event: str
    customer_id: str
    lead: str | None
    request_n: int | None
    occurred: str
    faults: list[str]
    state: str
    status: int | None
    error: str | None
    sent: str | None
    answered: str | None


class WebhookCounts(TypedDict):
    """
    Deliveries since the start or the last reset.

    `open` wait for their time or their turn, or are on the wire; `ended` by final state (`answered`,
    `failed`, `dropped`, `lost`); `answers` by HTTP status; `events` by name, of what was answered.
    """

    open: int
    ended: dict[str, int]
    answers: dict[str, int]
    events: dict[str, int]


class Stats(TypedDict):
    """
    Counts since the start or the last reset.

    Keys of the inner mappings: the endpoints and `all` for `requests`, `committed`,
    `peak_requests_per_second` (most arrivals within any one second) and `max_concurrency`; endpoint, then
    fault name for `faults`; HTTP status, or `none`, for `statuses`. What counts per lead only sees leads
    with a test_lead; `leads_booked_twice` names at most 100 of them. `refused_headers` counts wrong
    methods, login pages, 401 and 415.
    """

    requests: dict[str, int]
    committed: dict[str, int]
    statuses: dict[str, int]
    faults: dict[str, dict[str, int]]
    customers: int
    customers_per_lead_max: int
    bookings: int
    bookings_without_lead: int
    leads_booked: int
    bookings_per_lead_max: int
    leads_booked_twice: list[str]
    bookings_per_customer_max: int
    bookings_per_slot_max: int
    free_seats: int
    peak_requests_per_second: dict[str, int]
    max_concurrency: dict[str, int]
    open_requests: int
    refused_headers: int
    other_paths: int
    requests_forgotten: int
    webhooks: WebhookCounts
