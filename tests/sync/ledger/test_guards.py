"""A ledger that was lost, restored or mixed up is refused, and the refusal says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync import admin
from airflow_provider_popin.sync.errors import LedgerGuardError
from airflow_provider_popin.sync.ledger import guards, run_log, schema
from airflow_provider_popin.sync.ledger.ledger import Ledger, clock
from airflow_provider_popin.sync.settings import Prior
from tests.sync.ledgers import ACCOUNT, RUN, SOURCE, Database

INIT = f"`python -m airflow_provider_popin ledger init --source {SOURCE}`"


def guard(
    ledger: Ledger,
    *,
    account: str = ACCOUNT,
    column: str | None = "Id",
    earlier_try: bool = False,
    reports: tuple[Mapping[str, object], ...] = (),
) -> None:
    with ledger.write() as connection:
        guards.guard_source(
            connection,
            ledger,
            account=account,
            source=SOURCE,
            lead_id_column=column,
            prior=Prior(earlier_try=earlier_try, reports=reports),
        )


def a_run(ledger: Ledger, column: str | None = "Id") -> dict[str, object]:
    """What a run does for the guards, and the part of its report that they read."""
    guard(ledger, column=column)
    with ledger.write() as connection:
        row = run_log.start_run(connection, SOURCE, RUN, 1)
        report = {
            "ledger_id": ledger.ledger_id,
            "ledger_sequence": run_log.next_sequence(connection),
            "ledger_time": clock(connection),
        }
        run_log.end_run(connection, row, report)
        return report


def registered(ledger: Ledger) -> list[tuple[object, ...]]:
    columns = schema.sources.c
    with ledger.read() as connection:
        rows = connection.execute(sa.select(columns.source, columns.account, columns.lead_id_column))
        return [tuple(row) for row in rows]


class TestRegistration:
    def test_the_first_run_registers_its_source(self, ledger: Ledger) -> None:
        guard(ledger)
        assert registered(ledger) == [(SOURCE, ACCOUNT, "Id")]

    def test_later_runs_find_it(self, ledger: Ledger) -> None:
        report = a_run(ledger)
        guard(ledger, earlier_try=True, reports=(report, a_run(ledger)))
        assert registered(ledger) == [(SOURCE, ACCOUNT, "Id")]

    def test_another_account_is_refused(self, ledger: Ledger) -> None:
        guard(ledger)
        with pytest.raises(LedgerGuardError, match="under the Popin account") as caught:
            guard(ledger, account="another shop")
        assert "Check the connection's host and login" in str(caught.value)
        assert "`account` on the connection" in str(caught.value)
        assert INIT in str(caught.value)

    def test_another_lead_id_column_is_refused(self, ledger: Ledger) -> None:
        guard(ledger)
        with pytest.raises(LedgerGuardError, match="from column 'Id'") as caught:
            guard(ledger, column="Email 1")
        assert "another source name" in str(caught.value)
        assert INIT in str(caught.value)

    def test_single_bookings_have_no_column_and_leave_it_open(self, ledger: Ledger) -> None:
        guard(ledger, column=None)
        assert registered(ledger) == [(SOURCE, ACCOUNT, None)]
        guard(ledger, column="Id")
        assert registered(ledger) == [(SOURCE, ACCOUNT, "Id")]
        guard(ledger, column=None)
        assert registered(ledger) == [(SOURCE, ACCOUNT, "Id")]

    def test_two_runs_that_begin_together_agree(self, ledger: Ledger, database: Database) -> None:
        ledgers = [ledger, Ledger.open(database.engine())]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(guard, ledgers))
        assert registered(ledger) == [(SOURCE, ACCOUNT, "Id")]

    def test_who_registers_second_under_another_account_is_refused(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The look finds nothing, then another run is faster."""
        looks = [None]
        look = guards._known
        monkeypatch.setattr(guards, "_known", lambda *told: looks.pop() if looks else look(*told))
        with ledger.write() as connection:
            guards.register(connection, account="another shop", source=SOURCE, lead_id_column="Id")
        with pytest.raises(LedgerGuardError, match="under the Popin account"):
            guard(ledger)
        assert registered(ledger) == [(SOURCE, "another shop", "Id")]


