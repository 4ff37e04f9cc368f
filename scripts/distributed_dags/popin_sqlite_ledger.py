"""A ledger that each worker would have for itself: the task must refuse it and send nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

with DAG("popin_sqlite_ledger", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
    PopinLeadSyncOperator(
        task_id="sync_leads",
        source="one.lead",
        leads=[{"lead_id": "only", "name": "Nobody", "mobile": "+12015550100"}],
        ledger_conn_id="sqlite_ledger",
    )
