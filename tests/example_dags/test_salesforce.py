"""The Salesforce example with the real Salesforce hook, over HTTPS on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from example_dags import popin_salesforce_sync
from tests.airflow_runs import states, xcom
from tests.example_dags.salesforce_stand_in import StandIn, running
from tests.privacy import register_personal

pytestmark = pytest.mark.usefixtures("pool")

RECORDS: list[dict[str, Any]] = [
    {
        "Id": f"00Qxx000000000{number}EAA",
        "FirstName": first,
        "LastName": "Testforce",
        "MobilePhone": mobile,
        "Phone": phone,
        "Email": email,
        "CountryCode": country,
        "LeadSource": "Web",
    }
    for number, (first, mobile, phone, email, country) in enumerate(
        [
            ("Ida", "+1 202 555 0161", None, "ida.testforce@example.com", "US"),
            (None, None, "020 7946 0555", None, "GB"),
            ("Jon", "no number 020 7946 0x55", None, None, "GB"),
            ("Kim", "(212) 555-0162", None, "kim.testforce@example.com", "US"),
            ("Lea", None, None, None, None),
        ]
    )
]
PASSWORD, TOKEN = "pw-93kd7-2x", "tok99zq81"
register_personal(PASSWORD, TOKEN)
for record in RECORDS:
    register_personal(
        *(record[field] for field in ("MobilePhone", "Phone", "Email") if "0" in str(record[field]))
    )


@pytest.fixture
def salesforce(
    tmp_path: Path, set_connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """Run the stand-in, with two leads on a page, and point ``salesforce_default`` to it."""
    server = StandIn(tmp_path, records=RECORDS, page_size=2, password=PASSWORD + TOKEN)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
    set_connection(
        "salesforce_default",
        conn_type="salesforce",
        login="sync@example.com",
        password=PASSWORD,
        extra={"security_token": TOKEN, "proxies": {"https": server.proxy}},
    )
    with running(server):
        yield server


def test_leads_of_salesforce_are_booked(
    popin: SandboxServer, salesforce: StandIn, run_dag: Callable[..., Any], results: Callable[[], Any]
) -> None:
    run = run_dag(popin_salesforce_sync.dag)
    assert states(run) == {"sync_leads": "success"}
    assert salesforce.queries == [popin_salesforce_sync.OPEN_LEADS]
    ids = [record["Id"] for record in RECORDS]
    assert [(line["lead_id"], line["result"], line["reason"]) for line in results()] == [
        (ids[0], "booked", None),
        (ids[1], "booked", None),
        (ids[2], "rejected", "phone_letters"),
        (ids[3], "booked", None),
        (ids[4], "rejected", "phone_missing"),
    ]
    sent = {str(customer["fields"]["mobile"]): customer["fields"] for customer in popin.customers()}
    assert sorted(sent) == ["2025550161", "2079460555", "2125550162"]
    assert sent["2079460555"]["name"] == "Testforce"
    assert sent["2025550161"]["campaign"] == {"lead_source": "Web"}
    assert popin.stats()["bookings"] == popin.stats()["customers"] == 3

    run_dag(popin_salesforce_sync.dag)
    assert popin.stats()["bookings"] == popin.stats()["customers"] == 3


def test_refused_login_fails_the_task_and_sends_nothing(
    popin: SandboxServer, salesforce: StandIn, run_dag: Callable[..., Any]
) -> None:
    salesforce.password = "another"
    popin_salesforce_sync.dag.get_task("sync_leads").retries = 0
    run = run_dag(popin_salesforce_sync.dag)
    assert states(run) == {"sync_leads": "failed"}
    assert xcom(run, "sync_leads") is None
    assert popin.customers() == []
