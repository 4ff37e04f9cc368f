"""What the tests of single bookings share."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_popin.client.client import PopinClient
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.models import ScheduledCall, Slot
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import admin
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import RunIdentity
from airflow_provider_popin.sync.single import SingleBooking
from tests.privacy import register_personal

NAME, PHONE, EMAIL = "Zelda Exampleson", "+919876512399", "zelda@example.com"
register_personal(NAME, PHONE, EMAIL)
RUN = RunIdentity(dag_run="dag/run 1/book", try_number=1)

Book = Callable[..., ScheduledCall]


def state(ledger: Ledger) -> tuple[str, str]:
    (line,) = admin.export(ledger)
    return str(line["capture"]), str(line["booking"])


def schedules(sandbox: SandboxServer) -> int:
    return len(sandbox.requests(endpoint="schedule"))


def later(booking: SingleBooking, config: ClientConfig) -> Slot:
    with PopinClient(config) as client:
        return next(slot for slot in client.get_slots().slots if slot.start > booking.slot.start)
