"""The other half of Popin: after a capture and a booking it tells what happens, by webhook.

A commit is told whether or not its HTTP answer arrived. Whether Popin does so for what came through the API
is U; that its events carry the decimal id behind `customer_id` is I.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from airflow_provider_popin.sandbox import webhook_events as events
from airflow_provider_popin.sandbox.customers import DEFAULT_COUNTRY, Customer
from airflow_provider_popin.sandbox.grid import parse_time
from airflow_provider_popin.sandbox.oracle import Booking
from airflow_provider_popin.sandbox.rows import WebhookCounts, WebhookRow
from airflow_provider_popin.sandbox.webhook_delivery import WAITING, Deliverer, Delivery
from airflow_provider_popin.sandbox.webhook_events import Person
from airflow_provider_popin.sandbox.webhook_plan import plan_call, seconds_until
from airflow_provider_popin.sandbox.webhook_settings import FAULTS, WebhookSettings
from airflow_provider_popin.sandbox.wire import ENCODER

FIRST_CALL_NUMBER = 28001


class Webhooks:
    """
    The webhooks of one life of the sandbox. All methods belong to the server's event loop.

    :param settings: None tells nobody anything.
    :param seed: of all probabilities.
    :param clock: the sandbox's clock, in epoch seconds.
    """

    def __init__(self, *, settings: WebhookSettings | None, seed: int, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._seed = seed
        self._clock = clock
        self._numbers = itertools.count(1)
        self._calls: dict[str, tuple[str, int]] = {}
        self._call_numbers = itertools.count(FIRST_CALL_NUMBER)
        self._ended_counts: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._rows: deque[Delivery] = deque(maxlen=None if settings is None else settings.keep)
        self._deliverer = None if settings is None else Deliverer(settings=settings, ended=self._ended)

    def captured(self, customer: Customer) -> None:
        """
        Tell of a capture.

        :param customer: stored or found again.
        """
        if self._settings is not None:
            self._tell(events.CAPTURED, customer, None, values={"url": customer.url})

    def booked(self, customer: Customer, booking: Booking) -> None:
        """
        Tell of a booking, and plan what will be told of the call.

        :param customer: who is called.
        :param booking: as the oracle has it.
        """
        settings = self._settings
        if settings is None:
            return
        now = self._clock()
        self._tell(events.SCHEDULED, customer, booking)
        dice = random.Random(f"{self._seed}/call/{customer.number}/{booking.request_n}")
        for planned in plan_call(settings, dice, name=customer.name):
            occurred = booking.start + planned.after_start
            if occurred < now:
                continue  # a notification for which it was too late when the call was booked
            seconds = seconds_until(settings, occurred, now=now, start=booking.start)
            self._tell(
                planned.event, customer, booking, values=planned.values, occurred=occurred, seconds=seconds
            )

    def send(
        self, event: str, customer: Customer, booking: Booking | None, *, participant: str | None = None
    ) -> WebhookRow:
        """
        Tell something on demand, at once.

        :param event: one of `webhook_events.EVENTS`. An outgoing call begins with `initiated`; further
            events of the same customer are about the same call.
        :param customer: whom it is about.
        :param booking: which call, where the event names one; None leaves its properties empty.
        :param participant: `user` or `agent`, of `network_failure`.
        :return: the delivery as it is now: waiting, in general.
        :raises ValueError: there is nobody to tell, or the event or participant is unknown.
        """
        if self._settings is None:
            raise ValueError("webhooks: there is no url to send to")
        if event not in events.EVENTS:
            raise ValueError("event: one of {}".format(", ".join(events.EVENTS)))
        if participant not in (None, *events.PARTICIPANTS):
            raise ValueError("participant: one of {}".format(", ".join(events.PARTICIPANTS)))
        values = {} if participant is None else {"participant": participant}
        return self._tell(event, customer, booking, values=values).row()

    def rows(
        self,
        *,
        event: str | None = None,
        lead: str | None = None,
        state: str | None = None,
        limit: int | None = None,
    ) -> Iterator[WebhookRow]:
        """
        The deliveries kept, in the order in which they were planned.

        :param event: only of this event.
        :param lead: only of this test_lead.
        :param state: only in this state.
        :param limit: only the last so many (after the filters).
        :return: rows, made one by one; which deliveries they are is settled at the call.
        """
        kept = [
            delivery
            for delivery in self._rows
            if event in (None, delivery.event)
            and lead in (None, delivery.lead)
            and state in (None, delivery.state)
        ]
        return (delivery.row() for delivery in (kept if limit is None else kept[max(0, len(kept) - limit) :]))

    def counts(self) -> WebhookCounts:
        """What became of the deliveries."""
        return {
            "open": 0 if self._deliverer is None else self._deliverer.open,
            "ended": dict(self._ended_counts),
            "answers": dict(self._answers),
            "events": dict(self._events),
        }

    def stop(self) -> None:
        """Send nothing any more, at once."""
        if self._deliverer is not None:
            self._deliverer.stop()

    async def close(self) -> None:
        """Send nothing any more; connections are closed when this returns."""
        if self._deliverer is not None:
            await self._deliverer.close()

    def _tell(
        self,
        event: str,
        customer: Customer,
        booking: Booking | None,
        *,
        values: Mapping[str, object] | None = None,
        occurred: float | None = None,
        seconds: float = 0.0,
    ) -> Delivery:
        assert self._settings is not None
        assert self._deliverer is not None
        n = next(self._numbers)
        occurred = self._clock() if occurred is None else occurred
        dice = random.Random(f"{self._seed}/delivery/{customer.number}/{event}/{n}")
        chances = {fault: dice.random() for fault in FAULTS}
        faults = tuple(fault for fault in FAULTS if chances[fault] < getattr(self._settings, fault))
        if "delay" in faults:
            seconds += dice.random() * self._settings.delay_seconds
        delivery = Delivery(
            n=n,
            event=event,
            customer_id=customer.customer_id,
            lead=customer.lead,
            request_n=None if booking is None else booking.request_n,
            occurred=occurred,
            number=customer.number,
            render=self._renderer(event, customer, booking, occurred, values or {}),
            faults=faults,
        )
        self._put(delivery, seconds)
        if "duplicate" in faults and "drop" not in faults:
            self._put(_copy(delivery), seconds)
        return delivery

    def _put(self, delivery: Delivery, seconds: float) -> None:
        assert self._deliverer is not None
        self._rows.append(delivery)
        self._deliverer.put(delivery, seconds=seconds)

    def _ended(self, delivery: Delivery) -> None:
        self._ended_counts[delivery.state] += 1
        if delivery.status is not None:
            self._answers[str(delivery.status)] += 1
            self._events[delivery.event] += 1

    def _renderer(
        self,
        event: str,
        customer: Customer,
        booking: Booking | None,
        occurred: float,
        values: Mapping[str, object],
    ) -> Callable[[], bytes]:
        assert self._settings is not None
        style = self._settings.style
        if event.startswith(events.OUTGOING):
            session_id, call_id = self._call_of(event, customer)
            participant = values.get("participant")

            def outgoing() -> dict[str, object]:
                return events.outgoing_payload(
                    event,
                    _person(customer),
                    session_id=session_id,
                    call_id=call_id,
                    occurred=occurred,
                    participant=None if participant is None else str(participant),
                )

            return lambda: ENCODER.encode(outgoing()).encode()

        def of_call() -> dict[str, object]:
            slot = {} if booking is None else events.slot_values(parse_time(booking.time))
            url = customer.live_url if booking is None else booking.join_url
            every = {"url": url, **slot, **values}
            return events.call_payload(event, _person(customer), style=style, occurred=occurred, values=every)

        return lambda: ENCODER.encode(of_call()).encode()

    def _call_of(self, event: str, customer: Customer) -> tuple[str, int]:
        """Session and number of the customer's outgoing call; `initiated` begins a new one."""
        call = self._calls.get(customer.customer_id)
        if call is None or event == events.OUTGOING + "initiated":
            call = str(uuid.uuid4()), next(self._call_numbers)
            self._calls[customer.customer_id] = call
        return call


def _person(customer: Customer) -> Person:
    fields = customer.fields()
    return Person(
        number=customer.number,
        name=customer.name,
        email=str(fields.get("email") or ""),
        country=str(fields.get("country") or DEFAULT_COUNTRY).removeprefix("+"),
        mobile=str(fields["mobile"]),
    )


def _copy(delivery: Delivery) -> Delivery:
    """The second of two deliveries of one event: the same body, byte by byte."""
    return replace(delivery, state=WAITING)
