"""Where every row ended: the lines, the counts, and what needs a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_popin.sync.admission import ResultSet, Situation
from airflow_provider_popin.sync.ledger import ledger_queries, schema
from airflow_provider_popin.sync.ledger.events import Answer, Record, Settled, Step
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.report import NAMED_LEADS, Report, summary_line
from airflow_provider_popin.sync.results import call_time, write_results
from airflow_provider_popin.sync.settings import SyncSettings
from airflow_provider_popin.sync.spool import Spool, SpooledRow
from tests.sync.ledgers import ACCOUNT, OWNER, RUN, SLOT, SOURCE, TIME, apply, lead_in, settled

NOW = Situation(dag_run=RUN, books=True, resend=False, owner=OWNER, live_owners=frozenset())
ENDS = ["booked", "rejected", "unassigned", "in_doubt", "captured", "sending", "planned"]
ENDS += ["capture_rejected", "capture_in_doubt", "new"]


def a_report(**changes: Any) -> Report:
    return Report(**{"source": "crm", "dag_run": RUN, "try_number": 1, "dry_run": False, **changes})


class Lines:
    """Writes the results to memory, up to ``most`` lines."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.lines: list[Mapping[str, object]] = []

    def write(self, lines: Iterable[Mapping[str, object]]) -> str:
        for line in lines:
            if self.most is not None and len(self.lines) >= self.most:
                break
            self.lines.append(line)
        return "s3://results/1.jsonl"


def finish(
    rows: Iterable[SpooledRow],
    ledger: Ledger | None,
    *,
    situation: Situation = NOW,
    report: Report | None = None,
    most: int | None = None,
) -> tuple[list[Mapping[str, object]], Report]:
    report, lines = report or a_report(), Lines(most)
    with Spool() as spool:
        spool.add(rows)
        write_results(
            spool,
            ledger=ledger,
            situation=situation,
            report=report,
            writer=lines.write,
            unfinished_reason="stopped",
        )
    return lines.lines, report


def open_row(number: int, lead_id: str, key: int, **changes: Any) -> SpooledRow:
    return SpooledRow(number, lead_id, 1, key, None, None)._replace(**changes)


class TestLines:
    def test_exactly_one_line_for_every_row_in_read_order(self, ledger: Ledger) -> None:
        keys = [lead_in(ledger, state, state, seat=n) for n, state in enumerate(ENDS)]
        rows = [open_row(n, state, key) for n, (state, key) in enumerate(zip(ENDS, keys, strict=True), 1)]
        rows.append(SpooledRow(20, None, None, None, "rejected", "lead_id_missing"))
        rows.append(SpooledRow(21, "new", 1, None, "skipped", "duplicate_lead_id"))
        rows.append(SpooledRow(22, "late", 1, None, None, None))
        lines, report = finish(rows, ledger)
        assert [line["row"] for line in lines] == [*range(1, 11), 20, 21, 22]
        assert [(line["lead_id"], line["result"], line["reason"]) for line in lines] == [
            ("booked", "booked", None),
            ("rejected", "rejected", "so"),
            ("unassigned", "unassigned", "slots_full"),
            ("in_doubt", "in_doubt", "so"),
            ("captured", "pending", "stopped"),
            ("sending", "in_doubt", None),
            ("planned", "pending", "stopped"),
            ("capture_rejected", "rejected", "so"),
            ("capture_in_doubt", "in_doubt", "so"),
            ("new", "pending", "stopped"),
            (None, "rejected", "lead_id_missing"),
            ("new", "skipped", "duplicate_lead_id"),
            ("late", "pending", "stopped"),
        ]
        assert report.rows == 13
        assert sum(report.results.values()) == 13
        assert report.results_path == "s3://results/1.jsonl"

    def test_calls_have_their_time_in_the_seller_s_zone(self, ledger: Ledger) -> None:
        booked, doubted = lead_in(ledger, "booked"), lead_in(ledger, "in_doubt", "L2", seat=2)
        captured = lead_in(ledger, "captured", "L3")
        rows = [open_row(1, "L1", booked), open_row(2, "L2", doubted), open_row(3, "L3", captured)]
        lines, _ = finish(rows, ledger)
        for line in lines[:2]:
            assert (line["call_time"], line["slot"]) == ("2030-03-17T23:30:00+05:30", TIME)
        assert "call_time" not in lines[2]

    def test_a_line_holds_no_customer_and_no_link(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "booked")
        lines, _ = finish([open_row(1, "L1", key, phone=b"digest", phone_column="Phone 2")], ledger)
        assert lines == [
            {
                "row": 1,
                "lead_id": "L1",
                "generation": 1,
                "result": "booked",
                "reason": None,
                "phone_column": "Phone 2",
                "call_time": "2030-03-17T23:30:00+05:30",
                "slot": TIME,
            }
        ]

    def test_a_writer_that_gives_up_early_leaves_no_row_uncounted(self, ledger: Ledger) -> None:
        rows = [SpooledRow(n, f"L{n}", 1, None, "pending", "limit") for n in range(1, 1200)]
        lines, report = finish(rows, ledger, most=3)
        assert len(lines) == 3
        assert (report.rows, report.results["pending"]) == (1199, 1199)

    def test_nobody_needs_to_want_the_lines(self) -> None:
        report = a_report()
        with Spool() as spool:
            spool.add([SpooledRow(1, "L1", 1, None, "planned", None, slot=TIME)])
            write_results(
                spool, ledger=None, situation=NOW, report=report, writer=None, unfinished_reason=None
            )
        assert (report.results["planned"], report.results_path) == (1, None)

    def test_a_lead_without_a_slot_has_no_call_time(self) -> None:
        record = Record(1, "L1", 1)
        assert call_time(record) is None
        assert call_time(replace(record, slot_start=SLOT)) == "2030-03-17T18:00:00+00:00"