class TestLostLedger:
    def test_a_deleted_ledger_is_refused_where_an_earlier_try_is_known(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerGuardError, match="this task ran before") as caught:
            guard(ledger, earlier_try=True)
        assert "ledger_conn_id" in str(caught.value)
        assert INIT in str(caught.value)
        assert registered(ledger) == []

    def test_a_new_ledger_in_place_of_a_reported_one_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerGuardError, match="used another ledger") as caught:
            guard(ledger, reports=({"ledger_id": "lost", "ledger_sequence": 7, "ledger_time": 1.0},))
        assert INIT in str(caught.value)
        assert registered(ledger) == []

    def test_the_wrong_ledger_is_refused(self, ledger: Ledger) -> None:
        report = a_run(ledger)
        with pytest.raises(LedgerGuardError, match="used another ledger"):
            guard(ledger, earlier_try=True, reports=({**report, "ledger_id": "another"},))

    def test_a_restored_backup_is_refused(self, ledger: Ledger) -> None:
        guard(ledger)
        with ledger.write() as connection:
            backup = run_log.sequence(connection)
        report = a_run(ledger)
        with ledger.write() as connection:
            connection.execute(schema.ledger.update().values(sequence=backup))
        with pytest.raises(LedgerGuardError, match="looks like an old backup") as caught:
            guard(ledger, earlier_try=True, reports=(report,))
        assert INIT in str(caught.value)

    def test_the_newest_report_counts_wherever_it_stands(self, ledger: Ledger) -> None:
        first, second = a_run(ledger), a_run(ledger)
        with ledger.write() as connection:
            connection.execute(schema.ledger.update().values(sequence=first["ledger_sequence"]))
        for reports in ((first, second), (second, first)):
            with pytest.raises(LedgerGuardError, match="old backup"):
                guard(ledger, reports=reports)

    def test_a_restored_backup_that_runs_of_other_sources_moved_on_is_refused(self, ledger: Ledger) -> None:
        guard(ledger)
        report = a_run(ledger)
        with ledger.write() as connection:
            connection.execute(schema.runs.delete())
            connection.execute(schema.ledger.update().values(sequence=0))
        for _ in range(3):
            a_run(ledger)
        with pytest.raises(LedgerGuardError, match="used since"):
            guard(ledger, earlier_try=True, reports=(report,))

    def test_a_first_run_of_another_task_does_not_make_a_new_ledger_the_right_one(
        self, ledger: Ledger
    ) -> None:
        lost = {"ledger_id": "lost", "ledger_sequence": 7, "ledger_time": 1.0}
        a_run(ledger)  # of a task that is new and has no report to compare with
        with pytest.raises(LedgerGuardError, match="used another ledger"):
            guard(ledger, earlier_try=True, reports=(lost,))

    @pytest.mark.parametrize(
        "report",
        [
            {},
            {"ledger_id": None, "ledger_sequence": None, "ledger_time": None},  # of a dry run
            {"ledger_id": "x", "ledger_sequence": "7", "ledger_time": 1.0},
            {"ledger_id": "x", "ledger_sequence": 7, "ledger_time": "now"},
        ],
    )
    def test_what_is_no_report_of_ours_accuses_nobody(
        self, ledger: Ledger, report: Mapping[str, object]
    ) -> None:
        guard(ledger, reports=(report,))


class TestInit:
    def test_after_init_a_new_ledger_is_meant(self, ledger: Ledger) -> None:
        old = {"ledger_id": "lost", "ledger_sequence": 70, "ledger_time": 1.0}
        told = admin.init_source(ledger, account=ACCOUNT, source=SOURCE)
        assert told["ledger_id"] == ledger.ledger_id
        guard(ledger, earlier_try=True, reports=(old,))

    def test_after_init_a_restored_backup_is_meant(self, ledger: Ledger) -> None:
        report = a_run(ledger)
        with ledger.write() as connection:
            connection.execute(schema.ledger.update().values(sequence=0))
        admin.init_source(ledger, account=ACCOUNT, source=SOURCE, lead_id_column="Id")
        guard(ledger, earlier_try=True, reports=(report,))

    def test_a_run_after_init_accuses_again(self, ledger: Ledger) -> None:
        admin.init_source(ledger, account=ACCOUNT, source=SOURCE)
        report = a_run(ledger)
        with ledger.write() as connection:
            connection.execute(schema.ledger.update().values(sequence=0))
        with pytest.raises(LedgerGuardError, match="old backup"):
            guard(ledger, reports=(report,))

    def test_init_says_that_another_account_or_column_is_meant(self, ledger: Ledger) -> None:
        guard(ledger)
        admin.init_source(ledger, account="another shop", source=SOURCE, lead_id_column="Email 1")
        guard(ledger, account="another shop", column="Email 1")
        assert registered(ledger) == [(SOURCE, "another shop", "Email 1")]
