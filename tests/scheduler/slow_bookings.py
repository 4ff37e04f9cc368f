"""A Dag file of the tests: its task is stopped by Airflow while Popin takes its time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator
from tests.faults.people import lead_rows

# Each test has a Dag of its own: with an earlier run in sight, an empty ledger would be refused.
NAME_VARIABLE = "POPIN_TEST_DAG"
DAG_ID = os.environ.get(NAME_VARIABLE, "popin_slow_bookings")
TASK_ID = "sync_leads"
# Set, the source does not answer after so many rows.
HANGS_VARIABLE = "POPIN_TEST_SOURCE_HANGS_AFTER"
HANGS_SECONDS = 60.0
LEADS = 24
CONCURRENCY = 4


def leads(context: Mapping[str, Any]) -> Iterator[Mapping[str, object]]:
    """Rows that never pass through Airflow."""
    hangs_after = os.environ.get(HANGS_VARIABLE)
    yield from lead_rows(int(hangs_after or LEADS))
    if hangs_after:
        time.sleep(HANGS_SECONDS)


with DAG(DAG_ID, schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
    PopinLeadSyncOperator(task_id=TASK_ID, source="crm.leads", leads=leads, max_concurrency=CONCURRENCY)
