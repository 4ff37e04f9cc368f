"""The client against the sandbox, which is an independent reading of Popin's documents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_popin.client import errors
from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.client import PopinClient, fetch_calendar
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.slots import reply_matches_slot
from airflow_provider_popin.sandbox.server import SandboxServer
from tests.conftest import API_KEY, SELLER_TOKEN


def config_for(
    sandbox: SandboxServer, api_key: str = API_KEY, postal_code_field: str = "pincode"
) -> ClientConfig:
    return ClientConfig(
        base_url=sandbox.url,
        seller_token=SELLER_TOKEN,
        api_key=api_key,
        requests_per_second=0,
        postal_code_field=postal_code_field,
    )


@pytest.fixture
def client(sandbox: SandboxServer) -> Iterator[PopinClient]:
    with PopinClient(config_for(sandbox)) as client:
        yield client


def test_lead_to_booked_call(client: PopinClient, sandbox: SandboxServer) -> None:
    lead = make_lead(
        name="Asha Example",
        mobile="098765 43210",
        country="IN",
        email="asha@example.com",
        group="5211",
        agent=210,
        pincode="560001",
        native=True,
        campaign={"test_lead": "one"},
    )
    customer = client.capture(lead)
    assert customer.url is not None
    assert not customer.incomplete
    calendar = client.get_slots()
    assert calendar.skipped == ()
    assert calendar.slot_minutes == 15
    slot = calendar.slots[-1]
    call = client.schedule(
        customer.customer_id, slot.time, agent=210, native=False, url="https://example.com/ring"
    )
    assert not call.incomplete
    assert reply_matches_slot(call.time, call.timezone, slot) is True
    assert len(sandbox.bookings()) == 1
    assert slot not in client.get_slots().slots
    with pytest.raises(errors.PopinRejectedError) as caught:
        client.schedule(customer.customer_id, slot.time)
    assert "time" in caught.value.field_errors


@pytest.mark.parametrize("name", ["pincode", "pin_code"])
def test_both_names_of_the_postal_code(sandbox: SandboxServer, name: str) -> None:
    with PopinClient(config_for(sandbox, postal_code_field=name)) as client:
        assert client.capture(
            make_lead(name="Asha Example", mobile="+919876543210", pincode="560001")
        ).customer_id


def test_wrong_key(sandbox: SandboxServer) -> None:
    with PopinClient(config_for(sandbox, api_key="wrong")) as client, pytest.raises(errors.PopinAccessError):
        client.get_slots()


def test_unknown_customer_is_refused(client: PopinClient) -> None:
    time = client.get_slots().slots[-1].time
    with pytest.raises(errors.PopinRejectedError) as caught:
        client.schedule("bm9ib2R5", time)
    assert caught.value.field_errors


async def test_both_senders_read_the_same_calendar(client: PopinClient, sandbox: SandboxServer) -> None:
    config = config_for(sandbox)
    async with AsyncSender(config) as sender:
        assert await fetch_calendar(sender, config) == client.get_slots()


def test_any_other_path(client: PopinClient) -> None:
    assert client.run("GET", "/external/slots").json()["slotDiff"] == 15
    assert client.run("GET", "/nowhere").status_code == 404
