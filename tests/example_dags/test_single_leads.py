"""The examples for one lead and for a handful, on real Airflow, against the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from example_dags import popin_mapped_leads, popin_one_lead
from tests.airflow_runs import states, xcom
from tests.privacy import register_personal

register_personal("Farah Testperson", "+1 202 555 0178", "farah.testperson@example.com")
# The people of the mapped example.
register_personal("Björn Exempel", "070-174 06 05", "Chloé Exemple", "01 99 00 12 34", "asha@example.com")
pytestmark = pytest.mark.usefixtures("pool")

CONF = {
    "lead_id": "A-1",
    "name": "Farah Testperson",
    "mobile": "+1 202 555 0178",
    "email": "farah.testperson@example.com",
    "hours": "00:00-00:00",
}


def test_one_lead_is_captured_and_booked(popin: SandboxServer, run_dag: Callable[..., Any]) -> None:
    run = run_dag(popin_one_lead.dag, run_conf=CONF)
    assert states(run) == {"capture": "success", "wait_for_slot": "success", "schedule": "success"}
    (booking,) = popin.bookings()
    (customer,) = popin.customers()
    assert booking["customer_id"] == customer["customer_id"] == xcom(run, "capture")["customer_id"]
    assert booking["time"] == xcom(run, "schedule")["slot"]
    assert datetime.fromisoformat(booking["start"]) == datetime.fromisoformat(xcom(run, "schedule")["time"])
    assert customer["fields"]["mobile"] == "2025550178"


def test_one_lead_is_not_booked_again_by_another_run(
    popin: SandboxServer, run_dag: Callable[..., Any]
) -> None:
    popin_one_lead.schedule.retries = 0
    assert states(run_dag(popin_one_lead.dag, run_conf=CONF))["schedule"] == "success"
    assert states(run_dag(popin_one_lead.dag, run_conf=CONF))["schedule"] == "failed"
    assert len(popin.bookings()) == 1


def test_mapped_leads_are_booked_into_slots_of_their_own(
    popin: SandboxServer, run_dag: Callable[..., Any]
) -> None:
    run = run_dag(popin_mapped_leads.dag)
    assert set(states(run).values()) == {"success"}
    assert len([label for label in states(run) if label.startswith("schedule[")]) == 3
    bookings = popin.bookings()
    assert len({booking["start"] for booking in bookings}) == 3
    phones = {
        customer["customer_id"]: f"+{customer['fields']['country']}{customer['fields']['mobile']}"
        for customer in popin.customers()
    }
    assert sorted(phones[booking["customer_id"]] for booking in bookings) == [
        "+12025550143",
        "+33199001234",
        "+46701740605",
    ]
    assert popin.stats()["bookings_per_customer_max"] == 1