class TestCounts:
    def test_reasons_are_counted_by_code_without_popin_s_text(self) -> None:
        report = a_report()
        for reason in ("mobile: The number is *** ***", "mobile: Other", "x" * 300, None):
            report.count(ResultSet.REJECTED, reason)
        assert report.reasons == {"rejected": {"mobile": 2, "x" * 80: 1}}
        assert report.results["rejected"] == report.rows == 4

    def test_flags_are_counted_and_their_leads_named(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "sending")
        apply(ledger, replace(settled(key, Answer.SUCCESS), time_mismatch=True, incomplete=True))
        report = told(ledger)
        assert (report.time_mismatch, report.reply_incomplete, report.alarms) == (1, 1, 0)
        assert report.leads == {"time_mismatch": ["L1"]}

    def test_another_try_of_the_run_tells_it_again_and_another_run_does_not(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "sending")
        apply(ledger, replace(settled(key, Answer.SUCCESS), time_mismatch=True))
        assert told(ledger, owner="second try").time_mismatch == 1
        assert told(ledger, dag_run="next").time_mismatch == 0

    def test_an_alarm_is_told(self, ledger: Ledger) -> None:
        from tests.sync.ledgers import not_booked

        key = lead_in(ledger, "in_doubt")
        apply(ledger, not_booked(key))
        apply(ledger, settled(key, Answer.SUCCESS))
        report = told(ledger)
        assert (report.alarms, report.in_doubt_this_run) == (1, 1)
        assert report.leads == {"in_doubt": ["L1"], "alarm": ["L1"]}

    def test_an_alarm_is_told_by_whoever_made_the_doubt_too(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        with ledger.write() as connection:
            connection.execute(
                schema.leads.update().where(schema.leads.c.id == key).values(alarm=True, run="another run")
            )
        assert told(ledger).alarms == 1
        assert told(ledger, dag_run="next").alarms == 0

    def test_what_an_earlier_try_left_under_way_counts_as_in_doubt(self, ledger: Ledger) -> None:
        lead_in(ledger, "sending")
        assert told(ledger).in_doubt_this_run == 0
        report = told(ledger, owner="second try")
        assert (report.in_doubt_this_run, report.leads) == (1, {"in_doubt": ["L1"]})
        assert told(ledger, owner="somebody", dag_run="next").in_doubt_this_run == 0

    def test_at_most_ten_leads_are_named(self) -> None:
        report = a_report()
        for number in range(30):
            report.name_lead("rejected", f"L{number}")
        assert report.leads == {"rejected": [f"L{number}" for number in range(10)]}


def told(ledger: Ledger, *, dag_run: str = RUN, owner: str = OWNER) -> Report:
    """A report that took over what the ledger says of a Dag run."""
    report = a_report(dag_run=dag_run)
    with ledger.read() as connection:
        report.tell(ledger_queries.troubles(connection, ACCOUNT, SOURCE, dag_run, owner, NAMED_LEADS))
    return report


def problems(report: Report, **settings: Any) -> list[str]:
    return report.problems(SyncSettings(source="crm", **settings))


def counted(**counts: int) -> Report:
    report = a_report()
    for result, count in counts.items():
        for number in range(count):
            report.count(ResultSet(result), "phone_letters" if result == "rejected" else None)
            report.name_lead(result, f"{result}-{number}")
    return report


class TestProblems:
    def test_a_run_without_trouble_has_none(self) -> None:
        assert problems(counted(booked=30, rejected=7)) == []

    @pytest.mark.parametrize(
        ("counts", "ratio", "broken"),
        [
            ({"rejected": 19}, 0.2, False),  # a handful says nothing
            ({"rejected": 20}, 0.2, True),
            ({"rejected": 20}, 1.0, False),
            ({"rejected": 4, "booked": 16}, 0.2, False),
            ({"rejected": 5, "booked": 15}, 0.2, True),
            ({"rejected": 1, "booked": 19}, 0.0, True),
            ({"booked": 20}, 0.0, False),
            ({"rejected": 5, "planned": 15}, 0.2, True),
            ({"rejected": 5, "captured": 10, "unassigned": 5}, 0.2, True),
            # What was not attempted does not dilute.
            ({"rejected": 5, "booked": 14, "skipped": 500, "pending": 500}, 0.2, False),
            ({"rejected": 6, "booked": 14, "skipped": 500, "pending": 500}, 0.2, True),
        ],
    )
    def test_too_many_rejected(self, counts: dict[str, int], ratio: float, broken: bool) -> None:
        found = problems(counted(**counts), max_rejected_ratio=ratio)
        assert bool(found) == broken

    def test_the_rejected_are_named_with_their_reasons(self) -> None:
        (problem,) = problems(counted(rejected=25))
        assert "25 of 25 rows were rejected, more than max_rejected_ratio=0.2 allows" in problem
        assert "phone_letters 25" in problem
        assert "leads: rejected-0, rejected-1," in problem
        assert "rejected-9" in problem
        assert "rejected-10" not in problem
        assert problem.endswith("what changes is tried again by the next run")

    @pytest.mark.parametrize(("doubts", "most", "broken"), [(0, 0, False), (1, 0, True), (2, 2, False)])
    def test_too_many_in_doubt(self, doubts: int, most: int, broken: bool) -> None:
        report = a_report(in_doubt_this_run=doubts, in_doubt_open=99, leads={"in_doubt": ["L1"]})
        found = problems(report, max_in_doubt=most)
        assert bool(found) == broken
        for problem in found:
            assert "leads: L1" in problem
            assert "in-doubt resolve --source crm --lead LEAD_ID --outcome booked|not-booked" in problem

    def test_other_times_alarms_and_failed_write_back(self) -> None:
        leads = {"time_mismatch": ["L1"], "alarm": ["L2"], "write_back": ["L3"]}
        report = a_report(time_mismatch=1, alarms=1, write_back_failed=2, leads=leads)
        told = problems(report)
        assert ["L1" in told[0], "L2" in told[1], "L3" in told[2]] == [True] * 3
        assert "another time" in told[0]
        assert "may have two calls" in told[1]
        assert "the next run writes them again" in told[2]


class TestReport:
    def test_it_is_json_with_every_set(self) -> None:
        import json

        told = counted(booked=1, rejected=1).to_xcom()
        assert json.loads(json.dumps(told)) == told
        assert told["results"] == {**{str(name): 0 for name in ResultSet}, "booked": 1, "rejected": 1}

    def test_one_line_for_the_log(self) -> None:
        report = counted(booked=2, skipped=1)
        report.seconds = 1.25
        assert summary_line(report) == "3 rows from crm: booked 2, skipped 1 (1.2 s)"
        assert summary_line(a_report()) == "0 rows from crm: no rows (0.0 s)"


def test_a_record_that_was_deleted_meanwhile_is_pending(ledger: Ledger) -> None:
    lines, _ = finish([open_row(1, "L1", 4711)], ledger)
    assert lines[0]["result"] == "pending"


def test_capture_only_ends_captured(ledger: Ledger) -> None:
    key = lead_in(ledger, "captured")
    with ledger.read() as connection:
        assert ledger_queries.unfinished(connection, ACCOUNT, "crm.leads", 0)
    lines, _ = finish([open_row(1, "L1", key)], ledger, situation=replace(NOW, books=False))
    assert lines[0]["result"] == "captured"
    event = Settled(key, Step.CAPTURE, 1, Answer.SUCCESS, RUN, customer_id="C2")
    assert apply(ledger, event) == [True]
