"""The CRM hears of every change, at least once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from airflow_provider_popin.sync.errors import WriteBackError
from airflow_provider_popin.sync.ledger import leases, ledger_queries
from airflow_provider_popin.sync.ledger.events import Corrected
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.report import Report
from airflow_provider_popin.sync.write_back import write_back_changes
from tests.sync.ledgers import (
    ACCOUNT,
    RUN,
    SOURCE,
    apply,
    booking_intent,
    lead_in,
    not_booked,
    planned,
    record,
    unassign,
)


class Crm:
    """Keeps what it is told; ``fails`` names leads that it refuses."""

    def __init__(self, *fails: str) -> None:
        self.fails = set(fails)
        self.told: list[Mapping[str, object]] = []
        self.batches: list[int] = []

    def write(self, batch: Sequence[Mapping[str, object]]) -> None:
        failed = {index for index, row in enumerate(batch) if row["lead_id"] in self.fails}
        self.batches.append(len(batch))
        self.told.extend(row for index, row in enumerate(batch) if index not in failed)
        if failed:
            raise WriteBackError("UPDATE failed: DataError", failed=failed)

    def states(self) -> list[tuple[object, object]]:
        return [(row["lead_id"], row["state"]) for row in self.told]


def write_back(ledger: Ledger, crm: Crm) -> Report:
    report = Report(source=SOURCE, dag_run=RUN, try_number=1, dry_run=False)
    write_back_changes(ledger, account=ACCOUNT, source=SOURCE, write_back=crm.write, report=report)
    return report


def test_a_stop_leaves_the_other_pages_to_the_next_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_queries, "CHUNK", 1)
    for number in range(3):
        lead_in(ledger, "capture_rejected", f"L{number}")
    crm = Crm()
    report = Report(source=SOURCE, dag_run=RUN, try_number=1, dry_run=False)
    write_back_changes(
        ledger,
        account=ACCOUNT,
        source=SOURCE,
        write_back=crm.write,
        report=report,
        is_over=lambda: len(crm.told) == 2,
    )
    assert report.written_back == 2
    assert write_back(ledger, crm).written_back == 1
    assert [lead for lead, _ in sorted((row["lead_id"], row["state"]) for row in crm.told)] == [
        "L0",
        "L1",
        "L2",
    ]


def test_what_is_told_of_a_booked_lead(ledger: Ledger) -> None:
    key, crm = lead_in(ledger, "booked"), Crm()
    report = write_back(ledger, crm)
    assert crm.told == [
        {
            "lead_id": "L1",
            "customer_id": f"C{key}",
            "join_url": f"https://live.example.com/{key}",
            "call_time": "2030-03-17T23:30:00+05:30",
            "state": "booked",
            "reason": None,
        }
    ]
    assert (report.written_back, report.write_back_failed) == (1, 0)


def test_why_a_lead_was_rejected_is_told(ledger: Ledger) -> None:
    lead_in(ledger, "rejected", "L1")
    lead_in(ledger, "capture_rejected", "L2")
    crm = Crm()
    write_back(ledger, crm)
    assert [(row["state"], row["reason"]) for row in crm.told] == [("rejected", "so")] * 2


def test_a_lead_that_was_corrected_and_not_sent_yet_is_pending(ledger: Ledger) -> None:
    key, crm = lead_in(ledger, "capture_rejected"), Crm()
    apply(ledger, Corrected(key))
    write_back(ledger, crm)
    assert [(row["state"], row["customer_id"], row["reason"]) for row in crm.told] == [
        ("pending", None, None)
    ]


def test_one_word_for_every_state(ledger: Ledger) -> None:
    states = ["new", "captured", "planned", "sending", "in_doubt", "booked", "rejected", "unassigned"]
    states += ["capture_sending", "capture_rejected", "capture_in_doubt"]
    for number, state in enumerate(states):
        lead_in(ledger, state, state, seat=number)
    crm = Crm()
    write_back(ledger, crm)
    assert crm.states() == [
        ("captured", "captured"),
        ("in_doubt", "in_doubt"),
        ("booked", "booked"),
        ("rejected", "rejected"),
        ("unassigned", "unassigned"),
        ("capture_rejected", "rejected"),
        ("capture_in_doubt", "in_doubt"),
    ]


def test_once_per_change(ledger: Ledger) -> None:
    key, crm = lead_in(ledger, "captured"), Crm()
    write_back(ledger, crm)
    write_back(ledger, crm)
    assert crm.states() == [("L1", "captured")]
    unassign(ledger, key)
    apply(ledger, planned(key))
    apply(ledger, booking_intent(key, timeout_seconds=-11))
    with ledger.write() as connection:
        leases.expire(connection, ledger, ACCOUNT)
    write_back(ledger, crm)
    apply(ledger, not_booked(key))
    write_back(ledger, crm)
    assert [state for _, state in crm.states()] == ["captured", "in_doubt", "captured"]


def test_what_failed_is_repeated_by_the_next_run(ledger: Ledger) -> None:
    for number in range(3):
        lead_in(ledger, "booked", f"L{number}", seat=number)
    crm = Crm("L1")
    report = write_back(ledger, crm)
    assert crm.states() == [("L0", "booked"), ("L2", "booked")]
    assert (report.written_back, report.write_back_failed) == (2, 1)
    assert report.leads == {"write_back": ["L1"]}
    crm.fails.clear()
    report = write_back(ledger, crm)
    assert crm.states()[2:] == [("L1", "booked")]
    assert report.write_back_failed == 0


def test_a_crash_before_the_note_repeats(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    lead_in(ledger, "booked")
    crm = Crm()
    with monkeypatch.context() as patch:
        patch.setattr(ledger_queries, "mark_written", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_back(ledger, crm)
    write_back(ledger, crm)
    assert crm.states() == [("L1", "booked")] * 2


def test_a_change_that_comes_while_it_is_written_is_told_next_time(ledger: Ledger) -> None:
    key = lead_in(ledger, "in_doubt")

    class SlowCrm(Crm):
        def write(self, batch: Sequence[Mapping[str, object]]) -> None:
            super().write(batch)
            if len(self.told) == 1:
                apply(ledger, not_booked(key))

    crm = SlowCrm()
    write_back(ledger, crm)
    assert record(ledger, key).written < record(ledger, key).change
    write_back(ledger, crm)
    assert [state for _, state in crm.states()] == ["in_doubt", "captured"]


def test_many_leads_go_in_batches(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_queries, "CHUNK", 2)
    for number in range(5):
        lead_in(ledger, "booked", f"L{number}", seat=number)
    crm = Crm()
    assert write_back(ledger, crm).written_back == 5
    assert crm.batches == [2, 2, 1]


def test_a_write_back_error_says_which_rows_failed() -> None:
    error = WriteBackError("no", failed=[3, 1, 3])
    assert error.failed == {1, 3}
    assert str(error) == "no"
