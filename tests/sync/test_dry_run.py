"""A dry run says what a run would do, and does nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_popin.client.client import PopinClient
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinAccessError, PopinInputError
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.report import Report
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.faults.people import lead_row, lead_rows
from tests.privacy import assert_no_personal_data
from tests.sync.ledgers import Database, add_lead, apply, dump, lead_in, planned

RUN = RunIdentity(dag_run="dag/run 9/task", try_number=1)
Lines = list[Mapping[str, object]]


@pytest.fixture
def config(sandbox: SandboxServer) -> ClientConfig:
    return ClientConfig(base_url=sandbox.url, seller_token=SELLER_TOKEN, api_key=API_KEY, account="shop")


def dry_run(
    rows: Iterable[Mapping[str, object]], config: ClientConfig, ledger: Ledger | None = None, **settings: Any
) -> tuple[Lines, Report]:
    lines: Lines = []

    def results(told: Iterable[Mapping[str, object]]) -> str:
        lines.extend(told)
        return "results.jsonl"

    chosen = SyncSettings(
        source="crm.leads", dry_run=True, max_concurrency=4, requests_per_second=0, **settings
    )
    sync = LeadSync(settings=chosen, config=config, ledger=ledger, run=RUN, results=results)
    return lines, sync.run(rows)


def ends(lines: Lines) -> dict[object, tuple[object, object]]:
    return {line["lead_id"]: (line["result"], line["reason"]) for line in lines}


class TestWithoutALedger:
    def test_every_row_is_planned_rejected_or_unassigned(
        self, config: ClientConfig, sandbox: SandboxServer
    ) -> None:
        with PopinClient(config) as client:
            times = [slot.time for slot in client.get_slots().slots[-2:]]
        sandbox.reset(slots=times)
        rows = [*lead_rows(3), lead_row(4, mobile="call me"), lead_row(1), lead_row(5, lead_id="")]
        lines, report = dry_run(rows, config)
        assert [line["result"] for line in lines] == [
            *("planned", "planned", "unassigned"),
            *("rejected", "skipped", "rejected"),
        ]
        assert [line.get("slot") for line in lines[:3]] == [*times, None]
        assert lines[2]["reason"] == "slots_full"
        assert lines[3]["reason"] == "phone_letters"
        assert report.results["planned"] == 2
        assert report.results_path == "results.jsonl"
        assert (report.dry_run, report.ledger_id, report.ledger_sequence) == (True, None, None)

    def test_no_post_is_sent(self, config: ClientConfig, sandbox: SandboxServer) -> None:
        dry_run(lead_rows(3), config)
        assert {request["endpoint"] for request in sandbox.requests()} == {"slots"}

    def test_nothing_personal_is_told(self, config: ClientConfig) -> None:
        rows = lead_rows(3)
        lines, report = dry_run(rows, config)
        assert_no_personal_data(repr(lines) + repr(report.to_xcom()), [*rows, API_KEY])

    def test_shared_phones_are_counted(self, config: ClientConfig) -> None:
        rows = [lead_row(1), lead_row(2, mobile=lead_row(1)["mobile"])]
        assert dry_run(rows, config)[1].shared_phones == 1

    def test_the_limit_is_kept(self, config: ClientConfig) -> None:
        lines, _ = dry_run(lead_rows(3), config, limit=2)
        assert [(line["result"], line["reason"]) for line in lines] == [
            ("planned", None),
            ("planned", None),
            ("pending", "limit"),
        ]

    def test_who_could_have_no_slot_does_not_count(self, config: ClientConfig) -> None:
        hopeless = lead_row(1, customer_id="C1", earliest="2199-01-01T10:00:00+05:30")
        rows = [hopeless, lead_row(2, customer_id="C2"), lead_row(3, customer_id="C3")]
        lines, _ = dry_run(rows, config, limit=1)
        assert ends(lines) == {
            "L001": ("unassigned", "no_slot_in_window"),
            "L002": ("planned", None),
            "L003": ("pending", "limit"),
        }

    def test_captures_alone_need_no_slot(self, config: ClientConfig, sandbox: SandboxServer) -> None:
        sandbox.reset(slots=[])
        rows = [lead_row(1, customer_id=None), lead_row(2, customer_id="C1")]
        lines, _ = dry_run(rows, config, steps=("capture",))
        assert [line["result"] for line in lines] == ["planned", "planned"]
        assert "slot" not in lines[0]

    def test_bookings_alone_wait_for_captures(self, config: ClientConfig) -> None:
        rows = [lead_row(1, customer_id=None), lead_row(2, customer_id="C1")]
        lines, _ = dry_run(rows, config, steps=("schedule",))
        assert ends(lines) == {"L001": ("pending", "not_captured"), "L002": ("planned", None)}

    def test_what_would_stop_a_run_stops_it(self, config: ClientConfig, sandbox: SandboxServer) -> None:
        with pytest.raises(PopinInputError):
            dry_run([{"name": "Ann Example"}], config)
        sandbox.set_faults("slots:401")
        with pytest.raises(PopinAccessError):
            dry_run(lead_rows(1), config)

    def test_no_ledger_is_created(
        self, config: ClientConfig, sqlite_database: Database, tmp_path: Path
    ) -> None:
        ledger = Ledger.find(sqlite_database.engine())
        assert ledger is None
        dry_run(lead_rows(2), config, ledger)
        assert not (tmp_path / "ledger.db").exists()

    def test_a_run_that_sends_needs_a_ledger(self, config: ClientConfig) -> None:
        with pytest.raises(LedgerError, match="needs a ledger"):
            LeadSync(settings=SyncSettings(source="crm"), config=config, ledger=None, run=RUN)


class TestWithALedger:
    def test_it_decides_as_a_run_would(
        self, ledger: Ledger, config: ClientConfig, sandbox: SandboxServer
    ) -> None:
        for number, state in enumerate(["booked", "in_doubt", "captured", "capture_rejected"], 1):
            lead_in(ledger, state, f"L{number:03}", seat=number)
        lines, report = dry_run(lead_rows(5), config, ledger)
        assert ends(lines) == {
            "L001": ("skipped", "already_booked"),
            "L002": ("in_doubt", "so"),
            "L003": ("planned", None),
            "L004": ("planned", None),
            "L005": ("planned", None),
        }
        assert report.results["planned"] == 3
        assert {request["endpoint"] for request in sandbox.requests()} == {"slots"}

    def test_nothing_is_written(self, ledger: Ledger, config: ClientConfig) -> None:
        lead_in(ledger, "captured", "L001")
        add_lead(ledger, "L002")
        before = dump(ledger)
        dry_run([*lead_rows(3), lead_row(4, mobile="call me")], config, ledger)
        assert dump(ledger) == before

    def test_not_a_byte_of_a_file_changes(
        self, sqlite_database: Database, config: ClientConfig, tmp_path: Path
    ) -> None:
        engine = sqlite_database.engine()
        lead_in(Ledger.open(engine), "captured", "L001")
        engine.dispose()
        before = (tmp_path / "ledger.db").read_bytes()
        found_in = sqlite_database.engine()
        dry_run(lead_rows(3), config, Ledger.find(found_in))
        found_in.dispose()
        assert (tmp_path / "ledger.db").read_bytes() == before

    def test_seats_that_are_taken_are_not_planned(
        self, ledger: Ledger, config: ClientConfig, sandbox: SandboxServer
    ) -> None:
        with PopinClient(config) as client:
            slot = client.get_slots().slots[-1]
        sandbox.reset(slots=[slot.time])
        key = lead_in(ledger, "captured", "other")
        assert apply(ledger, planned(key, slot=int(slot.start.timestamp()))) == [True]
        assert dry_run(lead_rows(1), config, ledger)[0][0]["result"] == "unassigned"
        assert dry_run(lead_rows(1), config, ledger, calls_per_slot=2)[0][0]["result"] == "planned"

    def test_a_resend_keeps_its_own_slot(
        self, ledger: Ledger, config: ClientConfig, sandbox: SandboxServer
    ) -> None:
        key = lead_in(ledger, "in_doubt", "L001")
        sandbox.reset(slots=[])
        (line,), _ = dry_run(lead_rows(1), config, ledger, on_in_doubt="resend")
        assert (line["result"], line["slot"]) == ("planned", "Sun, 17 Mar 2030 11:30 PM")
        with ledger.read() as connection:
            query = sa.select(schema.leads.c.booking_state).where(schema.leads.c.id == key)
            assert connection.execute(query).scalar_one() == "in_doubt"
