"""One booking for a lead that was captured at the sandbox."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_popin.client.client import PopinClient
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.models import ScheduledCall
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.single import SingleBooking, book_one
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.sync.ledgers import (
    SOURCE,
)
from tests.sync.single.support import EMAIL, NAME, PHONE, RUN, Book


@pytest.fixture
def config(sandbox: SandboxServer) -> ClientConfig:
    return ClientConfig(
        base_url=sandbox.url,
        seller_token=SELLER_TOKEN,
        api_key=API_KEY,
        account="shop",
        timeout_seconds=30,
        requests_per_second=0,
    )


@pytest.fixture
def booking(config: ClientConfig) -> SingleBooking:
    """Return the first free slot for a lead that was captured at Popin, unknown to the ledger."""
    with PopinClient(config) as client:
        customer = client.capture(make_lead(name=NAME, mobile=PHONE, email=EMAIL))
        calendar = client.get_slots()
    return SingleBooking(
        source=SOURCE,
        lead_id="L1",
        customer_id=customer.customer_id,
        slot=calendar.slots[3],
        timezone=calendar.timezone,
    )


@pytest.fixture
def book(ledger: Ledger, config: ClientConfig, booking: SingleBooking) -> Book:
    """Return ``book(**changes of the booking)``."""

    def book(**changes: Any) -> ScheduledCall:
        return book_one(ledger=ledger, config=config, booking=replace(booking, **changes), run=RUN)

    return book
