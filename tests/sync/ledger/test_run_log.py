"""The log of runs, and the ledger's sequence number."""

from __future__ import annotations

import json

import sqlalchemy as sa

from airflow_provider_popin.sync.ledger import run_log, schema
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.sync.ledgers import RUN, SOURCE


def test_every_run_moves_the_sequence_on_and_keeps_its_report(ledger: Ledger) -> None:
    with ledger.write() as connection:
        before = run_log.sequence(connection)
        row = run_log.start_run(connection, SOURCE, RUN, 2)
        assert run_log.sequence(connection) == before + 1
        run_log.end_run(connection, row, {"rows": 3})
        assert run_log.next_sequence(connection) == before + 2
    with ledger.read() as connection:
        (found,) = connection.execute(sa.select(schema.runs)).fetchall()
    assert (found.id, found.source, found.run, found.try_number) == (row, SOURCE, RUN, 2)
    assert json.loads(found.report) == {"rows": 3}
    assert found.ended_at >= found.started_at
