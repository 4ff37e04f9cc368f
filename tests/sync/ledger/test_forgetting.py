"""A lead that a person has forgotten while a run is about to book it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync import admin, reading
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.forgetting import forget_events
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.faults.people import lead_rows
from tests.plugins import page_ledger
from tests.waiting import wait_until

SOURCE = "crm.leads"
Lines = list[Mapping[str, object]]


def run(
    rows: Iterable[Mapping[str, object]],
    ledger: Ledger,
    sandbox: SandboxServer,
    *,
    dag_run: str,
    steps: tuple[str, ...] = ("capture", "schedule"),
) -> Lines:
    lines: Lines = []

    def results(told: Iterable[Mapping[str, object]]) -> str:
        lines.extend(told)
        return "results.jsonl"

    config = ClientConfig(base_url=sandbox.url, seller_token=SELLER_TOKEN, api_key=API_KEY)
    settings = SyncSettings(source=SOURCE, steps=steps, requests_per_second=0)
    identity = RunIdentity(dag_run=dag_run)
    LeadSync(settings=settings, config=config, ledger=ledger, run=identity, results=results).run(rows)
    return lines


@pytest.mark.parametrize("deleted", [False, True])
def test_it_is_not_booked_and_the_others_are(
    ledger: Ledger, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
    rows = lead_rows(3)
    if deleted:  # without a slot it is unassigned, and a lead without call and doubt is deleted
        sandbox.set_faults("slots:empty_availability")
        run(rows, ledger, sandbox, dag_run="first")
        sandbox.set_faults()
    else:
        run(rows, ledger, sandbox, dag_run="first", steps=("capture",))

    def while_a_person_works() -> Iterator[Mapping[str, object]]:
        for number, row in enumerate(rows):
            if number == 1:
                admin.forget(ledger, source=SOURCE, lead_id=str(rows[0]["lead_id"]))
            yield row

    customers = {line["lead_id"]: line["customer_id"] for line in admin.export(ledger)}
    lines = run(while_a_person_works(), ledger, sandbox, dag_run="second")
    booked = {booking["customer_id"] for booking in sandbox.bookings()}
    assert customers["L001"] not in booked
    assert [line["result"] for line in lines] == ["pending", "booked", "booked"]


def test_a_call_that_is_confirmed_for_a_deleted_lead_is_not_passed_over(
    ledger: Ledger, sandbox: SandboxServer, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.set_faults("schedule:slow_after_commit(1)")

    def delete_what_was_sent() -> None:
        wait_until(sandbox.bookings)
        with ledger.write() as connection:
            connection.execute(schema.leads.delete())

    person = threading.Thread(target=delete_what_was_sent)
    person.start()
    with caplog.at_level(logging.ERROR):
        run(lead_rows(1), ledger, sandbox, dag_run="first")
    person.join()
    assert "booking of lead L001" in caplog.text
    assert "deleted from the ledger" in caplog.text


def test_it_takes_work_in_proportion_to_the_ledger(engines: Callable[[str], Engine], tmp_path: Path) -> None:
    def steps(leads: int) -> int:
        """Count what SQLite does to forget a third of the leads, in steps of its virtual machine."""
        ledger = Ledger.open(engines(f"sqlite:///{tmp_path / f'{leads}.db'}"))
        page_ledger.fill_with_many(ledger, leads)
        taken: list[None] = []
        with ledger.write() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_progress_handler(lambda: taken.append(None), 100)
            forget_events(connection, schema.leads.c.source == "source 1")
            driver.set_progress_handler(None, 0)
        return len(taken)

    assert steps(4_000) < 8 * steps(1_000)
