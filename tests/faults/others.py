"""What goes on beside a run: competitors at Popin's door, and somebody who watches the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import requests

from tests.faults.world import World

POLL_SECONDS = 0.01


def free_times(world: World) -> list[str]:
    """The slots that anybody may book now, as Popin spells them."""
    listed = _api(world, "GET", "slots").json()["availability"]
    return [f"{day['date']} {clock}" for day in listed for clock in day["slots"]]


def take_planned_slots(world: World, count: int) -> None:
    """Somebody else books the first slots that the run has planned, under its nose."""
    person = {"name": "Somebody Else", "mobile": "9100000000"}
    customer = _api(world, "POST", "capture", person).json()["customer_id"]
    planned = [lead for lead in world.ledger.leads().values() if lead["booking_state"] == "planned"]
    for lead in sorted(planned, key=lambda lead: lead["slot_start"])[:count]:
        body = {"customer_id": customer, "time": lead["slot_time"]}
        _api(world, "POST", "schedule", body).raise_for_status()


@contextmanager
def when(condition: Callable[[], object], action: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread as soon as a condition holds while the block runs."""
    failures: list[BaseException] = []
    over = threading.Event()

    def act() -> None:
        try:
            while not condition():
                if over.wait(POLL_SECONDS):
                    raise AssertionError("the condition never held")
            action()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not failures, failures


class Look(NamedTuple):
    """What one look into the ledger saw, and between which monotonic times it was read."""

    before: float
    after: float
    sending: list[str]


def looks_between(seen: list[Look], first: float, last: float) -> list[list[str]]:
    """What was ``sending`` at the looks wholly between two times: a machine may stand still in mid-look."""
    return [look.sending for look in seen if first < look.before and look.after < last]


@contextmanager
def looking_on(world: World) -> Iterator[list[Look]]:
    """Look into the ledger again and again, until the end of the block."""
    seen: list[Look] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(POLL_SECONDS):
            before = time.monotonic()
            sending = world.ledger.sending()
            seen.append(Look(before, time.monotonic(), sending))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _api(world: World, method: str, endpoint: str, body: object = None) -> requests.Response:
    headers = {
        "X-API-KEY": world.config.api_key,
        "X-TOKEN": world.config.seller_token,
        "Accept": "application/json",
    }
    url = f"{world.sandbox.url}/api/v1/external/{endpoint}"
    return requests.request(method, url, headers=headers, json=body, timeout=60)
